"""A provider that makes nothing, quickly, and fails when the prompt tells it to.

refuse    it will not do this                 busy      it is busy for the first two times that it is told
fail      it fails for good                   flaky     the first attempt fails, the next one does not
partial   one image is missing                silent    it never says a word
stammer   it says everything three times, the end before the progress
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from examples.generation_service.signing import sign_webhook

TELLS_MAX = 30
PAUSE_SECONDS_MAX = 5.0

_log = logging.getLogger(__name__)


class FakeProvider:
    """The provider; `application` serves it, and it signs its webhooks with `secret`."""

    def __init__(self, secret: bytes, url: str, seconds: float = 1.0) -> None:
        self.begun: dict[str, str] = {}
        """The id of each generation by the key with which it was begun."""
        self._secret = secret
        self._url = url
        self._seconds = seconds
        self._busy: dict[str, int] = {}
        self._running: set[asyncio.Task[None]] = set()

    def application(self) -> web.Application:
        """Return the application: generations to begin, and the files that they made."""
        app = web.Application()
        app.router.add_post("/generations", self._begin)
        app.router.add_get("/files/{name}", self._file)

        async def stop(_: web.Application) -> None:
            for task in self._running:
                task.cancel()

        app.on_shutdown.append(stop)
        return app

    async def _begin(self, request: web.Request) -> web.Response:
        key, asked = request.headers["Idempotency-Key"], await request.json()
        prompt = asked["prompt"]
        if "refuse" in prompt:
            return web.Response(status=422, text="this cannot be made")
        if "busy" in prompt and self._busy.setdefault(key, 0) < 2:
            self._busy[key] += 1
            return web.Response(status=503)
        if key not in self.begun:
            self.begun[key] = f"gen-{len(self.begun) + 1}"
            task = asyncio.create_task(self._generate(self.begun[key], asked))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return web.json_response({"id": self.begun[key]}, status=202)

    async def _generate(self, generation: str, asked: dict[str, Any]) -> None:
        prompt = asked["prompt"]
        about = {"job": asked["job"], "attempt": asked["attempt"]}
        steps = [{**about, "type": "progress", "percent": percent} for percent in (25, 75)]
        if "fail" in prompt or ("flaky" in prompt and asked["attempt"] == 1):
            steps.append({**about, "type": "failed", "error": "out of memory", "retryable": "flaky" in prompt})
        else:
            count = asked["quantity"] - ("partial" in prompt) if asked["type"] == "image_generation" else 1
            files = [f"{self._url}/files/{generation}-{number}.svg" for number in range(count)]
            steps.append({**about, "type": "succeeded", "results": files})
        if "silent" in prompt:
            return
        if "stammer" in prompt:
            steps = [step for step in reversed(steps) for _ in range(3)]
        for step in steps:
            await asyncio.sleep(self._seconds / len(steps))
            await self._tell(asked["webhook"], step)

    async def _tell(self, webhook: str, news: dict[str, Any]) -> None:
        """Send a webhook until it is taken, signed anew each time."""
        body = json.dumps(news).encode()
        pause = 0.05
        async with aiohttp.ClientSession() as session:
            for _ in range(TELLS_MAX):
                headers = {"Provider-Signature": sign_webhook(self._secret, body, datetime.now(UTC))}
                with suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with session.post(webhook, data=body, headers=headers) as answer:
                        if answer.status < 500:
                            return
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSE_SECONDS_MAX)
        _log.warning("nobody took %s", news)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if not name.startswith("gen-"):
            raise web.HTTPNotFound
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="240" height="40"><text y="24">{name}</text></svg>'
        return web.Response(text=svg, content_type="image/svg+xml")
