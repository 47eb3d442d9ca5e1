"""A ledger for the client's laws: the running service over HTTP and over NATS, and the double, which must agree with it.

The service has the asset studio's catalog and is started once. Accounts are named anew for each test.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from uuid import uuid4

import pytest
import pytest_asyncio

from credit_ledger_client import Ledger
from credit_ledger_client.testing import LedgerDouble
from service.settings import CATALOGS
from tests.features.conftest import Service, free_port, serving
from tests.servers import clone_template

STUDIO = CATALOGS / "asset_studio.toml"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def studio(postgres_url: str, _template: None, nats_url: str) -> AsyncGenerator[Service]:
    """The service with the catalog of the asset studio."""
    database = await clone_template(postgres_url)
    async with serving(STUDIO, database, nats_url, free_port(), "client") as service:
        yield service


def over_nats(service: Service) -> Ledger:
    """The ledger over NATS, as a caller of its own."""
    return Ledger.over_nats(service.nats_url, caller=f"tests-{uuid4().hex[:8]}", prefix=service.prefix)


@pytest.fixture
async def http(studio: Service) -> AsyncGenerator[Ledger]:
    """The ledger over HTTP."""
    async with Ledger.over_http(studio.url) as ledger:
        yield ledger


@pytest.fixture
async def nats(studio: Service) -> AsyncGenerator[Ledger]:
    """The ledger over NATS."""
    async with over_nats(studio) as ledger:
        yield ledger


@pytest.fixture
async def double() -> AsyncGenerator[LedgerDouble]:
    """The double, whose clock a test moves."""
    async with LedgerDouble(STUDIO) as ledger:
        yield ledger


@pytest.fixture(params=["http", "nats", "double"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """Each law holds whatever the transport, and for the double."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def account() -> str:
    """An account that nobody used before."""
    return f"team-{uuid4().hex[:12]}"
