"""Shops, their products and their runs in a SQLite file.

A product waits when its revision is newer than the one the store has. A run is a list of waiting products; it is written
down before it is paid for and deleted when it has ended, so one that was interrupted goes on with the same hold.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

SCHEMA = """
CREATE TABLE IF NOT EXISTS shops (
    shop TEXT PRIMARY KEY, auto INTEGER NOT NULL DEFAULT 0, paused TEXT, run TEXT
);
CREATE TABLE IF NOT EXISTS products (
    shop TEXT NOT NULL, sku TEXT NOT NULL, revision INTEGER NOT NULL DEFAULT 1, synced INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0, error TEXT, try_at REAL NOT NULL DEFAULT 0, PRIMARY KEY (shop, sku)
);
"""
PRODUCTS_MAX = 500
PAUSE_SECONDS = 30.0
PAUSE_SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Run:
    """Products that are synchronised and paid for together: each with the revision that is sent."""

    id: str
    shop: str
    products: Sequence[tuple[str, int]]


class Store:
    """The file."""

    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def change(self, shop: str, skus: Sequence[str]) -> None:
        """Write down that products are new or were changed; what failed before is tried again at once."""
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.execute("INSERT INTO shops (shop) VALUES (?) ON CONFLICT DO NOTHING", (shop,))
            self._file.executemany(
                "INSERT INTO products (shop, sku) VALUES (?, ?) ON CONFLICT DO UPDATE"
                " SET revision = revision + 1, failures = 0, error = NULL, try_at = 0",
                [(shop, sku) for sku in skus],
            )

    def set_auto(self, shop: str, *, auto: bool) -> None:
        """Switch a shop's auto-sync on or off."""
        self._file.execute(
            "INSERT INTO shops (shop, auto) VALUES (?, ?) ON CONFLICT DO UPDATE SET auto = excluded.auto", (shop, auto)
        )

    def status(self, shop: str) -> dict[str, object]:
        """Return how a shop stands."""
        row = self._file.execute("SELECT auto, paused, run FROM shops WHERE shop = ?", (shop,)).fetchone()
        auto, paused, run = row or (0, None, None)
        synced, waiting = self._file.execute(
            "SELECT count(*) FILTER (WHERE synced = revision), count(*) FILTER (WHERE synced < revision)"
            " FROM products WHERE shop = ?",
            (shop,),
        ).fetchone()
        failed = self._file.execute(
            "SELECT sku, failures, error FROM products WHERE shop = ? AND failures > 0 ORDER BY sku LIMIT 100", (shop,)
        ).fetchall()
        failures = [{"sku": sku, "failures": count, "error": error} for sku, count, error in failed]
        about = {"shop": shop, "auto": bool(auto), "running": run is not None, "paused": paused}
        return {**about, "synced": synced, "waiting": waiting, "failed": failures}

    def begin(self, shop: str, *, failed_too: bool = False) -> Run | None:
        """Return a shop's run: the one that was interrupted, or one of what waits, perhaps with what failed just now."""
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            row = self._file.execute("SELECT run FROM shops WHERE shop = ?", (shop,)).fetchone()
            if row is None:
                return None
            if row[0] is not None:
                told = json.loads(row[0])
                return Run(told["id"], shop, [(sku, revision) for sku, revision in told["products"]])
            products = self._file.execute(
                "SELECT sku, revision FROM products WHERE shop = ? AND synced < revision AND (? OR try_at <= ?)"
                " ORDER BY sku LIMIT ?",
                (shop, failed_too, time.time(), PRODUCTS_MAX),
            ).fetchall()
            if not products:
                return None
            run = Run(uuid4().hex, shop, products)
            kept = json.dumps({"id": run.id, "products": products})
            self._file.execute("UPDATE shops SET run = ? WHERE shop = ?", (kept, shop))
            return run

    def synced(self, shop: str, sku: str, revision: int) -> None:
        """Write down that the store has a revision of a product."""
        self._file.execute(
            "UPDATE products SET synced = max(synced, ?), failures = 0, error = NULL WHERE shop = ? AND sku = ?",
            (revision, shop, sku),
        )

    def failed(self, shop: str, sku: str, error: str) -> None:
        """Write down that a product failed; it is tried again after a pause that doubles."""
        self._file.execute(
            "UPDATE products SET failures = failures + 1, error = ?, try_at = ? + min(? * (1 << min(failures, 20)), ?)"
            " WHERE shop = ? AND sku = ?",
            (error, time.time(), PAUSE_SECONDS, PAUSE_SECONDS_MAX, shop, sku),
        )

    def is_synced(self, shop: str, sku: str, revision: int) -> bool:
        """Say whether the store has this revision of a product or a newer one."""
        row = self._file.execute("SELECT synced FROM products WHERE shop = ? AND sku = ?", (shop, sku)).fetchone()
        return row is not None and row[0] >= revision

    def end(self, run: Run) -> None:
        """Write down that a run has ended."""
        self._file.execute("UPDATE shops SET run = NULL, paused = NULL WHERE shop = ?", (run.shop,))

    def pause(self, run: Run, reason: str) -> None:
        """Write down that a run was not begun, and that the shop waits for credits or room."""
        self._file.execute("UPDATE shops SET run = NULL, paused = ? WHERE shop = ?", (reason, run.shop))

    def resume(self, shop: str | None = None) -> bool:
        """Let a shop, or every shop, try again; whether one was paused."""
        return (
            self._file.execute(
                "UPDATE shops SET paused = NULL WHERE paused IS NOT NULL AND shop = coalesce(?, shop)", (shop,)
            ).rowcount
            > 0
        )

    def to_sync(self) -> list[str]:
        """Return the shops with an interrupted run, or with auto-sync and something to do."""
        rows = self._file.execute(
            "SELECT shop FROM shops WHERE run IS NOT NULL OR (auto AND paused IS NULL AND EXISTS (SELECT 1 FROM products"
            " WHERE products.shop = shops.shop AND synced < revision AND try_at <= ?)) ORDER BY shop",
            (time.time(),),
        )
        return [row[0] for row in rows]
