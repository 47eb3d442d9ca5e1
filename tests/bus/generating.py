"""The reference generation service in a world: supervised, asked for jobs, killed, and every job looked at in the end."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import suppress

from service.embedded.child import free_port
from tests.bus.world import World, open_account
from tests.examples.jobs import Asker, cost_of_all
from tests.program import environment

TEAM = "team-1"
ASKERS = 16
PAUSE_SECONDS = 0.5
STOP_SECONDS_MAX = 60.0


class Generating:
    """The service beside the ledger of a world, for one team that asks it for jobs all the time."""

    def __init__(self, world: World) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._world = world
        where = ("--port", str(port), "--data", str(world.data / "generation"))
        servers = ("--ledger-url", world.url, "--nats-url", world.nats_url)
        self._command = (sys.executable, "-m", "examples.generation_service", *where, *servers)
        self._asker = Asker(self.url, TEAM, pause_seconds=PAUSE_SECONDS)
        self._process: Process | None = None
        self._supervising: asyncio.Task[None] | None = None
        self._asking: list[asyncio.Task[None]] = []

    @property
    def jobs(self) -> int:
        """How many jobs were taken so far."""
        return len(self._asker.jobs)

    async def start(self) -> None:
        """Start it, and ask for jobs; its account has a world's funds."""
        await open_account(self._world, TEAM)
        self._supervising = asyncio.create_task(self._supervise())
        self._asking = [asyncio.create_task(self._asker.run(first, ASKERS)) for first in range(ASKERS)]

    async def _supervise(self) -> None:
        with (self._world.data / "generation.log").open("ab") as log:
            while True:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, env=environment({}), stdout=log, stderr=log
                )
                await self._process.wait()
                await asyncio.sleep(0.1)

    async def kill(self) -> None:
        """Kill it; it is started again."""
        await self._end(Process.kill)

    async def _end(self, how: Callable[[Process], None]) -> None:
        if (process := self._process) is not None:
            with suppress(ProcessLookupError):  # it met no NATS at its start, and is started again already
                how(process)
            await asyncio.wait_for(process.wait(), STOP_SECONDS_MAX)

    def check(self) -> None:
        """Raise what an asker met."""
        for task in self._asking:
            if task.done():
                task.result()

    async def cost(self) -> int:
        """Ask for no more, wait for the end of every job, and look at each: what they cost in all."""
        self._asker.stop()
        await asyncio.gather(*self._asking)
        return await cost_of_all(self.url, TEAM, self._asker.jobs)

    async def stop(self) -> None:
        """Stop everything at once."""
        for task in (*self._asking, self._supervising):
            if task is not None:
                task.cancel()
        await self._end(Process.terminate)
