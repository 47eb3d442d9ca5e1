"""The shelf: accounts and items as their stored bytes, in memory up to a number, the rest in a temporary file.

Each key has one value. Whether an item is open is noted beside it, so that those that still hold or occupy something
are found without reading all of them.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from events.account import Account, Item, Key
from events.holds import Hold
from service.snapshots import decode_account, decode_item, encode_account, encode_item

SHELF_ITEMS_MAX = 60_000
"""Each takes about half a KiB."""
_CACHE_KIB = 2_048

Place = tuple[str, str, str]
"""An account, and the kind and the id of its item."""


class Budget:
    """How many items some shelves have in memory together; where it ends, the fullest one goes into its file."""

    def __init__(self, items_max: int = SHELF_ITEMS_MAX) -> None:
        self.items_max = items_max
        self.used = 0
        self._shelves: list[Shelf] = []

    def join(self, shelf: Shelf) -> None:
        """Let a shelf take part."""
        self._shelves.append(shelf)

    def take(self) -> None:
        """Count one more item."""
        self.used += 1
        while self.used > self.items_max:
            self.used -= max(self._shelves, key=lambda shelf: shelf.in_memory).spill()


class Shelf:
    """Keeps bytes by their keys; `close` removes the file."""

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget or Budget()
        self._budget.join(self)
        self._items: dict[Place, bytes] = {}
        self._open: set[Place] = set()
        self._accounts: dict[str, bytes] = {}
        self._file: _File | None = None

    def close(self) -> None:
        """Forget everything."""
        self._budget.used -= self.in_memory
        self._items, self._open, self._accounts = {}, set(), {}
        if self._file is not None:
            self._file.close()
            self._file = None

    def put(self, account: str, key: Key, item: Item) -> None:
        """Keep an item."""
        items, place = self._items, (account, key[0], key[1])
        if type(item) is Hold and (item.state == "open" or item.held):
            self._open.add(place)
        elif self._open:
            self._open.discard(place)
        before = len(items)
        items[place] = encode_item(item)
        if len(items) != before:
            self._budget.take()

    def put_account(self, account: Account) -> None:
        """Keep an account."""
        is_new = account.id not in self._accounts
        self._accounts[account.id] = encode_account(account)
        if is_new:
            self._budget.take()

    def account(self, account: str) -> Account | None:
        """Return an account, or None when it is not here."""
        stored = self._accounts.get(account)
        if stored is None and self._file is not None:
            stored = self._file.account(account)
        return None if stored is None else decode_account(stored)

    def stored(self, place: Place) -> bytes | None:
        """Return an item as its bytes, or None when it is not here."""
        stored = self._items.get(place)
        return self._file.item(place) if stored is None and self._file is not None else stored

    def item(self, place: Place) -> Item | None:
        """Return an item, or None when it is not here."""
        stored = self.stored(place)
        return None if stored is None else decode_item(stored)

    def is_open(self, place: Place) -> bool:
        """Say whether an item is a hold that still holds or occupies something."""
        return place in self._open

    def accounts(self) -> Iterator[Account]:
        """Yield every account."""
        if self._file is not None:
            self._gather()
            yield from self._file.accounts()
        else:
            yield from map(decode_account, self._accounts.values())

    def items(self) -> Iterator[tuple[str, Item]]:
        """Yield every item with its account."""
        if self._file is not None:
            self._gather()
            yield from self._file.items()
        else:
            for (account, _, _), stored in self._items.items():
                yield account, decode_item(stored)

    def open_holds(self) -> Iterator[tuple[str, Hold]]:
        """Yield every hold that still holds or occupies something, with its account."""
        for place in self._open:
            item = self.item(place)
            if isinstance(item, Hold):
                yield place[0], item

    def count(self) -> int:
        """Return how many items there are."""
        if self._file is None:
            return len(self._items)
        self._gather()
        return self._file.count()

    @property
    def in_memory(self) -> int:
        """How many accounts and items are in memory."""
        return len(self._items) + len(self._accounts)

    def spill(self) -> int:
        """Put what is in memory into the file; returns how much it was."""
        if self._file is None:
            self._file = _File()
        spilt = self.in_memory
        self._file.put(self._accounts, self._items)
        self._accounts, self._items = {}, {}
        return spilt

    def _gather(self) -> None:
        """Bring everything into the file."""
        self._budget.used -= self.spill()


class _File:
    """A temporary SQLite database without any promise of durability: a hash table that need not fit into memory."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ledger-audit-")
        self._sqlite = sqlite3.connect(Path(self._folder.name) / "states", isolation_level=None)
        for pragma in ("journal_mode = off", "synchronous = off", f"cache_size = -{_CACHE_KIB}", "temp_store = memory"):
            self._sqlite.execute(f"pragma {pragma}")
        self._sqlite.execute("create table account (id text primary key, state blob) without rowid")
        self._sqlite.execute(
            "create table item (account text, kind text, id text, state blob, primary key (account, kind, id)) without rowid"
        )
        self._sqlite.execute("begin")

    def close(self) -> None:
        self._sqlite.close()
        self._folder.cleanup()

    def put(self, accounts: dict[str, bytes], items: dict[Place, bytes]) -> None:
        self._sqlite.executemany("insert or replace into account values (?, ?)", accounts.items())
        self._sqlite.executemany(
            "insert or replace into item values (?, ?, ?, ?)",
            ((*place, stored) for place, stored in sorted(items.items())),
        )

    def account(self, account: str) -> bytes | None:
        row = self._sqlite.execute("select state from account where id = ?", (account,)).fetchone()
        return None if row is None else row[0]

    def item(self, place: Place) -> bytes | None:
        row = self._sqlite.execute("select state from item where account = ? and kind = ? and id = ?", place).fetchone()
        return None if row is None else row[0]

    def count(self) -> int:
        return self._sqlite.execute("select count(*) from item").fetchone()[0]

    def accounts(self) -> Iterator[Account]:
        for row in self._sqlite.execute("select state from account"):
            yield decode_account(row[0])

    def items(self) -> Iterator[tuple[str, Item]]:
        for account, state in self._sqlite.execute("select account, state from item"):
            yield cast("str", account), decode_item(state)
