"""Appending: batches of several partitions share a statement, a transaction and a commit.

What waits while a statement is under way goes with the next one, as the commands of a partition wait for its next batch:
so under load the cost of a statement, a round trip and a sync to the disk is shared by all partitions. Such a statement
writes all of its batches or none; when one of them cannot be written, each is sent alone. The batches stand in the order
of their partitions, so that two processes never wait for each other's heads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from events.instants import Instant, moment
from service.outages import ClockSkew
from service.store.batches import AccountRow, Appended, Batch, EventRow, ItemRow, KnownItems, KnownKeys, Stale, Written
from service.store.statements import statements

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

_APPEND = statements("log.sql")["append"]

STATEMENTS_AT_ONCE = 2
BATCHES_MAX = 16
"""In one statement; a batch's number is a byte."""
NO_KEY = bytes(16)

Waiting = tuple[Batch, asyncio.Future[Appended]]


class Appender:
    """Appends batches as they come."""

    def __init__(self, lend: Callable[[], AbstractAsyncContextManager[Connection]]) -> None:
        self._lend = lend
        self._waiting: list[Waiting] = []
        self._senders: set[asyncio.Task[None]] = set()

    def append(self, batch: Batch) -> asyncio.Future[Appended]:
        """Append a batch if the head is the one it expects; the future raises Unavailable (outcome open) and ClockSkew."""
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._waiting.append((batch, future))
        if len(self._senders) < STATEMENTS_AT_ONCE:
            self._senders.add(asyncio.create_task(self._send()))
        return future

    async def _send(self) -> None:
        """Send until nothing waits. It leaves in the same breath: who comes after that must find its place free."""
        try:
            while self._waiting:
                taken = self._take()
                if len(taken) == 1 or not await self._append(taken):
                    for each in taken:
                        await self._append([each])
        finally:
            self._senders.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _take(self) -> list[Waiting]:
        """Take what waits, at most one batch of each partition, in the order of the partitions."""
        taken: dict[int, Waiting] = {}
        left: list[Waiting] = []
        for entry in self._waiting:
            partition = entry[0].partition
            if partition in taken or len(taken) == BATCHES_MAX:
                left.append(entry)
            else:
                taken[partition] = entry
        self._waiting = left
        return [taken[partition] for partition in sorted(taken)]

    async def _append(self, taken: Sequence[Waiting]) -> bool:
        """Append some batches and tell their writers; returns False when each has to be appended alone."""
        try:
            async with self._lend() as connection:
                row = await connection.fetchrow(_APPEND, *_arguments([batch for batch, _ in taken]))
            assert row is not None  # noqa: S101 - a function call returns one row
            if row["outcome"] == "separately":
                return False
            keys = frozenset[bytes](row["keys"] or ())
            for batch, future in taken:
                of_batch = keys if len(taken) == 1 else keys.intersection(batch.absent_keys)
                if not future.done():
                    future.set_result(_result(row["outcome"], of_batch))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait hear it
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
        return True


def _result(outcome: str, keys: frozenset[bytes]) -> Appended:
    match outcome:
        case "written":
            return Written(keys)
        case "known_keys":
            return KnownKeys(keys)
        case "known_items":
            return KnownItems()
        case "clock_skew":
            raise ClockSkew("this machine's clock is more than 5 s ahead of the database's")
        case _:
            return Stale()


def nothing() -> tuple[object, ...]:
    """Return the parameters of `ledger.append` for no batch at all."""
    return _arguments([])


def _arguments(batches: Sequence[Batch]) -> tuple[object, ...]:
    """Return the parameters of `ledger.append` in their order."""
    counts = [len(batch.events) for batch in batches]
    return (
        [batch.partition for batch in batches],
        [batch.head.position for batch in batches],
        bytes.fromhex("".join([batch.head.hash for batch in batches])),
        [moment(batch.recorded_at) for batch in batches],
        list(accumulate(counts[:-1], initial=0)),
        counts,
        *_event_columns(batches),
        *_account_columns(batches),
        *_item_columns(batches),
        [key for batch in batches for key in batch.absent_keys],
    )


def _numbers(counts: Sequence[int]) -> bytes:
    """Return the number of its batch, from 1, for each row."""
    return b"".join([bytes((number,)) * count for number, count in enumerate(counts, start=1)])


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _texts(texts: Iterable[str]) -> str:
    return "\n".join(texts)


def _figures(figures: Iterable[int]) -> str:
    return ",".join(map(str, figures))


def _dues(dues: Iterable[Instant | None]) -> str:
    return ",".join([due or "" for due in dues])


def _any_texts(texts: Sequence[str]) -> tuple[str, str]:
    """Return texts that may have line feeds, and what separates them."""
    whole = "\n".join(texts)
    if whole.count("\n") < max(1, len(texts)):
        return whole, "\n"
    separator = uuid4().hex  # in none of them: nobody can know it
    return separator.join(texts), separator


def _packed(pieces: Sequence[bytes]) -> tuple[bytes, str]:
    """Return pieces behind each other, and where each ends, as `ledger.piece` cuts them again."""
    return b"".join(pieces), _figures(accumulate(map(len, pieces), initial=0))


def _event_columns(batches: Sequence[Batch]) -> tuple[object, ...]:
    rows: list[EventRow] = [row for batch in batches for row in batch.events]
    accounts, types, kinds, keys, lines, hashes = _columns(rows, 6)
    type_of = dict(zip(kinds, types, strict=True))
    number = {kind: n for n, kind in enumerate(type_of, start=1)}
    return (
        _numbers([len(batch.events) for batch in batches]),
        *(_texts(accounts), bytes([number[kind] for kind in kinds]), list(type_of.values()), list(type_of)),
        *(b"".join([key or NO_KEY for key in keys]), b"".join(hashes), *_packed(lines)),
    )


def _account_columns(batches: Sequence[Batch]) -> tuple[object, ...]:
    rows: list[AccountRow] = [row for batch in batches for row in batch.accounts]
    ids, positions, states, dues = _columns(rows, 4)
    batch_of = _numbers([len(batch.accounts) for batch in batches])
    return batch_of, _texts(ids), _figures(positions), _dues(dues), *_packed(states)


def _item_columns(batches: Sequence[Batch]) -> tuple[object, ...]:
    created: list[ItemRow] = []
    changed: list[ItemRow] = []
    created_of: list[int] = []
    changed_of: list[int] = []
    for batch in batches:
        new = [row for row in batch.items if row.created]
        old = [row for row in batch.items if not row.created]
        created += new
        changed += old
        created_of.append(len(new))
        changed_of.append(len(old))
    accounts, kinds, ids, dues, states, _ = _columns([*created, *changed], 6)
    number = {kind: n for n, kind in enumerate(dict.fromkeys(kinds), start=1)}
    return (
        *(len(created), _numbers(created_of) + _numbers(changed_of), _texts(accounts)),
        *(bytes([number[kind] for kind in kinds]), list(number), *_any_texts(ids), _dues(dues), *_packed(states)),
    )
