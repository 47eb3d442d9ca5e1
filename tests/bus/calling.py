"""A caller over NATS, a gateway whose behaviour a test writes itself, and a bus between them on a real server.

The caller waits at an inbox of its own: nats-py's `request` takes every answer with `Status: 503` for the server's own
"no responders" and hides the problem that stands in it.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from events.recorded import Actor
from service.access import Access
from service.bus import Bus
from service.gateway import Gateway
from service.replies import Reply

ANSWER_SECONDS_MAX = 60.0
_prefixes = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.headers["Status"])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The problem's code, after a look at what every problem has; None for an answer."""
        if self.status < 400:
            assert "Nats-Service-Error" not in self.headers
            return None
        problem = self.json
        assert problem["status"] == self.status
        assert problem["title"]
        assert problem["detail"]
        assert self.headers["Nats-Service-Error-Code"] == str(self.status)
        assert self.headers["Nats-Service-Error"] == problem["code"]
        return problem["code"]


class Caller:
    """Sends requests to the bus at `prefix`, as the service `tester`."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self._inbox = client.new_inbox()
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count(1)

    async def listen(self) -> None:
        """Begin to take answers."""

        async def take(message: Msg) -> None:
            waiting = self._waiting.pop(message.subject, None)
            assert waiting is not None, f"a second answer: {message.data!r}"
            waiting.set_result(Answer(message.headers or {}, message.data))

        await self.client.subscribe(f"{self._inbox}.*", cb=take)
        await self.client.flush()

    async def send(
        self, subject: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> asyncio.Future[Answer]:
        """Send a request, to be answered later; a body that is no bytes goes as JSON."""
        reply = f"{self._inbox}.{next(self._numbers)}"
        future = self._waiting[reply] = asyncio.get_running_loop().create_future()
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        await self.client.publish(subject, data, reply=reply, headers=dict(headers) if headers else None)
        return future

    async def ask(self, subject: str, body: object = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request below the prefix and return its answer."""
        future = await self.send(f"{self.prefix}.{subject}", body, headers=headers)
        return await asyncio.wait_for(future, ANSWER_SECONDS_MAX)

    async def command(self, name: str, body: object, **headers: str) -> Answer:
        """Send a command; `Idempotency_Key` stands for the header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask(f"cmd.tester.{name}", body, headers=named)

    async def query(self, name: str, body: object = None) -> Answer:
        """Send a query."""
        return await self.ask(f"query.tester.{name}", body)


@dataclass(frozen=True)
class Call:
    """What the gateway was handed."""

    name: str
    body: bytes
    actor: Actor | None = None
    key: str | None = None


class Scripted:
    """A gateway that answers what `script` returns, and keeps what it was handed."""

    def __init__(self, script: Callable[[Call], Awaitable[Reply]] | None = None) -> None:
        self.calls: list[Call] = []
        self._script = script

    async def command(self, name: str, body: bytes, *, actor: Actor, key: str | None, **_: object) -> Reply:
        return await self._reply(Call(name, body, actor, key))

    async def query_body(self, name: str, body: bytes, **_: object) -> Reply:
        return await self._reply(Call(name, body))

    async def _reply(self, call: Call) -> Reply:
        self.calls.append(call)
        return Reply(201, b"{}") if self._script is None else await self._script(call)


def bus_of(gateway: object, nats_url: str, *, access: Access | None = None, prefix: str | None = None) -> Bus:
    """A bus, not started, with subjects of its own unless a prefix is given."""
    return Bus(
        gateway=cast("Gateway", gateway),
        access=access or Access.open(),
        url=nats_url,
        prefix=prefix or f"bus-test-{next(_prefixes)}",
        version="1.2.3",
    )


def prefix_of(bus: Bus) -> str:
    """The prefix of the subjects of a bus."""
    return bus.discovery.info()["endpoints"][0]["subject"].removesuffix(".cmd.*.*")  # type: ignore[index]


@asynccontextmanager
async def caller_at(nats_url: str, prefix: str) -> AsyncGenerator[Caller]:
    """A caller of what listens below the prefix, on a connection of its own."""
    client = await nats.connect(nats_url, reconnect_time_wait=0, max_reconnect_attempts=-1, error_cb=_ignore)
    try:
        caller = Caller(client, prefix)
        await caller.listen()
        yield caller
    finally:
        await client.close()


def caller_of(bus: Bus, nats_url: str) -> AbstractAsyncContextManager[Caller]:
    """A caller of this bus, on a connection of its own."""
    return caller_at(nats_url, prefix_of(bus))


@asynccontextmanager
async def serving(gateway: object, nats_url: str, *, access: Access | None = None) -> AsyncGenerator[Caller]:
    """A bus that serves the gateway, and a caller of it."""
    bus = bus_of(gateway, nats_url, access=access)
    bus.start()
    try:
        await asyncio.wait_for(bus.started(), ANSWER_SECONDS_MAX)
        async with caller_of(bus, nats_url) as caller:
            yield caller
    finally:
        await bus.stop()


async def publish_raw(nats_url: str, *lines: bytes) -> None:
    """Send protocol lines as they are, and return when the server has taken them."""
    address = urlsplit(nats_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n' + b"".join(lines) + b"PING\r\n")
    received = b""
    while b"PONG" not in received:
        chunk = await asyncio.wait_for(reader.read(4096), ANSWER_SECONDS_MAX)
        assert chunk, f"the server hung up: {received!r}"
        received += chunk
    writer.close()


async def _ignore(_error: Exception) -> None:
    """Leave errors of the caller's connection to the assertions."""
