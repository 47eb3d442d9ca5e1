"""What an audit reads that belongs to no partition: catalogs, and rows where none belong."""

from __future__ import annotations

from typing import NamedTuple

from service.store.log import Log
from service.store.statements import statements

_SQL = statements("beside.sql")


class StoredCatalogRow(NamedTuple):
    """A catalog as it is stored; `activated` is the hash with which it came into force, None when it never did."""

    version: str
    hash: str
    source: str
    activated: str | None


async def stored_catalogs(log: Log) -> list[StoredCatalogRow]:
    """Return every catalog; raises Unavailable."""
    async with log.connection() as connection:
        return [StoredCatalogRow(*row) for row in await connection.fetch(_SQL["catalogs"])]


async def rows_elsewhere(log: Log, partitions: int) -> list[tuple[str, int]]:
    """Return tables that have rows of partitions beyond so many, each with one of these; raises Unavailable."""
    async with log.connection() as connection:
        return [(row["name"], row["partition"]) for row in await connection.fetch(_SQL["elsewhere"], partitions)]
