"""What an auditor reads of a partition: its lines, and all that is kept beside them, as of one instant.

A reader holds one read-only transaction for the partition, so what is written meanwhile neither tears what it sees nor
waits for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from events.instants import Instant, instant, moment
from service.store.log import Head, Log
from service.store.statements import statements

if TYPE_CHECKING:
    from service.store.auditing_projections import ProjectedView
    from service.store.log import Connection

_SQL = statements("auditing.sql")

LINES_PER_PAGE = 1_000
ROWS_PER_PAGE = 2_000


class LineRow(asyncpg.Record):
    """A line with the columns beside it: position, account, type, kind, recorded_at, key, line, hash.

    There are so many that nothing else is made of them.
    """


class AccountRow(NamedTuple):
    """A stored account."""

    account: str
    position: int
    next_due_at: Instant | None
    state: bytes


class ItemRow(asyncpg.Record):
    """A stored hold, consumption or ended grant: account, kind, id, due_at, state."""


class PartitionView:
    """A partition as of one instant."""

    def __init__(self, connection: Connection, partition: int) -> None:
        self._connection = connection
        self._partition = partition

    @property
    def projected(self) -> ProjectedView:
        """The projections of the partition as of the same instant."""
        from service.store.auditing_projections import ProjectedView  # noqa: PLC0415 - imports what few auditors need

        return ProjectedView(self._connection, self._partition)

    async def is_projected(self) -> bool:
        """Say whether the ledger has projections."""
        return bool(await self._connection.fetchval(_SQL["is_projected"]))

    async def account_lines(self, account: str) -> AsyncIterator[bytes]:
        """Yield the lines of one account."""
        after = 0
        while rows := await self._connection.fetch(
            _SQL["account_lines"], self._partition, account, after, LINES_PER_PAGE
        ):
            for row in rows:
                yield row["line"]
            after = rows[-1]["position"]

    async def head(self) -> Head | None:
        """Return where the partition says that it ends, or None when it says nothing."""
        row = await self._connection.fetchrow(_SQL["head"], self._partition)
        return None if row is None else Head(row["position"], row["hash"].hex(), instant(row["recorded_at"]))

    async def lines(self, after: int = 0) -> AsyncIterator[list[LineRow]]:
        """Yield the lines behind a position, in pages."""
        while True:
            rows = await self._connection.fetch(
                _SQL["lines"], self._partition, after, LINES_PER_PAGE, record_class=LineRow
            )
            if rows:
                yield rows
                after = rows[-1]["position"]
            if len(rows) < LINES_PER_PAGE:
                return

    async def position_at(self, at: Instant) -> int:
        """Return the position of the last line that was recorded before an instant, 0 when there is none."""
        return int(await self._connection.fetchval(_SQL["position_at"], self._partition, moment(at)))

    async def accounts(self) -> AsyncIterator[list[AccountRow]]:
        """Yield the stored accounts, in pages."""
        after = ""
        while True:
            rows = await self._connection.fetch(_SQL["accounts"], self._partition, after, ROWS_PER_PAGE)
            if rows:
                yield [
                    AccountRow(row["account"], row["position"], _instant(row["next_due_at"]), row["state"])
                    for row in rows
                ]
                after = rows[-1]["account"]
            if len(rows) < ROWS_PER_PAGE:
                return

    async def items(self) -> AsyncIterator[list[ItemRow]]:
        """Yield the stored items, in pages."""
        after = ("", "", "")
        while True:
            rows = await self._connection.fetch(
                _SQL["items"], self._partition, *after, ROWS_PER_PAGE, record_class=ItemRow
            )
            if rows:
                yield rows
                after = (rows[-1]["account"], rows[-1]["kind"], rows[-1]["id"])
            if len(rows) < ROWS_PER_PAGE:
                return

    async def has_account(self, account: str) -> bool:
        """Say whether an account is stored."""
        return bool(await self._connection.fetchval(_SQL["has_account"], self._partition, account))

    async def has_item(self, account: str, kind: str, item_id: str) -> bool:
        """Say whether an item is stored."""
        return bool(await self._connection.fetchval(_SQL["has_item"], self._partition, account, kind, item_id))


def _instant(at: datetime | None) -> Instant | None:
    return None if at is None else instant(at)


@asynccontextmanager
async def view_of(log: Log, partition: int) -> AsyncGenerator[PartitionView]:
    """Lend a view of a partition; raises Unavailable."""
    async with log.connection() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        yield PartitionView(connection, partition)


async def next_lines(log: Log, partition: int, after: int, limit: int) -> list[LineRow]:
    """Return the next lines behind a position, outside of any view; raises Unavailable."""
    async with log.connection() as connection:
        return await connection.fetch(_SQL["lines"], partition, after, limit, record_class=LineRow)


async def event_line(log: Log, partition: int, position: int) -> tuple[bytes, str] | None:
    """Return the line at a position and its hash in hex, or None when there is none."""
    async with log.connection() as connection:
        row = await connection.fetchrow(_SQL["event"], partition, position)
    return None if row is None else (row["line"], row["hash"].hex())
