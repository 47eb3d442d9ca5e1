"""The generation service is killed again and again, with its ledger: no job is lost, and each is settled exactly once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import unused_port

from tests.examples.commands import example
from tests.examples.jobs import Asker, cost_of_all
from tests.program import Program
from tests.servers import throwaway_directory

KILLS = 8
TEAM = "team-1"


async def start(directory: Path, port: int) -> tuple[Any, Program]:
    running = example("generation_service", directory, "--port", str(port))
    return running, await asyncio.to_thread(running.__enter__)


@pytest.mark.soak
async def test_d6_every_job_is_settled_exactly_once_however_often_all_is_killed() -> None:
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    asker = Asker(url, TEAM)
    with throwaway_directory() as directory:
        running, program = await start(directory, port)
        ledger = program.lines[0].rpartition(" ")[2]
        async with aiohttp.ClientSession() as session:
            plan = {"plan": "enterprise"}
            async with session.put(
                f"{ledger}/v1/accounts/{TEAM}/plan", json=plan, headers={"Idempotency-Key": "1"}
            ) as it:
                assert it.status == 201
        tasks = [asyncio.create_task(asker.run(first, 2)) for first in (0, 1)]
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.3, 2.5))
            program.process.kill()
            running.__exit__(None, None, None)
            running, program = await start(directory, port)
        try:
            asker.stop()
            await asyncio.gather(*tasks)
            assert len(asker.jobs) > KILLS
            cost = await cost_of_all(url, TEAM, asker.jobs)
            async with (
                aiohttp.ClientSession(headers={"Team": TEAM}) as session,
                session.get(f"{url}/credits") as answer,
            ):
                assert (await answer.json())["available"] == 10_000 - cost
        finally:
            running.__exit__(None, None, None)
