"""What publishing asks of the database: the lease of the one publisher, and the log behind given places (migration 0030)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from events.instants import Instant, instant
from service.store.log import Log
from service.store.statements import statements

_SQL = statements("publishing.sql")


class Lease(NamedTuple):
    """A lease that was granted: its epoch, and how far the stream that was created at `stream` was published."""

    epoch: int
    stream: str
    positions: tuple[int, ...]


class PublishedLine(NamedTuple):
    """A line of the log with what its message says of it."""

    partition: int
    position: int
    account: str
    type: str
    kind: str
    recorded_at: Instant
    line: bytes
    hash: str

    @property
    def id(self) -> str:
        """The event's id."""
        return f"{self.partition}-{self.position}"


class Outbox:
    """The log as the publisher reads it; every method raises Unavailable when the database is away."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def lease(
        self,
        holder: str,
        seconds: float,
        *,
        by_force: bool = False,
        stream: str | None = None,
        positions: list[int] | None = None,
    ) -> Lease | None:
        """Take or renew the lease and keep how far the stream reaches; returns None when another one holds it."""
        async with self._log.connection() as connection:
            row = await connection.fetchrow(_SQL["lease"], holder, seconds, by_force, stream, positions)
        if row is None or not row["held"]:
            return None
        return Lease(row["held_epoch"], row["kept_stream"], tuple(row["kept_positions"]))

    async def leave(self, holder: str) -> None:
        """Give the lease up."""
        async with self._log.connection() as connection:
            await connection.execute(_SQL["leave"], holder)

    async def heads(self) -> dict[int, int]:
        """Return the position at which each partition ends."""
        async with self._log.connection() as connection:
            return {row["partition"]: row["position"] for row in await connection.fetch(_SQL["heads"])}

    async def behind(self, places: Mapping[int, int], limit_each: int) -> list[PublishedLine]:
        """Return the next lines behind a position of each partition, by partition and position."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["behind"], list(places), list(places.values()), limit_each)
        return [
            PublishedLine(
                row["partition"],
                row["position"],
                row["account"],
                row["type"],
                row["kind"],
                instant(row["recorded_at"]),
                row["line"],
                row["hash"].hex(),
            )
            for row in rows
        ]

    async def hashes(self, places: Mapping[int, int]) -> dict[int, str]:
        """Return the hashes (hex) of the lines at a position of each partition, as far as the log has them."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["hashes"], list(places), list(places.values()))
        return {row["partition"]: row["hash"].hex() for row in rows}

    async def oldest(self, places: Mapping[int, int]) -> Instant | None:
        """Return when the first line behind these places was recorded; None when there is none."""
        async with self._log.connection() as connection:
            found = await connection.fetchval(_SQL["oldest"], list(places), list(places.values()))
        return None if found is None else instant(found)
