"""Catalogs in the database: stored by version, and the history of which one was in force (migration 0002)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from events.instants import Instant, instant
from service.store.log import Log
from service.store.statements import statements

_SQL = statements("catalogs.sql")

Activated = Literal["activated", "in_force", "known", "changed"]
"""What an activation led to; see ledger.activate_catalog."""


class StoredCatalog(NamedTuple):
    """A catalog as it was written, TOML, with the hash of its content in hex."""

    version: str
    hash: str
    source: str


class Activation(NamedTuple):
    """A catalog came into force; `number` counts from 1 without a gap."""

    number: int
    version: str
    hash: str
    activated_at: Instant
    by: str


class StoredCatalogs:
    """The catalogs of the ledger's database; every method raises Unavailable."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def activate(self, catalog: StoredCatalog, *, by: str, again: bool) -> Activated:
        """Store a catalog and bring it into force; one that was in force before only comes back `again`."""
        async with self._log.connection() as connection:
            row = await connection.fetchrow(_SQL["activate"], *catalog, by, again)
        assert row is not None  # noqa: S101 - a function call returns one row
        return row["outcome"]

    async def newest(self) -> int | None:
        """Return the number of the newest activation, None when no catalog was ever in force."""
        async with self._log.connection() as connection:
            return await connection.fetchval(_SQL["newest"])

    async def in_force(self) -> tuple[Activation, StoredCatalog] | None:
        """Return the catalog in force and how it came to be, None when there is none."""
        async with self._log.connection() as connection:
            row = await connection.fetchrow(_SQL["in_force"])
        if row is None:
            return None
        activation = Activation(row["number"], row["version"], row["hash"], instant(row["activated_at"]), row["by"])
        return activation, StoredCatalog(row["version"], row["hash"], row["source"])

    async def past(self, limit: int) -> list[tuple[Instant, StoredCatalog]]:
        """Return the last catalogs that came into force with the instant of each, newest first."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["past"], limit)
        return [
            (instant(row["activated_at"]), StoredCatalog(row["version"], row["hash"], row["source"])) for row in rows
        ]

    async def stored(self, version: str) -> StoredCatalog | None:
        """Return a catalog by its version, None when it was never stored."""
        async with self._log.connection() as connection:
            row = await connection.fetchrow(_SQL["stored"], version)
        return None if row is None else StoredCatalog(row["version"], row["hash"], row["source"])

    async def history(self, limit: int) -> list[Activation]:
        """Return the last activations, newest first."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["history"], limit)
        return [
            Activation(row["number"], row["version"], row["hash"], instant(row["activated_at"]), row["by"])
            for row in rows
        ]
