"""Synchronising: a run is held for all its products, and pays for those that reached the store.

The run's id is the key of its hold. So a run that was interrupted goes on with the hold that it has, never pays twice,
and one that was paid for is only ended. Shops without credits are paused; the ledger's stream of events tells when there
are some again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Protocol

from credit_ledger_client import Hold, Ledger, LedgerError, Refused, ReservationFinalized, Unavailable
from examples.store_sync.store import Run, Store

ROUND_SECONDS = 2.0
_BRINGS_CREDITS = frozenset({"granted", "refunded", "plan_changed"})

_log = logging.getLogger(__name__)


class StoreFailed(Exception):
    """The store did not take a product."""


class Shopfront(Protocol):
    """The store that products are sent to; sending the same revision twice is harmless."""

    async def put(self, shop: str, sku: str, revision: int) -> None:
        """Send a product; raises StoreFailed."""
        ...


class Syncing:
    """Synchronises shops: when somebody asks, and by itself."""

    def __init__(self, ledger: Ledger, store: Store, shopfront: Shopfront) -> None:
        self.store = store
        self._ledger = ledger
        self._shopfront = shopfront
        self._busy: dict[str, asyncio.Lock] = {}
        self._news = asyncio.Event()

    async def sync(self, shop: str, *, failed_too: bool = False) -> None:
        """Synchronise what waits in a shop, and pay for it; raises LedgerError, and then nothing was sent."""
        async with self._busy.setdefault(shop, asyncio.Lock()):
            if (run := self.store.begin(shop, failed_too=failed_too)) is None:
                return
            try:
                async with self._ledger.hold(
                    shop, "store_sync", len(run.products), key=run.id, reference=run.id
                ) as hold:
                    await self._send(run, hold)
            except ReservationFinalized:
                _log.info("run %s was paid for before it was interrupted", run.id)
            except Unavailable:
                raise  # whether it was paid for is not known: the run stays, and goes on with its hold
            except Refused as refusal:
                self.store.pause(run, refusal.detail)
                raise
            self.store.end(run)

    async def _send(self, run: Run, hold: Hold) -> None:
        """Send each product that the store does not have yet, and have the hold pay for those that it has then."""
        count = 0
        for sku, revision in run.products:
            try:
                if not self.store.is_synced(run.shop, sku, revision):
                    await self._shopfront.put(run.shop, sku, revision)
                    self.store.synced(run.shop, sku, revision)
                count += 1
            except StoreFailed as error:
                self.store.failed(run.shop, sku, str(error))
        if count:
            hold.quantity = count
        else:
            await hold.release(reason="the store took nothing")

    async def run(self) -> None:
        """Go on with interrupted runs and synchronise shops with auto-sync, until cancelled."""
        while True:
            self._news.clear()
            for shop in self.store.to_sync():
                try:
                    await self.sync(shop)
                except LedgerError as error:
                    _log.info("%s is synchronised later: %s", shop, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._news.wait()

    def changed(self) -> None:
        """Look at once whether there is something to do."""
        self._news.set()

    async def follow(self) -> None:
        """Let paused shops go on when the ledger tells that credits came, until cancelled.

        What came while nobody followed does not matter: then every shop may try again.
        """
        while True:
            self.store.resume()
            try:
                async with self._ledger.events(begin="new") as events:
                    async for event in events:
                        if event.type in _BRINGS_CREDITS and self.store.resume(event.account):
                            self.changed()
            except LedgerError as error:
                _log.warning("the events cannot be followed now: %s", error)
                await asyncio.sleep(ROUND_SECONDS)
