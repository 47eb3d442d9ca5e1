"""Gathered reads: while one query for snapshots runs, those who ask next wait together for the next one.

There is no timer. A lone read goes at once; a crowd shares a query, so the database sees few of them however many ask.
"""

from __future__ import annotations

import asyncio
from itertools import chain

from events.account import Account
from service.outages import Overloaded
from service.snapshots import decode_account
from service.store.log import Log

ACCOUNTS_PER_QUERY_MAX = 500
WAITING_MAX = 20_000
QUERIES_MAX = 2


class Snapshots:
    """Reads snapshots of accounts, many at a time."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: dict[tuple[int, str], list[asyncio.Future[bytes | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_work = 0
        """How many tasks will still look for who waits; one that ended is in `_tasks` for another moment."""

    async def read(self, partition: int, account: str) -> Account | None:
        """Return an account's snapshot as of now, or None when there is no such account; raises Outage."""
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} reads are waiting")
        turn: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((partition, account), []).append(turn)
        if self._at_work < QUERIES_MAX:
            self._at_work += 1
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        state = await turn
        return None if state is None else decode_account(state)

    async def _run(self) -> None:
        try:
            await self._answer_all()
        finally:
            self._at_work -= 1

    async def _answer_all(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[:ACCOUNTS_PER_QUERY_MAX]
            readers = [self._waiting.pop(key) for key in keys]
            try:
                found = await self._log.snapshots(keys)
            except Exception as error:  # noqa: BLE001 - whatever it is, the readers get an answer
                for turn in chain.from_iterable(readers):
                    if not turn.done():
                        turn.set_exception(error)
                        turn.exception()  # a reader that goes away in this moment leaves nobody to take it
                continue
            for (_, account), turns in zip(keys, readers, strict=True):
                for turn in turns:
                    if not turn.done():  # its reader may have gone away
                        turn.set_result(found.get(account))
