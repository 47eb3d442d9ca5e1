"""Migrations: the files of `migrations/`, applied in order, once, each in its own transaction.

Each file's checksum is kept with it, so a file that was changed after it was applied is noticed. The number of
partitions is part of the ledger's identity: it is fixed by the first migration, and another number is refused.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from events.recorded import GENESIS
from service.store.log import Log
from service.store.statements import statements

_SQL = statements("migrate.sql")


LOCK_SECONDS_MAX = 30


class MigrationError(Exception):
    """The database cannot be brought to this release's schema; the message says why and what to do."""


class Migration(NamedTuple):
    """One file of `migrations/`."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hex."""
        return sha256(self.sql.encode()).hexdigest()


def available() -> list[Migration]:
    """Return the migrations of this release, in order."""
    folder = files("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [Migration(name, folder.joinpath(name).read_text(encoding="utf-8")) for name in names]


async def compare(log: Log) -> tuple[list[str], list[str]]:
    """Return this release's migrations that the database has not, and the database's that this release does not know.

    Raises Unavailable.
    """
    async with log.connection() as connection:
        known = {row["name"] for row in await connection.fetch(_SQL["applied"])}
    ours = {migration.name for migration in available()}
    return sorted(ours - known), sorted(known - ours)


async def migrate(database_url: str, partitions: int = 16) -> list[str]:
    """Bring the database to this release's schema and return the names of the migrations that were applied.

    Raises MigrationError when an applied file was changed, the database is newer than this release, the ledger was
    created with another number of partitions, or something holds a lock that is needed.
    """
    connection = await asyncpg.connect(database_url, timeout=10, command_timeout=300)
    try:
        async with connection.transaction():
            await connection.execute(_SQL["be_patient"], f"{LOCK_SECONDS_MAX}s")
            await connection.execute(_SQL["lock"])
            await connection.execute(_SQL["prepare"])
            applied = await _apply(connection)
            await _identify(connection, partitions)
        return applied
    except asyncpg.LockNotAvailableError as error:
        raise MigrationError(
            f"something else held a lock that the migration needs for {LOCK_SECONDS_MAX} s: wait for the other migration, "
            "or end the transaction that holds a table of the ledger, then run it again; nothing was changed"
        ) from error
    finally:
        await connection.close(timeout=5)


async def _apply(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    known = {row["name"]: row["checksum"] for row in await connection.fetch(_SQL["applied"])}
    ours = available()
    newer = sorted(set(known) - {migration.name for migration in ours})
    if newer:
        raise MigrationError(
            f"the database has migrations that this release does not know ({', '.join(newer)}); upgrade"
        )
    applied: list[str] = []
    for migration in ours:
        if migration.name not in known:
            await connection.execute(migration.sql)
            await connection.execute(_SQL["record"], migration.name, migration.checksum)
            applied.append(migration.name)
        elif known[migration.name] != migration.checksum:
            raise MigrationError(f"{migration.name} was changed after it was applied; restore it and add a new file")
    return applied


async def _identify(connection: asyncpg.Connection[asyncpg.Record], partitions: int) -> None:
    existing = await connection.fetchval(_SQL["partitions"])
    if existing is None:
        await connection.execute(_SQL["create_identity"], partitions)
        await connection.execute(_SQL["create_heads"], partitions, bytes.fromhex(GENESIS))
    elif existing != partitions:
        raise MigrationError(
            f"this ledger was created with {existing} partitions, which never changes; set LEDGER_PARTITIONS={existing}"
        )
