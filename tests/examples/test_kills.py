"""The generation service is killed again and again, with its ledger: no job is lost, and each is settled exactly once."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import unused_port

from tests.examples.commands import example
from tests.program import Program
from tests.servers import eventually, throwaway_directory

KILLS = 8
PROMPTS = ("a lamp", "flaky", "partial", "fail", "busy", "refuse", "stammer")
COST_OF = {"a lamp": 5, "flaky": 5, "busy": 5, "stammer": 5, "partial": 4, "fail": 0, "refuse": 0}
TEAM = {"Team": "team-1"}


class Asker:
    """Asks for one job after the other, each until it is answered, with the key of the job."""

    def __init__(self, url: str) -> None:
        self.jobs: dict[str, str] = {}
        self._url = url

    async def run(self, first: int) -> None:
        async with aiohttp.ClientSession() as session:
            for number in itertools.count(first, 2):
                prompt = PROMPTS[number % len(PROMPTS)]
                body = {"model": "aurora-2", "images": 4, "prompt": prompt}

                async def is_answered(asked: Any = body, key: str = f"job-{number}") -> bool:
                    if (job := await self._ask(session, asked, key)) is not None:
                        self.jobs[job] = asked["prompt"]
                    return job is not None

                await eventually(is_answered, "the job is taken")

    async def _ask(self, session: aiohttp.ClientSession, body: Any, key: str) -> str | None:
        with suppress(aiohttp.ClientError, OSError):
            async with session.post(f"{self._url}/jobs", json=body, headers={**TEAM, "Idempotency-Key": key}) as answer:
                if answer.status == 202:
                    return (await answer.json())["job"]
                assert answer.status in {429, 503}, await answer.text()
        return None


async def start(directory: Path, port: int) -> tuple[Any, Program]:
    running = example("generation_service", directory, "--port", str(port))
    return running, await asyncio.to_thread(running.__enter__)


@pytest.mark.soak
async def test_d6_every_job_is_settled_exactly_once_however_often_all_is_killed() -> None:
    port = unused_port()
    asker = Asker(f"http://127.0.0.1:{port}")
    with throwaway_directory() as directory:
        running, program = await start(directory, port)
        ledger = program.lines[0].rpartition(" ")[2]
        async with aiohttp.ClientSession() as session:
            plan = {"plan": "enterprise"}
            async with session.put(
                f"{ledger}/v1/accounts/team-1/plan", json=plan, headers={"Idempotency-Key": "1"}
            ) as it:
                assert it.status == 201
        tasks = [asyncio.create_task(asker.run(first)) for first in (0, 1)]
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.3, 2.5))
            program.process.kill()
            running.__exit__(None, None, None)
            running, program = await start(directory, port)
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome
        try:
            await judge(f"http://127.0.0.1:{port}", asker.jobs)
        finally:
            running.__exit__(None, None, None)


async def judge(url: str, answered: dict[str, str]) -> None:
    """Waits until nothing is held any more, and looks at each job."""
    async with aiohttp.ClientSession(headers=TEAM) as session:

        async def get(path: str) -> Any:
            async with session.get(f"{url}{path}") as answer:
                return await answer.json()

        async def nothing_is_held() -> bool:
            balance = await get("/credits")
            return balance["reserved"] == 0 and balance["capacity"]["concurrent_jobs"]["used"] == 0

        for _ in range(4):  # the upkeep, redelivery and the pauses of the workers take their time
            with suppress(AssertionError):
                await eventually(nothing_is_held, "nothing is held")
                break
        jobs: list[Any] = []
        before = ""
        while before is not None:
            page = await get(f"/jobs?before={before}")
            jobs, before = jobs + page["jobs"], page["next"]
        assert answered.keys() <= {job["job"] for job in jobs}
        assert len(answered) > KILLS
        cost = 0
        for job in jobs:
            kinds = [row["kind"] for row in (await get(f"/jobs/{job['job']}"))["transactions"]]
            assert job["state"] in {"succeeded", "failed"}
            assert kinds.count("hold") == 1
            assert kinds.count("settle") == (job["state"] == "succeeded")
            cost += COST_OF[job["prompt"]] * (job["state"] == "succeeded")
        assert (await get("/credits"))["available"] == 10_000 - cost
