"""What restoring a dump asks of the database that it goes into."""

from __future__ import annotations

import asyncpg

from service.store.statements import statements

_SQL = statements("restoring.sql")


async def prepare(database_url: str) -> bool:
    """Make the role that a dump needs; returns False, and does nothing, when the database has a ledger."""
    connection = await asyncpg.connect(database_url, timeout=10, command_timeout=60)
    try:
        if not await connection.fetchval(_SQL["is_empty"]):
            return False
        await connection.execute(_SQL["create_role"])
        return True
    finally:
        await connection.close(timeout=5)
