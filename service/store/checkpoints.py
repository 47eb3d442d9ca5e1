"""Checkpoints in the database, and the hashes that Merkle trees are made of (migration 0010)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from events.instants import Instant, moment
from service.store.log import Log
from service.store.statements import statements

_SQL = statements("checkpoints.sql")


class StoredNote(NamedTuple):
    """A signed checkpoint, and its number, from 1."""

    number: int
    note: str


class KeptNote(NamedTuple):
    """A checkpoint with the columns beside it, and the database's own time when it was read."""

    number: int
    note: str
    made_at: datetime
    now: datetime


class Subtree(NamedTuple):
    """The root of a whole subtree of 2^`level` lines, the first of which is line `number` x 2^`level`, from 0."""

    partition: int
    level: int
    number: int
    root: bytes


class StoredCheckpoints:
    """The checkpoints of the ledger's database; every method raises Unavailable."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def latest(self) -> StoredNote | None:
        """Return the newest checkpoint, None when there is none."""
        async with self._log.connection() as connection:
            row = await connection.fetchrow(_SQL["latest"])
        return None if row is None else StoredNote(row["number"], row["note"])

    async def note(self, number: int) -> str | None:
        """Return a checkpoint, None when there is none of this number, or it was not kept."""
        async with self._log.connection() as connection:
            return await connection.fetchval(_SQL["note"], number)

    async def after(self, number: int, limit: int) -> list[StoredNote]:
        """Return the next checkpoints behind a number, as far as they were kept."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["after"], number, limit)
        return [StoredNote(row["number"], row["note"]) for row in rows]

    async def kept(self, number: int, limit: int) -> list[KeptNote]:
        """Return the next checkpoints behind a number, as far as they were kept, with all that stands beside them."""
        async with self._log.connection() as connection:
            return [KeptNote(*row) for row in await connection.fetch(_SQL["kept"], number, limit)]

    async def add(self, stored: StoredNote, made_at: Instant, subtrees: Sequence[Subtree]) -> bool:
        """Add the next checkpoint with the subtrees that became whole; False when another process was faster."""
        columns = list(zip(*subtrees, strict=True)) if subtrees else [(), (), (), ()]
        async with self._log.connection() as connection:
            return bool(await connection.fetchval(_SQL["add"], stored.number, stored.note, moment(made_at), *columns))

    async def thin(self, limit: int) -> int:
        """Delete up to so many checkpoints that need not be kept (migration 0060); returns how many."""
        async with self._log.connection() as connection:
            return await connection.fetchval(_SQL["thin"], limit)

    async def leaves(self, partition: int, begin: int, end: int) -> list[bytes]:
        """Return the leaf hashes of the lines from index `begin` (from 0) to `end`, which is not part of it."""
        async with self._log.connection() as connection:
            return [row["leaf"] for row in await connection.fetch(_SQL["leaves"], partition, begin, end)]

    async def leaves_of(self, partition: int, ranges: Sequence[tuple[int, int]]) -> dict[int, bytes]:
        """Return the leaf hashes of the lines of several ranges, by their indexes."""
        begins, ends = [begin for begin, _ in ranges], [end for _, end in ranges]
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["leaves_of"], partition, begins, ends)
        return {row["index"]: row["leaf"] for row in rows}

    async def subtrees(self, partition: int, level: int, begin: int, end: int) -> list[bytes]:
        """Return the stored roots of subtrees of a level, by their numbers."""
        async with self._log.connection() as connection:
            return [row["root"] for row in await connection.fetch(_SQL["subtrees"], partition, level, begin, end)]

    async def subtrees_of(self, partition: int, level: int, numbers: Sequence[int]) -> dict[int, bytes]:
        """Return those of the named subtrees that are stored, by their numbers."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["subtrees_of"], partition, level, numbers)
        return {row["number"]: row["root"] for row in rows}
