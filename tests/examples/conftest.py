"""The examples' ledger: the running service with the asset studio's catalog, started once."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from credit_ledger_client import Ledger
from credit_ledger_client.testing import LedgerDouble
from examples.starting import CATALOG
from tests.features.conftest import Service, free_port, serving
from tests.servers import clone_template


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def studio(postgres_url: str, _template: None, nats_url: str) -> AsyncGenerator[Service]:
    """The service with the catalog of the asset studio."""
    database = await clone_template(postgres_url)
    async with serving(CATALOG, database, nats_url, free_port(), "examples") as service:
        yield service


@pytest.fixture(params=["double", "nats"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """The ledger of the module's `CALLER`: the double, and the running service over NATS."""
    if request.param == "double":
        return LedgerDouble(CATALOG)
    service: Service = request.getfixturevalue("studio")
    return Ledger.over_nats(service.nats_url, caller=request.module.CALLER, prefix=service.prefix)
