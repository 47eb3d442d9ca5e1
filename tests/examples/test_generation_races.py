"""What comes between a worker and the job that it is about to begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.examples import test_generation_service
from tests.examples.test_generation_service import serving
from tests.features.conftest import Service
from tests.writer.proxy import Fault, Proxy

path, team = test_generation_service.path, test_generation_service.team


@pytest.fixture
async def proxy(studio: Service) -> AsyncGenerator[Proxy]:
    """A way to the ledger on which something can be held up."""
    proxy = Proxy(studio.url)
    await proxy.come()
    yield proxy
    proxy.go_away()


async def test_a_job_that_is_decided_while_a_worker_takes_its_hold_over_is_held_once(
    studio: Service, path: Path, team: str, proxy: Proxy
) -> None:
    """A task that comes twice, in an outage: one worker is through with the job before the other one comes to it."""
    way = f"http://127.0.0.1:{urlsplit(proxy.url).port}"
    async with serving(studio, path, team, workers=0, ledger_url=way) as idle:
        job = await idle.images()
        task = await idle.generation.queue.take()
        trap = proxy.set_trap("/extend", Fault.HELD_BACK)
        late = asyncio.create_task(idle.generation.begin(task))
        await trap.sprung.wait()
        await idle.tell({"type": "failed", "job": job, "attempt": 1, "error": "out of memory", "retryable": False})
        await idle.moved(job, "hold", "release")
        trap.let_go()
        await late
        await idle.moved(job, "hold", "release")
        assert idle.provider.begun == {}
        assert await idle.credits() == (2025, 0)
