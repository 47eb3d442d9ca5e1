"""Holding things up, so that a law about "meanwhile" can be tested without a sleep.

A partition's head is locked from outside, as a slow writer would; appends wait in the database until it is let go. A tap
on the log does something in the very step in which an answer of the database arrives.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from service.store.log import Log
from tests.servers import eventually

LOCK_HEAD = "SELECT position FROM ledger.heads WHERE partition = $1 FOR UPDATE"
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%ledger.append(%'
"""


class Held:
    """A head that is locked; `appends_wait` returns when that many appends wait for it."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    async def appends_wait(self, number: int = 1) -> None:
        """Returns when that many appends wait."""

        async def waiting() -> bool:
            await self._connection.execute("SELECT pg_stat_clear_snapshot()")
            return await self._connection.fetchval(WAITING) >= number

        await eventually(waiting, f"{number} appends wait for the head")


@asynccontextmanager
async def held_head(url: str, partition: int) -> AsyncGenerator[Held]:
    """Lets every append to the partition wait until the end of the block."""
    connection = await asyncpg.connect(url, command_timeout=60)
    try:
        async with connection.transaction():
            await connection.fetchval(LOCK_HEAD, partition)
            yield Held(connection)
    finally:
        await connection.close()


def once_after(log: Log, method: str, then: Callable[[], object]) -> None:
    """Does something once: right when the next call of a method of the log ends, before its caller goes on."""
    original = getattr(log, method)

    async def tapped(*arguments: Any) -> Any:
        setattr(log, method, original)
        try:
            return await original(*arguments)
        finally:
            then()

    setattr(log, method, tapped)
