"""Fixtures for the laws of the writer: ledgers on a test's own database, closed at its end."""

from collections.abc import AsyncGenerator, Callable

import pytest

from events.catalog import Catalog
from events.instants import Instant
from service.ledger import Ledger, system_clock
from service.store.log import Log
from tests.writer.asking import CATALOG, OpenLedger


@pytest.fixture
async def open_ledger(database_url: str) -> AsyncGenerator[OpenLedger]:
    """Opens a ledger, by default on the test's database; each has connections and a memory of its own."""
    opened: list[Ledger] = []

    async def open_one(
        url: str | None = None,
        *,
        clock: Callable[[], Instant] = system_clock,
        connections: int = 4,
        catalog: Catalog = CATALOG,
    ) -> Ledger:
        log = await Log.connect(url or database_url, connections=connections)
        ledger = await Ledger.open(log, catalog, clock=clock)
        opened.append(ledger)
        return ledger

    yield open_one
    for ledger in opened:
        await ledger.drain()
        await ledger.log.close()


@pytest.fixture
async def ledger(open_ledger: OpenLedger) -> Ledger:
    """A ledger on the test's database."""
    return await open_ledger()
