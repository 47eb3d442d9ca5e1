"""The examples' ledger: the running service with the asset studio's catalog, started once."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest_asyncio

from examples.starting import CATALOG
from tests.features.conftest import Service, free_port, serving
from tests.servers import clone_template


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def studio(postgres_url: str, _template: None, nats_url: str) -> AsyncGenerator[Service]:
    """The service with the catalog of the asset studio."""
    database = await clone_template(postgres_url)
    async with serving(CATALOG, database, nats_url, free_port(), "examples") as service:
        yield service
