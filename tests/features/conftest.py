"""A running service for the features, and two ways to speak to it.

`credit-ledger serve` runs as a process of its own, once for each example catalog, on its own database. Every feature is
told twice, over HTTP and over NATS, by the same test: `Caller` hides which one it is. Accounts are named anew for each
test, so the tests share the services.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import aiohttp
import nats
import nats.errors
import orjson
import pytest
import pytest_asyncio
from nats.aio.client import Client

from service.settings import CATALOGS
from tests.servers import clone_template, eventually

STOP_SECONDS_MAX = 60

_PATHS = {
    "reserve": ("POST", "reservations"),
    "release": ("POST", "reservations/{reservation_id}/release"),
    "extend": ("POST", "reservations/{reservation_id}/extend"),
    "refund": ("POST", "consumptions/{consumption_id}/refund"),
    "grant": ("POST", "grants"),
    "revoke": ("POST", "grants/{grant_id}/revoke"),
    "adjust": ("POST", "adjustments"),
    "change_plan": ("PUT", "plan"),
    "set_status": ("PUT", "status"),
    "renew": ("POST", "renewals"),
    "reset_usage": ("POST", "usage-resets"),
}


class Answer:
    """What came back: a status and the JSON."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.json: dict[str, Any] = orjson.loads(body)

    def __getitem__(self, name: str) -> Any:
        return self.json[name]


class Caller(Protocol):
    """A service that uses the ledger, whatever the transport."""

    async def command(self, name: str, account: str, *, key: str | None = None, **fields: object) -> Answer: ...

    async def query(self, name: str, account: str, **fields: object) -> Answer: ...

    async def batch(self, *, dry_run: bool = False, **fields: object) -> Answer: ...


class HttpCaller:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def command(self, name: str, account: str, *, key: str | None = None, **fields: object) -> Answer:
        if name == "consume":
            method, path = (
                "POST",
                "reservations/{reservation_id}/consume" if "reservation_id" in fields else "consumptions",
            )
        else:
            method, path = _PATHS[name]
        path, body = path.format(**fields), {name: value for name, value in fields.items() if f"{{{name}}}" not in path}
        headers = {"Idempotency-Key": key or str(uuid4())}
        url = f"{self._url}/v1/accounts/{account}/{path}"
        async with self._session.request(method, url, data=orjson.dumps(body), headers=headers) as answer:
            return Answer(answer.status, await answer.read())

    async def query(self, name: str, account: str, **fields: object) -> Answer:
        url = f"{self._url}/v1/accounts/{account}/{name}"
        async with self._session.get(url, params={name: str(value) for name, value in fields.items()}) as answer:
            return Answer(answer.status, await answer.read())

    async def batch(self, *, dry_run: bool = False, **fields: object) -> Answer:
        url = f"{self._url}/v1/commands" + ("?dry_run=true" if dry_run else "")
        async with self._session.post(url, data=orjson.dumps(fields)) as answer:
            return Answer(answer.status, await answer.read())


class NatsCaller:
    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def command(self, name: str, account: str, *, key: str | None = None, **fields: object) -> Answer:
        body = {"account": account, "idempotency_key": key or str(uuid4()), **fields}
        return await self._request(f"{self._prefix}.cmd.tests.{name}", body)

    async def query(self, name: str, account: str, **fields: object) -> Answer:
        return await self._request(f"{self._prefix}.query.tests.{name}", {"account": account, **fields})

    async def batch(self, *, dry_run: bool = False, **fields: object) -> Answer:
        return await self._request(
            f"{self._prefix}.cmd.tests.batch", {**fields, **({"dry_run": True} if dry_run else {})}
        )

    async def _request(self, subject: str, body: Mapping[str, object]) -> Answer:
        reply = await self._client.request(subject, orjson.dumps(body), timeout=30)
        return Answer(int((reply.headers or {})["Status"]), reply.data)


class Service:
    """A running service: where it answers."""

    def __init__(self, url: str, nats_url: str, prefix: str, database_url: str) -> None:
        self.url = url
        self.nats_url = nats_url
        self.prefix = prefix
        self.database_url = database_url


@asynccontextmanager
async def serving(
    catalog: Path, database_url: str, nats_url: str, port: int, prefix: str, **settings: str
) -> AsyncIterator[Service]:
    """Run `credit-ledger serve` until the end of the block; further settings are given without their prefix."""
    environment = {
        **os.environ,
        "LEDGER_DATABASE_URL": database_url,
        "LEDGER_NATS_URL": nats_url,
        "LEDGER_CATALOG": str(catalog),
        "LEDGER_HTTP_PORT": str(port),
        "LEDGER_AUTH": "off",
        "LEDGER_SUBJECT_PREFIX": prefix,
        **{f"LEDGER_{name}": value for name, value in settings.items()},
    }
    program = Path(sys.executable).with_name("credit-ledger")
    process = await asyncio.create_subprocess_exec(program, "serve", env=environment)
    service = Service(f"http://127.0.0.1:{port}", nats_url, prefix, database_url)
    try:
        async with aiohttp.ClientSession() as session:

            async def ready() -> bool:
                if process.returncode is not None:
                    raise RuntimeError(f"credit-ledger serve ended with {process.returncode}")
                try:
                    async with session.get(f"{service.url}/readyz") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(ready, "the service is ready")
        client = await nats.connect(nats_url)

        async def listening() -> bool:
            try:
                await client.request("$SRV.PING.credit-ledger", b"", timeout=1)
                await client.request(f"{prefix}.query.tests.quote", b"{}", timeout=1)
            except nats.errors.Error:
                return False
            return True

        await eventually(listening, "the service listens on NATS")
        await client.close()
        yield service
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS_MAX)
        except TimeoutError:
            process.kill()
            raise AssertionError(f"credit-ledger serve did not stop within {STOP_SECONDS_MAX} s") from None


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def content_platform(postgres_url: str, _template: None, nats_url: str) -> AsyncGenerator[Service]:
    """The service with the catalog of the content platform (FEATURES.md B)."""
    catalog = CATALOGS / "content_platform.toml"
    database = await clone_template(postgres_url)
    async with serving(catalog, database, nats_url, free_port(), "content") as service:
        yield service


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def asset_studio(postgres_url: str, _template: None, nats_url: str) -> AsyncGenerator[Service]:
    """The service with the catalog of the asset studio (FEATURES.md A and D)."""
    catalog = CATALOGS / "asset_studio.toml"
    database = await clone_template(postgres_url)
    async with serving(catalog, database, nats_url, free_port(), "studio") as service:
        yield service


@asynccontextmanager
async def speaking(transport: str, service: Service) -> AsyncIterator[Caller]:
    """Speak to a service over one of its transports."""
    if transport == "http":
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield HttpCaller(session, service.url)
    else:
        client = await nats.connect(service.nats_url)
        try:
            yield NatsCaller(client, service.prefix)
        finally:
            await client.close()


@pytest.fixture(params=["http", "nats"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each feature holds over both transports."""
    return request.param


@pytest.fixture
async def platform(transport: str, content_platform: Service) -> AsyncGenerator[Caller]:
    """The content platform's backend, speaking to its ledger."""
    async with speaking(transport, content_platform) as caller:
        yield caller


@pytest.fixture
async def studio(transport: str, asset_studio: Service) -> AsyncGenerator[Caller]:
    """The asset studio's backend, speaking to its ledger."""
    async with speaking(transport, asset_studio) as caller:
        yield caller


@pytest.fixture
def account() -> str:
    """An account that nobody used before."""
    return f"team-{uuid4().hex[:12]}"
