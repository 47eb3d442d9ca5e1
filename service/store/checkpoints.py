"""Checkpoints in the database, and the hashes that Merkle trees are made of (migration 0010)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from events.instants import Instant, moment
from service.store.log import Log
from service.store.statements import statements

_SQL = statements("checkpoints.sql")


class StoredNote(NamedTuple):
    """A signed checkpoint, and its number, from 1."""

    number: int
    note: str


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

    async def add(self, stored: StoredNote, made_at: Instant, subtrees: Sequence[Subtree]) -> bool:
        """Add the next checkpoint with the subtrees that became whole; False when another process was faster."""
        columns = list(zip(*subtrees, strict=True)) if subtrees else [(), (), (), ()]
        async with self._log.connection() as connection:
            return bool(await connection.fetchval(_SQL["add"], stored.number, stored.note, moment(made_at), *columns))

    async def leaves(self, partition: int, begin: int, end: int) -> list[bytes]:
        """Return the leaf hashes of the lines from index `begin` (from 0) to `end`, which is not part of it."""
        async with self._log.connection() as connection:
            return [row["leaf"] for row in await connection.fetch(_SQL["leaves"], partition, begin, end)]

    async def subtrees(self, partition: int, level: int, begin: int, end: int) -> list[bytes]:
        """Return the stored roots of subtrees of a level, by their numbers."""
        async with self._log.connection() as connection:
            return [row["root"] for row in await connection.fetch(_SQL["subtrees"], partition, level, begin, end)]
