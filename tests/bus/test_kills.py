"""Kills of the service, of NATS and of PostgreSQL under load: no command lost or applied twice, and the stream is the log."""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from service.embedded import EmbeddedNats, EmbeddedPostgres
from service.embedded.child import free_port
from service.settings import CATALOGS
from service.store.log import Log
from service.store.migrate import migrate
from service.store.publishing import Outbox
from tests.servers import PARTITIONS, eventually, throwaway_directory

ACCOUNTS = 6
KILLED = ("service", "nats", "postgres")


class World:
    """Both servers and one service process, each of which can be killed and started again."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._ports = {"nats": free_port(), "postgres": free_port()}
        self._services: list[asyncio.subprocess.Process] = []
        self.client: Client
        self.database_url = ""

    async def start(self) -> None:
        self._postgres = EmbeddedPostgres(self._data, self._ports["postgres"])
        self.database_url = await self._postgres.start()
        await migrate(self.database_url, PARTITIONS)
        self._nats = EmbeddedNats(self._data, self._ports["nats"])
        self.nats_url = await self._nats.start()
        self.client = await nats.connect(
            self.nats_url, reconnect_time_wait=0, max_reconnect_attempts=-1, error_cb=_ignore
        )
        await self.add_service()

    async def kill(self, what: str) -> None:
        """Kill one of them and start it again."""
        if what == "service":
            service = self._services.pop(0)
            service.kill()
            await service.wait()
            await self.add_service()
        elif what == "nats":
            os.kill(self._nats.pid or 0, signal.SIGKILL)
            await self._nats.stop()
            self._nats = EmbeddedNats(self._data, self._ports["nats"])
            await self._nats.start()
        else:
            os.kill(self._postgres.pid or 0, signal.SIGKILL)
            await self._postgres.stop()
            self._postgres = EmbeddedPostgres(self._data, self._ports["postgres"])
            await self._postgres.start()

    async def stop(self) -> None:
        for service in self._services:
            service.terminate()
            await asyncio.wait_for(service.wait(), 30)
        await self.client.close()
        await self._nats.stop()
        await self._postgres.stop()

    async def freeze(self, number: int, until: Callable[[], bool | Awaitable[bool]]) -> None:
        """Stop a service in the middle of whatever it does, and let it go on when the condition holds."""
        service = self._services[number]
        service.send_signal(signal.SIGSTOP)
        try:
            await eventually(until, "the others go on")
        finally:
            service.send_signal(signal.SIGCONT)

    async def add_service(self) -> None:
        environment = {
            **os.environ,
            "LEDGER_DATABASE_URL": self.database_url,
            "LEDGER_NATS_URL": self.nats_url,
            "LEDGER_CATALOG": str(CATALOGS / "content_platform.toml"),
            "LEDGER_HTTP_PORT": "0",
            "LEDGER_AUTH": "off",
        }
        program = Path(sys.executable).with_name("credit-ledger")
        self._services.append(
            await asyncio.create_subprocess_exec(
                program, "serve", env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
        )


@asynccontextmanager
async def world() -> AsyncGenerator[World]:
    with throwaway_directory() as data:
        world = World(data)
        await world.start()
        try:
            yield world
        finally:
            await world.stop()


async def submit(world: World, command: str, body: dict[str, Any]) -> None:
    """Publish until JetStream has acknowledged it."""
    while True:
        try:
            await world.client.jetstream().publish(
                f"credits.submit.shop.{command}", json.dumps(body).encode(), timeout=2
            )
        except (nats.errors.Error, OSError, TimeoutError):
            await asyncio.sleep(0.05)
        else:
            return


async def spend(world: World, account: str, told: asyncio.Event, sent: Counter[str]) -> int:
    """Reserve and consume one credit after the other until told to stop; how many."""
    await submit(world, "change_plan", {"account": account, "plan": "agency", "idempotency_key": "open"})
    count = 0
    while not told.is_set():
        count += 1
        hold = {"account": account, "reservation_id": f"{account}-{count}"}
        await submit(world, "reserve", {**hold, "amount": 1, "idempotency_key": f"r{count}"})
        await submit(world, "consume", {**hold, "idempotency_key": f"c{count}"})
        sent[account] += 1
    return count


async def survives(seed: int, kills: int) -> None:
    chosen = random.Random(seed)
    order = [*KILLED, *chosen.choices(KILLED, k=kills)][:kills]
    async with world() as under_load:
        told, sent = asyncio.Event(), Counter[str]()
        spending = [asyncio.create_task(spend(under_load, f"a{n}", told, sent)) for n in range(ACCOUNTS)]
        for what in order:
            enough = sent.total() + chosen.randrange(1, 60)
            await eventually(lambda enough=enough: sent.total() >= enough, "the load goes on")
            await under_load.kill(what)
        told.set()
        counts = await asyncio.gather(*spending)
        await eventually_settled(under_load)
        await check(under_load, counts)


async def eventually_settled(under_load: World) -> None:
    """Wait until every command has its outcome, and every event is in the stream."""
    js = under_load.client.jetstream()
    log = await Log.connect(under_load.database_url, connections=2)

    async def is_settled() -> bool:
        try:
            if (await js.stream_info("CREDITS_COMMANDS")).state.messages:
                return False
            events = (await js.stream_info("CREDITS_EVENTS")).state.messages
        except nats.errors.Error:
            return False
        return events >= sum((await Outbox(log).heads()).values())

    async with asyncio.timeout(600):
        while not await is_settled():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.1)
    await log.close()


async def check(under_load: World, counts: list[int]) -> None:
    js = under_load.client.jetstream()
    log = await Log.connect(under_load.database_url, connections=2)
    streamed: defaultdict[int, list[str]] = defaultdict(list)
    consumed: Counter[str] = Counter()
    async for event in stored(under_load.client, "CREDITS_EVENTS"):
        data = json.loads(event)["data"]
        streamed[data["partition"]].append(data["hash"])
        if data["type"] == "consumed":
            consumed[data["account"]] += data["data"]["charged"]
    for partition in range(PARTITIONS):
        rows = await log.lines_from(partition, 1, 1_000_000)
        assert streamed[partition] == [row.hash for row in rows], f"partition {partition}"
    assert consumed == {f"a{n}": count for n, count in enumerate(counts)}
    results = (await js.stream_info("CREDITS_RESULTS")).state.messages
    assert results >= sum(2 * count + 1 for count in counts)
    assert (await js.stream_info("CREDITS_DEAD")).state.messages == 0
    await log.close()


async def stored(client: Client, stream: str) -> AsyncGenerator[bytes]:
    """All messages of a stream, as it is now."""
    js = client.jetstream()
    left = (await js.stream_info(stream)).state.messages
    messages = await js.subscribe("credits.>", stream=stream, ordered_consumer=True)
    for _ in range(left):
        yield (await messages.next_msg(timeout=10)).data
    await messages.unsubscribe()


async def _ignore(_error: Exception) -> None:
    """Leave errors of the test's connection to the assertions."""


async def test_a_kill_of_each_loses_nothing_and_applies_nothing_twice() -> None:
    await survives(1, 3)


@pytest.mark.soak
async def test_a_service_that_was_frozen_while_another_took_over_changes_nothing_when_it_wakes_up() -> None:
    async with world() as under_load:
        await under_load.add_service()
        told, sent = asyncio.Event(), Counter[str]()
        spending = [asyncio.create_task(spend(under_load, f"a{n}", told, sent)) for n in range(ACCOUNTS)]
        js = under_load.client.jetstream()
        for number in (0, 1, 0, 1):
            enough = sent.total() + 20
            await eventually(lambda enough=enough: sent.total() >= enough, "the load goes on")
            before = (await js.stream_info("CREDITS_RESULTS")).state.messages

            async def goes_on(before: int = before) -> bool:
                return (await js.stream_info("CREDITS_RESULTS")).state.messages > before + 600

            await under_load.freeze(number, goes_on)
        told.set()
        counts = await asyncio.gather(*spending)
        await eventually_settled(under_load)
        await check(under_load, counts)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(3))
async def test_a_hundred_kills_lose_nothing_and_apply_nothing_twice(seed: int) -> None:
    await survives(seed, 100)
