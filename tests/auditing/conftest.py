"""A ledger with history, made once, and its export."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from service.store.feed import Feed, FeedQuery
from service.store.log import Log
from tests.auditing.history import write_history
from tests.servers import PARTITIONS, clone_template


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def audited_url(postgres_url: str, _template: None) -> str:
    """The database of a ledger with some hundred events, which nobody changes for good."""
    url = await clone_template(postgres_url)
    await write_history(url, rounds=90)
    return url


@pytest.fixture
async def log(audited_url: str) -> AsyncGenerator[Log]:
    """The log of that ledger, as superuser: an admin who may do what the application may not."""
    log = await Log.connect(audited_url, connections=2)
    yield log
    await log.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def exported_lines(audited_url: str) -> list[bytes]:
    """The lines of the export of that ledger."""
    log = await Log.connect(audited_url, connections=2)
    pages = [page async for page in Feed(log, PARTITIONS).stream(FeedQuery())]
    await log.close()
    return b"".join(pages).splitlines()


@pytest.fixture
def export(tmp_path: Path, exported_lines: list[bytes]) -> Path:
    """The export of that ledger, as a file."""
    file = tmp_path / "log.ndjson"
    file.write_bytes(b"".join(line + b"\n" for line in exported_lines))
    return file
