"""Fixtures for all tests: one embedded PostgreSQL and one NATS for the session, one migrated database for each test.

A test that asks for none of them starts no server.
"""

import os
import signal
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from service.embedded import EmbeddedNats, EmbeddedPostgres
from tests.servers import PARTITIONS, TEMPLATE, clone_template, create_database, throwaway_directory

# No deadline: how long an example takes says something about the machine's load, and nothing about a law.
settings.register_profile("ledger", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ledger")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url() -> AsyncGenerator[str]:
    """The session's PostgreSQL: the URL of its database `credit_ledger`, which is empty, as superuser."""
    with throwaway_directory() as data:
        server = EmbeddedPostgres(data)
        yield await server.start()
        if server.pid is not None:
            os.kill(server.pid, signal.SIGQUIT)  # at once: a checkpoint of hundreds of databases takes a minute
        await server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_url() -> AsyncGenerator[str]:
    """The session's NATS with JetStream; tests keep apart by the names of their streams and subjects."""
    with throwaway_directory() as data:
        server = EmbeddedNats(data)
        yield await server.start()
        await server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _template(postgres_url: str) -> None:
    """The database that the tests' databases are copies of: migrated, otherwise empty."""
    from service.store.migrate import migrate

    await migrate(await create_database(postgres_url, TEMPLATE), PARTITIONS)


@pytest.fixture
async def database_url(postgres_url: str, _template: None) -> str:
    """A migrated, empty database of this test's own, with 16 partitions."""
    return await clone_template(postgres_url)
