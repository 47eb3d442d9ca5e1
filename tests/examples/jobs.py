"""Teams that ask the generation service for jobs while it is killed, and a look at every job at the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiohttp

from tests.servers import eventually

COST_OF = {"a lamp": 5, "flaky": 5, "partial": 4, "fail": 0, "busy": 5, "refuse": 0, "stammer": 5}
PROMPTS = tuple(COST_OF)
KINDS_OF = {"succeeded": ["hold", "settle"], "failed": ["hold", "release"]}
AGAIN_SECONDS = 0.1
SETTLED_SECONDS_MAX = 240.0
"""The upkeep, redelivery and the pauses of the workers take their time."""


class Asker:
    """Asks for one job of a team after the other until told to stop, each until it is answered, with the job's key."""

    def __init__(self, url: str, team: str, *, pause_seconds: float = 0.0) -> None:
        self.jobs: dict[str, str] = {}
        """The prompt of each job that was answered."""
        self._url = url
        self._team = team
        self._pause_seconds = pause_seconds
        self._told = asyncio.Event()

    def stop(self) -> None:
        """Ask for no more than what is being asked for."""
        self._told.set()

    async def run(self, first: int, step: int) -> None:
        """Ask for every `step`th job from the first on."""
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(headers={"Team": self._team}, timeout=timeout) as session:
            for number in itertools.count(first, step):
                prompt = PROMPTS[number % len(PROMPTS)]
                body = {"model": "aurora-2", "images": 4, "prompt": prompt}

                async with asyncio.timeout(SETTLED_SECONDS_MAX):
                    while (job := await self._ask(session, body, f"job-{number}")) is None:  # noqa: ASYNC110 - nothing announces it
                        await asyncio.sleep(AGAIN_SECONDS)
                self.jobs[job] = prompt
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._told.wait(), self._pause_seconds)
                if self._told.is_set():
                    return

    async def _ask(self, session: aiohttp.ClientSession, body: Any, key: str) -> str | None:
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with session.post(f"{self._url}/jobs", json=body, headers={"Idempotency-Key": key}) as answer:
                if answer.status == 202:
                    return (await answer.json())["job"]
                assert answer.status in {429, 503}, await answer.text()
        return None


async def cost_of_all(url: str, team: str, answered: Mapping[str, str]) -> int:
    """Waits until nothing is held any more, and looks at each job: what they cost in all.

    Every job that was answered is there, has ended, was held once, and is settled exactly once.
    """
    async with aiohttp.ClientSession(headers={"Team": team}) as session:

        async def get(path: str) -> Any:
            async with session.get(f"{url}{path}") as answer:
                return await answer.json()

        async def nothing_is_held() -> bool:
            balance = await get("/credits")
            return balance["reserved"] == 0 and balance["capacity"]["concurrent_jobs"]["used"] == 0

        await eventually(nothing_is_held, "nothing is held", SETTLED_SECONDS_MAX)
        jobs: list[Any] = []
        before = ""
        while before is not None:
            page = await get(f"/jobs?before={before}")
            jobs, before = jobs + page["jobs"], page["next"]
        assert answered.keys() <= {job["job"] for job in jobs}
        cost = 0
        for job in jobs:
            rows = (await get(f"/jobs/{job['job']}"))["transactions"]
            kinds = [row["kind"] for row in rows]
            gave_back = ["release"] * (job["state"] == "succeeded" and job["prompt"] == "partial")
            assert kinds == KINDS_OF[job["state"]] + gave_back, f"{rows} of {job}"
            cost += COST_OF[job["prompt"]] * (job["state"] == "succeeded")
        return cost
