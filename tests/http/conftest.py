"""The running service, for all tests of HTTP."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.http.stage import Service, running
from tests.servers import clone_template


@pytest.fixture
async def service(database_url: str) -> AsyncGenerator[Service]:
    """The service with AUTH=off on an empty database."""
    async with running(database_url) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(postgres_url: str, _template: None) -> AsyncGenerator[Service]:
    """The service for the many requests of a module that change nothing, which each of them shows; with `team-42`."""
    async with running(await clone_template(postgres_url)) as service:
        await service.opened("team-42")
        yield service
