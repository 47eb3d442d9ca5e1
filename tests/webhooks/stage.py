"""A ledger whose alerts go to receivers that listen, fail, dawdle or are away, as a test tells them."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from aiohttp import web

from service.embedded.child import free_port
from service.webhooks.receivers import Receiver, key_of

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
Mood = Literal["well", "fails", "dawdles", "gone", "redirects", "floods"]


@dataclass
class Listener:
    """A receiver of webhooks on this machine."""

    name: str
    port: int
    mood: Mood = "well"
    got: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list[tuple[Mapping[str, str], bytes]])
    asked: int = 0
    at_once: int = 0
    at_once_max: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: bool = False

    @property
    def receiver(self) -> Receiver:
        return Receiver(self.name, f"http://127.0.0.1:{self.port}/hook", (key_of(SECRET),))

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was taken, in the order in which it came."""
        return [json.loads(body) for _, body in self.got]

    @property
    def told(self) -> list[str]:
        return [f"{event['data']['kind']} {event['data']['account']}" for event in self.events]

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked += 1
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            return await self._answer(request)
        finally:
            self.at_once -= 1

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        match self.mood:
            case "fails":
                return web.Response(status=500)
            case "gone":
                return web.Response(status=410)
            case "redirects":
                return web.Response(status=307, headers={"Location": f"http://127.0.0.1:{self.port}/other"})
            case "dawdles":
                await self.released.wait()
                if self.leaving:
                    return web.Response(status=503)
            case "floods":
                response = web.StreamResponse()
                await response.prepare(request)
                while True:
                    await response.write(b"x" * 65536)
            case "well":
                pass
        assert is_signed(request.headers, body)
        self.got.append((dict(request.headers), body))
        return web.Response(status=204)


def is_signed(headers: Mapping[str, str], body: bytes, secret: str = SECRET) -> bool:
    """Whether one of the signatures is that of the secret."""
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key_of(secret), content, sha256)).decode()
    return f"v1,{expected}" in headers["webhook-signature"].split(" ")


@asynccontextmanager
async def listening(listener: Listener) -> AsyncGenerator[Listener]:
    """Let a receiver listen."""
    runner = web.ServerRunner(web.Server(listener.answer), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", listener.port).start()
    try:
        yield listener
    finally:
        listener.leaving = True
        listener.released.set()
        await runner.cleanup()
        listener.released.clear()
        listener.leaving = False


def listener(name: str = "crm", mood: Mood = "well") -> Listener:
    """A receiver that is still away."""
    return Listener(name, free_port(), mood)
