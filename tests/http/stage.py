"""The ledger behind a real HTTP server on a port of its own, with a real PostgreSQL, and a client that speaks to it."""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from events.catalog import parse_catalog
from service.access import Access
from service.gateway import Gateway
from service.http.server import HttpServer
from service.ledger import Ledger
from service.reads import Reads
from service.store.feed import Feed
from service.store.log import Log
from service.telemetry.health import Health
from service.telemetry.metrics import Metrics

CATALOG = """
version = "http-tests"
default_plan = "free"
insufficient_credits_message = "Not enough credits. Upgrade your plan for more."

[capacities.concurrent_jobs]

[plans.free]
rank = 0
allowance.credits = 35
capacity.concurrent_jobs = 1

[plans.pro]
rank = 1
allowance.credits = 500
capacity.concurrent_jobs = 5

[operations.generate_image]
each = "2"
multipliers.quality = { standard = "1", hd = "2" }
occupies.concurrent_jobs = 1

[operations.create_post]
free = true
"""

_keys = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The problem's code, after a look at what every problem has; None for an answer."""
        if self.status < 400:
            return None
        assert self.headers["Content-Type"] == "application/problem+json"
        problem = self.json
        assert problem["status"] == self.status
        assert problem["title"]
        assert problem["detail"]
        assert problem["type"].endswith(problem["code"])
        return problem["code"]


class Service:
    """A running service and a client."""

    def __init__(self, server: HttpServer, ledger: Ledger, feed: Feed, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.ledger = ledger
        self.feed = feed
        self.session = session

    def url(self, target: str) -> URL:
        """The URL of a path and query that are sent exactly as they stand here."""
        return URL(f"http://127.0.0.1:{self.server.port}{target}", encoded=True)

    async def call(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        key: str | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request; a body that is no bytes goes as JSON."""
        sent = dict(headers or {})
        if key is not None:
            sent["Idempotency-Key"] = key
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(method, self.url(target), data=data, headers=sent) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, target: str, *, token: str | None = None) -> Answer:
        """Ask for a page."""
        return await self.call("GET", target, token=token)

    async def do(
        self, method: str, target: str, body: object = None, *, token: str | None = None, key: str | None = None
    ) -> Answer:
        """Send a mutation with a key of its own."""
        return await self.call(method, target, body, key=key or f"key-{next(_keys)}", token=token)

    async def opened(self, account: str) -> None:
        """Open an account on the free plan, by a consumption of 1."""
        answer = await self.do("POST", f"/v1/accounts/{account}/consumptions", {"amount": 1})
        assert answer.status == 201, answer.body

    async def events_written(self) -> int:
        """How many events the log has."""
        return sum((await self.feed.heads()).values())

    async def exchange(self, *pieces: bytes, until: bytes | None = None) -> bytes:
        """Send bytes as they are, and return what comes back until the server closes or `until` was received.

        Between two pieces the event loop runs, so that the server may see them apart.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await (reader.read() if until is None else reader.readuntil(until))
        finally:
            writer.close()


@asynccontextmanager
async def running(database_url: str, access: Access | None = None) -> AsyncGenerator[Service]:
    """The service on a database, open to all unless `access` says otherwise."""
    log = await Log.connect(database_url)
    ledger = await Ledger.open(log, parse_catalog(CATALOG))
    feed = Feed(log, ledger.partitions)
    server = HttpServer(
        gateway=Gateway(ledger, Reads(ledger)),
        feed=feed,
        access=access or Access.open(),
        health=Health({"database": feed.heads}),
        metrics=Metrics(),
        host="127.0.0.1",
        port=0,
    )
    await server.start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            yield Service(server, ledger, feed, session)
    finally:
        await server.stop()
        await ledger.drain()
        await log.close()
