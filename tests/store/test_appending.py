"""The appender sends what waits, whenever it comes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg

from service.store.appending import STATEMENTS_AT_ONCE, Appender
from service.store.batches import Written
from service.store.log import Log
from tests.store.batches import after, batch

WRITTEN = Written(frozenset())


async def test_what_comes_in_the_moment_in_which_all_statements_end_is_sent(log: Log) -> None:
    ended = 0
    together = asyncio.Event()

    @asynccontextmanager
    async def lend() -> "AsyncGenerator[asyncpg.Connection[asyncpg.Record]]":
        nonlocal ended
        async with log._appending() as connection:
            yield connection
        ended += 1
        if ended == STATEMENTS_AT_ONCE:
            asyncio.get_running_loop().call_soon(together.set)
        await together.wait()

    appender = Appender(lend)

    async def append(partition: int, *, twice: bool) -> None:
        first = batch(partition=partition)
        assert await appender.append(first) == WRITTEN
        if twice:
            assert await appender.append(batch(after(first), partition=partition)) == WRITTEN

    async with asyncio.timeout(60):
        rows: list[asyncio.Task[None]] = []
        for partition in range(STATEMENTS_AT_ONCE):
            rows.append(asyncio.create_task(append(partition, twice=partition == 0)))
            for _ in range(2):  # so that each is taken by a statement of its own
                await asyncio.sleep(0)
        await asyncio.gather(*rows)
