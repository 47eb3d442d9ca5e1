"""Fixtures for the laws of the projections: those of the writer, and a log of the projector's own."""

from collections.abc import AsyncGenerator

import pytest

from service.store.log import Log
from tests.writer.conftest import ledger, open_ledger

__all__ = ["ledger", "open_ledger"]


@pytest.fixture
async def readers(database_url: str) -> AsyncGenerator[Log]:
    """The log as a projector has it."""
    log = await Log.connect(database_url, connections=4)
    yield log
    await log.close()
