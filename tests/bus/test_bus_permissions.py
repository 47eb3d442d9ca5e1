"""Laws of the NATS permissions: a real server with the generated configuration refuses what is not a caller's own."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from service.access import Access
from service.bus import Bus
from service.bus.permissions import AmbiguousCallers, password_variable, server_configuration
from service.embedded.nats import _program
from tests.bus.calling import Caller
from tests.bus.streaming import Stage, delivering
from tests.servers import EVENTUALLY_SECONDS_MAX, eventually, throwaway_directory

DEPLOY = Path(__file__).parents[2] / "deploy" / "nats"
TOKENS = (DEPLOY / "tokens.toml").read_text(encoding="utf-8")
ACCESS = Access.parse(TOKENS)
USERS = ("credit-ledger", *ACCESS.callers)


@pytest.fixture
def guarded() -> Generator[int]:
    """The port of a server with the configuration of the example."""
    with throwaway_directory() as data:
        configuration = data / "nats.conf"
        text = server_configuration(ACCESS.callers, "credits").replace('"/data"', json.dumps(str(data)))
        configuration.write_text(text, encoding="utf-8")
        passwords = {password_variable(user): f"password-of-{user}" for user in USERS}
        process = subprocess.Popen(
            [
                _program(),
                "-c",
                configuration,
                "-a",
                "127.0.0.1",
                "-p",
                "-1",
                "--ports_file_dir",
                data,
                "-l",
                data / "log",
            ],
            env={**os.environ, **passwords},
            stderr=subprocess.DEVNULL,
        )
        try:
            yield port_of(process, data)
        finally:
            process.terminate()
            process.wait()


def port_of(process: subprocess.Popen[bytes], data: Path) -> int:
    ports = data / f"nats-server_{process.pid}.ports"
    while process.poll() is None:
        with suppress(FileNotFoundError, json.JSONDecodeError):
            return int(json.loads(ports.read_bytes())["nats"][0].rpartition(":")[2])
    raise AssertionError((data / "log").read_text())


@dataclass
class Guest:
    """A connection as one of the callers, and what the server refused it."""

    client: Client
    refused: list[str]

    async def is_refused(self, what: str) -> None:
        """The server said that this subject is not allowed."""
        await self.client.flush()
        await eventually(lambda: any(what.lower() in text.lower() for text in self.refused), f"{what} is refused")


@asynccontextmanager
async def connected(port: int, user: str) -> AsyncGenerator[Guest]:
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(
        f"nats://127.0.0.1:{port}",
        user=user,
        password=f"password-of-{user}",
        inbox_prefix=f"_INBOX_{user}",
        error_cb=note,
    )
    try:
        yield Guest(client, refused)
    finally:
        await client.close()


def service_url(port: int) -> str:
    return f"nats://credit-ledger:password-of-credit-ledger@127.0.0.1:{port}"


@asynccontextmanager
async def serving(database_url: str, port: int) -> AsyncGenerator[Stage]:
    """The whole service on the guarded server."""
    async with delivering(database_url, service_url(port), "credits", access=ACCESS) as stage:
        bus = Bus(gateway=stage.gateway, access=ACCESS, url=service_url(port))
        bus.start()
        await asyncio.wait_for(bus.started(), EVENTUALLY_SECONDS_MAX)
        await eventually(lambda: stage.delivery.publisher.positions is not None, "it publishes")
        try:
            yield stage
        finally:
            await bus.stop()


async def test_a_caller_does_all_of_its_work(database_url: str, guarded: int) -> None:
    async with serving(database_url, guarded) as stage, connected(guarded, "renderer") as renderer:
        caller = Caller(renderer.client, "credits")
        await caller.listen()
        answer = await caller.ask("cmd.renderer.reserve", {"account": "a", "amount": 5, "idempotency_key": "1"})
        assert answer.status == 201
        assert (await caller.ask("query.renderer.balance", {"account": "a"})).json["reserved"] == 5
        js = renderer.client.jetstream()
        body = b'{"account":"a","amount":1,"idempotency_key":"2"}'

        async def is_submitted() -> bool:
            try:
                return (await js.publish("credits.submit.renderer.consume", body)).seq > 0
            except nats.errors.Error:
                return False

        await eventually(is_submitted, "the stream of commands is there")
        own = await js.pull_subscribe_bind("renderer", "CREDITS_RESULTS")
        (result,) = await own.fetch(1, timeout=EVENTUALLY_SECONDS_MAX)
        assert (result.subject, result.headers) == ("credits.result.renderer.consume", result.headers)
        await result.ack_sync()
        assert renderer.refused == []
        await stage.published()


REFUSED_PUBLISHES = [
    "credits.cmd.billing.grant",
    "credits.query.billing.balance",
    "credits.submit.billing.grant",
    "credits.events.0.granted.promo.a",
    "credits.result.renderer.grant",
    "credits.dead.renderer",
    "credits.alerts.exhausted.a",
    "_INBOX_billing.x",
    "_INBOX.x",
    "$JS.API.STREAM.DELETE.CREDITS_EVENTS",
    "$JS.API.STREAM.PURGE.CREDITS_EVENTS",
    "$JS.API.STREAM.CREATE.OTHER",
    "$JS.API.STREAM.MSG.GET.CREDITS_RESULTS",
    "$JS.API.DIRECT.GET.CREDITS_RESULTS",
    "$JS.API.CONSUMER.CREATE.CREDITS_RESULTS.renderer",
    "$JS.API.CONSUMER.MSG.NEXT.CREDITS_RESULTS.billing",
    "$JS.API.CONSUMER.CREATE.CREDITS_EVENTS.renderer",
    "$JS.ACK.CREDITS_COMMANDS.x.1.1.1.1.0",
]
REFUSED_SUBSCRIPTIONS = [
    "_INBOX_billing.>",
    "_INBOX.>",
    "credits.cmd.>",
    "credits.cmd.renderer.*",
    "credits.result.billing.>",
    "credits.result.>",
    "credits.events.>",
    "credits.dead.>",
    ">",
]


async def test_a_caller_is_refused_what_is_anothers(guarded: int) -> None:
    async with connected(guarded, "renderer") as renderer:
        for subject in REFUSED_PUBLISHES:
            await renderer.client.publish(subject, b"{}")
            await renderer.is_refused(f'publish to "{subject}"')
        for subject in REFUSED_SUBSCRIPTIONS:
            await renderer.client.subscribe(subject)
            await renderer.is_refused(f'subscription to "{subject}"')


async def test_who_may_audit_reads_the_events_and_who_may_not_does_not(database_url: str, guarded: int) -> None:
    async with serving(database_url, guarded) as stage, connected(guarded, "warehouse") as warehouse:
        await stage.spend("a")
        await stage.published()
        await warehouse.client.jetstream().add_consumer("CREDITS_EVENTS", durable_name="warehouse", name="warehouse")
        events = await warehouse.client.jetstream().pull_subscribe_bind("warehouse", "CREDITS_EVENTS")
        first, *_ = await events.fetch(1, timeout=EVENTUALLY_SECONDS_MAX)
        assert json.loads(first.data)["specversion"] == "1.0"
        await stage.bus.checkpoints.open()
        await stage.bus.checkpoints.publish(1, "a note", 0)
        await warehouse.client.jetstream().add_consumer(
            "CREDITS_CHECKPOINTS", durable_name="warehouse", name="warehouse"
        )
        notes = await warehouse.client.jetstream().pull_subscribe_bind("warehouse", "CREDITS_CHECKPOINTS")
        assert (await notes.fetch(1, timeout=EVENTUALLY_SECONDS_MAX))[0].data == b"a note"
        await warehouse.client.publish("credits.checkpoints", b"another")
        await warehouse.is_refused('publish to "credits.checkpoints"')
        await warehouse.client.publish("credits.events.0.granted.promo.a", b"{}")
        await warehouse.is_refused('publish to "credits.events.0.granted.promo.a"')


async def test_nobody_connects_without_a_password(guarded: int) -> None:
    with pytest.raises(nats.errors.Error):
        await nats.connect(f"nats://127.0.0.1:{guarded}", allow_reconnect=False)


def test_the_example_is_what_the_command_writes() -> None:
    assert (DEPLOY / "nats-server.conf").read_text(encoding="utf-8") == server_configuration(ACCESS.callers, "credits")


def test_callers_that_would_share_a_password_are_refused() -> None:
    for names in (("a-b", "a_b"), ("credit-ledger",), ("credit_ledger",)):
        text = "".join(f'[[caller]]\nname = "{name}"\nscopes = ["read"]\n' for name in names)
        with pytest.raises(AmbiguousCallers):
            server_configuration(Access.parse(text).callers, "credits")
