"""Which rows of an import the log has already."""

from __future__ import annotations

from collections.abc import Sequence

from service.store.log import Log
from service.store.statements import statements

_SQL = statements("imports.sql")


async def booked(log: Log, keys: Sequence[tuple[int, bytes]]) -> dict[bytes, bytes]:
    """Return the first line of each command that the log has, by key; keys are named with their partitions.

    Raises Unavailable.
    """
    async with log.connection() as connection:
        rows = await connection.fetch(_SQL["booked"], [partition for partition, _ in keys], [key for _, key in keys])
    return {row["key"]: row["line"] for row in rows}
