"""Reads of the projections: pages of history, work by the hour, movements of credits, the list of accounts.

A read of several statements is one transaction with one snapshot, so that it never sees a batch in one table and not in
the other, nor half of a switch to another generation.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from events.instants import Instant, moment
from events.recorded import Event, decode
from projections.finance import Movements, Origin, Origins
from projections.usage import Key, Sources, Work
from service.store.log import Log, StoredLine
from service.store.projected import ACCOUNTS, FINANCE, HISTORY, USAGE, Batch, origins, sources
from service.store.statements import statements

_SQL = statements("projecting.sql")
_VIEWS = statements("views.sql")
BEHIND_ALL = 2**62

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class Section(NamedTuple):
    """A part of an account's lines: between two positions, both excluded, and of some instants, `to` excluded."""

    partition: int
    account: str
    after: int = 0
    before: int = BEHIND_ALL
    from_: Instant | None = None
    to: Instant | None = None


class Listed(NamedTuple):
    """A row of the list of accounts."""

    account: str
    opened_at: str


class Views:
    """The projections as queries see them; everything raises Unavailable in an outage."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def reached(self, name: str, partition: int) -> int:
        """Return the position until which a projection has seen a partition; 0 when nothing has begun it."""
        async with self._log.connection() as connection:
            return await connection.fetchval(_SQL["position"], name, partition) or 0

    async def history(
        self, section: Section, terms: Sequence[str] | None, *, newest_first: bool, limit: int
    ) -> list[tuple[int, StoredLine]]:
        """Return up to `limit` lines of a section in their order: all that have one of the terms, and some others."""
        times = (_moment(section.from_), _moment(section.to))
        bounds = (section.partition, section.account, section.after, section.before)
        async with self._log.connection() as connection:
            if terms is None:
                rows = await connection.fetch(
                    HISTORY["plain_desc" if newest_first else "plain_asc"], *bounds, *times, limit
                )
            else:
                statement = HISTORY["page_desc" if newest_first else "page_asc"]
                rows = await connection.fetch(statement, *bounds, terms, *times, limit)
        return [(row["position"], StoredLine(row["line"], row["hash"].hex())) for row in rows]

    async def accounts(
        self,
        *,
        plan: str | None,
        prefix: str | None,
        prefixes: Sequence[str] | None,
        beyond: Listed | None,
        newest_first: bool,
        limit: int,
    ) -> list[Listed]:
        """Return a page of the list of accounts."""
        at, account = (None, None) if beyond is None else (beyond.opened_at, beyond.account)
        statement = ACCOUNTS["page_desc" if newest_first else "page_asc"]
        async with self._log.connection() as connection:
            rows = await connection.fetch(statement, limit, at, account, plan, prefix, prefixes)
        return [Listed(row["account"], row["opened_at"]) for row in rows]

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[Snapshot]:
        """Lend a view of one instant."""
        async with (
            self._log.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield Snapshot(connection)


class Snapshot:
    """The projections and the log at one instant."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def fetch(self, statement: str, *values: object) -> Sequence[Any]:
        """Return the rows of a statement, for those who read a projection of their own."""
        return await self._connection.fetch(statement, *values)

    async def checkpoints(self, name: str) -> dict[int, int]:
        """Return how far a projection is in each partition."""
        rows = await self._connection.fetch(_VIEWS["checkpoints"], name)
        return {row["partition"]: row["position"] for row in rows}

    async def work_of(self, partition: int, account: str, first: str, last: str) -> dict[Key, Work]:
        """Return the work of an account in the hours from `first` until `last`, which is excluded."""
        return _work(account, await self._connection.fetch(USAGE["of_account"], partition, account, first, last))

    async def work_of_all(self, first: str, last: str, prefixes: Sequence[str] | None) -> dict[Key, Work]:
        """Return the work of all accounts, or of those with one of the prefixes."""
        if prefixes is None:
            return _work("", await self._connection.fetch(USAGE["of_all"], first, last))
        return _work("", await self._connection.fetch(USAGE["of_prefixes"], first, last, prefixes))

    async def moved_before(self, unit: str, hour: str, at: str) -> dict[Origin, Movements]:
        """Return what moved in whole hours before `hour`, and of late facts what holds before `at`."""
        rows = await self._connection.fetch(FINANCE["before"], unit, hour, at)
        return {
            Origin(row["kind"], row["basis"]): Movements(
                *(int(row[name]) for name in ("granted", "consumed", "refunded", "expired", "revoked", "unfunded"))
            )
            for row in rows
        }

    async def recorded(self, partition: int, from_: Instant, to: Instant, *, until: int, limit: int) -> list[Event]:
        """Return a partition's events that were recorded from one instant to another, until a position."""
        rows = await self._connection.fetch(_VIEWS["recorded"], partition, moment(from_), moment(to), until, limit)
        return [decode(row["line"]) for row in rows]

    async def recorded_of(self, section: Section, limit: int) -> list[Event]:
        """Return the events of a section of an account, oldest first."""
        rows = await self._connection.fetch(
            HISTORY["plain_asc"],
            *(section.partition, section.account, section.after, section.before),
            *(_moment(section.from_), _moment(section.to), limit),
        )
        return [decode(row["line"]) for row in rows]

    async def sources(self, partition: int, events: Sequence[Event]) -> Sources:
        """Return the consumptions that refunds among the events are about."""
        return await sources(self._connection, [(partition, events)])

    async def origins(self, partition: int, events: Sequence[Event]) -> Origins:
        """Return the origin of the grants that events speak of."""
        generation = await self._connection.fetchval(_VIEWS["generation"], "finance")
        return (await origins(self._connection, [Batch(partition, generation, events)]))[0]


def _moment(at: Instant | None) -> datetime | None:
    return None if at is None else moment(at)


def _work(account: str, rows: Sequence[Any]) -> dict[Key, Work]:
    """Return rows of work, those of several partitions together."""
    found: dict[Key, Work] = {}
    for row in rows:
        if row["hour"] is not None:
            key = Key(account, row["hour"], row["unit"], row["operation"], row["actor"])
            work = Work(*(int(row[name]) for name in ("count", "used", "charged", "unfunded", "refunded")))
            found[key] = found.get(key, Work()).plus(work)
    return found
