"""Both servers and services of the ledger, each of which can be killed, frozen and started again; and a look at the end.

`check` says whether a run was sound: no command was lost or applied twice, the stream is the log, credits are conserved.
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import nats
import nats.errors
from nats.aio.client import Client

from service.embedded import EmbeddedNats, EmbeddedPostgres
from service.embedded.child import free_port
from service.settings import CATALOGS
from service.store.log import Log
from service.store.migrate import migrate
from service.store.publishing import Outbox
from tests.servers import EVENTUALLY_SECONDS_MAX, PARTITIONS, eventually, throwaway_directory

PLAN = "enterprise"
FUNDS = 1_000_000
GIVEN = 10_000 + FUNDS
"""What an account has: its plan's allowance, and what was granted beside it."""
SETTLED_SECONDS_MAX = 600
PROGRAM = Path(sys.executable).with_name("credit-ledger")
GONE = (nats.errors.Error, aiohttp.ClientError, OSError, TimeoutError)
"""What a caller meets while something is away; it sends the same again."""


class World:
    """Both servers and one service, or more of them."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._ports = {what: free_port() for what in ("nats", "postgres", "http")}
        self._services: list[asyncio.subprocess.Process] = []
        self._supervising: list[asyncio.Task[None]] = []
        self._ended_alone: list[str] = []
        self.client: Client
        self.http: aiohttp.ClientSession
        self.database_url = ""

    @property
    def url(self) -> str:
        """Where the first service answers over HTTP."""
        return f"http://127.0.0.1:{self._ports['http']}"

    async def start(self) -> None:
        self._postgres = EmbeddedPostgres(self.data, self._ports["postgres"])
        self.database_url = await self._postgres.start()
        await migrate(self.database_url, PARTITIONS)
        self._nats = EmbeddedNats(self.data, self._ports["nats"])
        self.nats_url = await self._nats.start()
        self.client = await nats.connect(
            self.nats_url, reconnect_time_wait=0, max_reconnect_attempts=-1, error_cb=_ignore
        )
        self.http = aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=15))
        await self.add_service(self._ports["http"])

    async def kill(self, what: str) -> None:
        """Kill one of them and start it again."""
        if what == "service":
            service = self._services[0]
            with suppress(ProcessLookupError):  # it met no database at its start, and is started again already
                service.kill()
            await service.wait()
        elif what == "nats":
            await self.take_nats_away()
            await self.bring_nats_back()
        else:
            os.kill(self._postgres.pid or 0, signal.SIGKILL)
            await self._postgres.stop()
            self._postgres = EmbeddedPostgres(self.data, self._ports["postgres"])
            await self._postgres.start()

    async def take_nats_away(self) -> None:
        os.kill(self._nats.pid or 0, signal.SIGKILL)
        await self._nats.stop()

    async def bring_nats_back(self) -> None:
        self._nats = EmbeddedNats(self.data, self._ports["nats"])
        await self._nats.start()

    async def stop(self) -> None:
        await self.http.close()
        for supervising, service in zip(self._supervising, self._services, strict=True):
            supervising.cancel()
            with suppress(ProcessLookupError):
                service.terminate()
            await asyncio.wait_for(service.wait(), EVENTUALLY_SECONDS_MAX)
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

    async def add_service(self, http_port: int = 0) -> None:
        """Start a service, and start it again whenever it ended, as every supervisor does."""
        number = len(self._services)
        self._services.append(await self._serve(number, http_port))
        self._supervising.append(asyncio.create_task(self._supervise(number, http_port)))

    async def _supervise(self, number: int, http_port: int) -> None:
        while True:
            code = await self._services[number].wait()
            if code >= 0:
                self._ended_alone.append(f"{code}: {self._log(number).read_text()[-1000:]}")
            await asyncio.sleep(0.1)
            self._services[number] = await self._serve(number, http_port)

    async def _serve(self, number: int, http_port: int) -> asyncio.subprocess.Process:
        with self._log(number).open("wb") as log:
            return await asyncio.create_subprocess_exec(
                PROGRAM, "serve", env=self.environment(http_port), stdout=log, stderr=log
            )

    def _log(self, number: int) -> Path:
        return self.data / f"service-{number}.log"

    def check_ends(self) -> None:
        """A service ends by itself for one reason only: there is no database when it starts."""
        for told in self._ended_alone:
            assert "the database cannot be reached" in told, told

    def environment(self, http_port: int = 0) -> dict[str, str]:
        """The settings of a service of this world."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
        return own | {
            "LEDGER_DATABASE_URL": self.database_url,
            "LEDGER_NATS_URL": self.nats_url,
            "LEDGER_CATALOG": str(CATALOGS / "asset_studio.toml"),
            "LEDGER_HTTP_PORT": str(http_port),
            "LEDGER_AUTH": "off",
        }

    async def get(self, path: str) -> tuple[int, Any]:
        """Ask over HTTP once; status and body, which is text where it is no JSON."""
        async with self.http.get(path) as response:
            text = await response.text()
            return response.status, json.loads(text) if "json" in response.headers["Content-Type"] else text


@asynccontextmanager
async def world() -> AsyncGenerator[World]:
    """A world, and its end."""
    with throwaway_directory() as data:
        world = World(data)
        await world.start()
        try:
            yield world
        finally:
            await world.stop()


async def submit(world: World, command: str, body: Mapping[str, Any]) -> None:
    """Publish until JetStream has acknowledged it."""
    while True:
        try:
            await world.client.jetstream().publish(
                f"credits.submit.shop.{command}", json.dumps(body).encode(), timeout=2
            )
        except GONE:
            await asyncio.sleep(0.05)
        else:
            return


async def post(world: World, path: str, body: Mapping[str, Any], key: str, method: str = "POST") -> None:
    """Send a mutation over HTTP with its key until it is answered."""
    while True:
        try:
            async with world.http.request(method, path, json=dict(body), headers={"Idempotency-Key": key}) as response:
                status, text = response.status, await response.text()
        except GONE:
            await asyncio.sleep(0.05)
            continue
        if status != 503:
            assert status in (200, 201), text
            return
        await asyncio.sleep(0.05)


async def ask(world: World, command: str, body: Mapping[str, Any]) -> None:
    """Send a command over NATS with its key until it is answered."""
    while True:
        try:
            answer = await world.client.request(f"credits.cmd.shop.{command}", json.dumps(body).encode(), timeout=3)
        except GONE:  # nats-py takes `Status: 503` for the server's own
            await asyncio.sleep(0.05)
            continue
        assert (answer.headers or {})["Status"] in ("200", "201"), answer.data
        return


async def open_account(world: World, account: str) -> None:
    """An account with FUNDS beside its plan's allowance."""
    await submit(world, "change_plan", {"account": account, "plan": PLAN, "idempotency_key": "open"})
    await submit(world, "grant", {"account": account, "amount": FUNDS, "kind": "purchase", "idempotency_key": "funds"})


async def settled(world: World) -> None:
    """Wait until every command has its outcome, and every event is in the stream."""
    js = world.client.jetstream()
    log = await Log.connect(world.database_url, connections=2)

    async def is_settled() -> bool:
        try:
            if (await js.stream_info("CREDITS_COMMANDS")).state.messages:
                return False
            events = (await js.stream_info("CREDITS_EVENTS")).state.messages
        except nats.errors.Error:
            return False
        return events >= sum((await Outbox(log).heads()).values())

    async with asyncio.timeout(SETTLED_SECONDS_MAX):
        while not await is_settled():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.1)
    await log.close()


async def check(world: World, spent: Mapping[str, int], submitted: int) -> None:
    """What was spent of each account is consumed once, the stream is the log, and the log adds up."""
    js = world.client.jetstream()
    log = await Log.connect(world.database_url, connections=2)
    streamed: defaultdict[int, list[str]] = defaultdict(list)
    consumed: Counter[str] = Counter()
    async for event in stored(world.client, "CREDITS_EVENTS"):
        data = json.loads(event)["data"]
        streamed[data["partition"]].append(data["hash"])
        if data["type"] == "consumed":
            consumed[data["account"]] += data["data"]["charged"]
    for partition in range(PARTITIONS):
        rows = await log.lines_from(partition, 1, 1_000_000)
        assert streamed[partition] == [row.hash for row in rows], f"partition {partition}"
    await log.close()
    assert consumed == spent
    results = (await js.stream_info("CREDITS_RESULTS")).state.messages
    assert results >= submitted
    assert (await js.stream_info("CREDITS_DEAD")).state.messages == 0
    for account, amount in spent.items():
        status, balance = await world.get(f"/v1/accounts/{account}/balance")
        assert (status, balance["available"], balance["reserved"]) == (200, GIVEN - amount, 0)
    world.check_ends()
    verify = await asyncio.create_subprocess_exec(
        PROGRAM, "audit", "verify", env=world.environment(), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await verify.communicate()
    assert verify.returncode == 0, told.decode()


async def stored(client: Client, stream: str) -> AsyncGenerator[bytes]:
    """All messages of a stream, as it is now."""
    js = client.jetstream()
    left = (await js.stream_info(stream)).state.messages
    messages = await js.subscribe("credits.>", stream=stream, ordered_consumer=True)
    for _ in range(left):
        yield (await messages.next_msg(timeout=EVENTUALLY_SECONDS_MAX)).data
    await messages.unsubscribe()


async def _ignore(_error: Exception) -> None:
    """Leave errors of the test's connection to the assertions."""
