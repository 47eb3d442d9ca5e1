"""What tests need of real servers: throwaway ones, a fresh database for each test, and waiting without sleeping.

The cluster is as durable as the one that `credit-ledger up` runs, for the laws about crashes are tested on it. It is
thrown away as a whole at the end, so no test drops what it made. A database cloned from a migrated template takes about
20 ms, which is why each test can have its own.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

PARTITIONS = 16
TEMPLATE = "template_of_tests"
EVENTUALLY_SECONDS_MAX = 60.0
"""Ends a hang, and says nothing about speed: so do all deadlines of tests, on a machine that others use as well."""

_numbers = itertools.count(1)


@contextmanager
def throwaway_directory() -> Generator[Path]:
    """A directory that is deleted at the end; pytest's own would keep the clusters of the last three sessions."""
    directory = Path(tempfile.mkdtemp(prefix="ledger-"))
    try:
        # Open to be passed through: PostgreSQL runs as another user when the tests run as root.
        directory.chmod(0o711)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def database_at(server_url: str, database: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{database}"))


async def execute(url: str, statement: str) -> None:
    """Runs one statement on a connection of its own."""
    connection = await asyncpg.connect(url, command_timeout=60)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def value(url: str, query: str) -> object:
    """The first column of the first row, on a connection of its own."""
    connection = await asyncpg.connect(url, command_timeout=60)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def create_database(server_url: str, name: str, template: str = "template0") -> str:
    """Makes a database, as a copy of another one that nobody is connected to; its URL."""
    await execute(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return database_at(server_url, name)


async def clone_template(server_url: str) -> str:
    """A fresh copy of the migrated template; its URL."""
    return await create_database(server_url, f"test_{next(_numbers)}", TEMPLATE)


async def eventually(
    holds: Callable[[], bool | Awaitable[bool]], what: str, seconds_max: float = EVENTUALLY_SECONDS_MAX
) -> None:
    """Waits until the condition holds, looking again and again; fails with `what` after 60 seconds unless told.

    For conditions that nothing announces; wait on an event, a future or a process where there is one.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds_max
    while clock() < deadline:
        outcome = holds()
        if outcome if isinstance(outcome, bool) else await outcome:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds_max:.0f} s: {what}")
