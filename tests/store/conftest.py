"""Fixtures for the laws of the store."""

from collections.abc import AsyncGenerator

import pytest

from service.store.log import Log


@pytest.fixture
async def log(database_url: str) -> AsyncGenerator[Log]:
    """The log of the test's own database, as the application sees it."""
    log = await Log.connect(database_url, connections=4)
    yield log
    await log.close()
