"""Operations: is the process alive, is it ready, what does it measure. Open to whoever reaches the port."""

from __future__ import annotations

import asyncio

import orjson

from service import asyncapi as asyncapi_document
from service.http.answers import Answer, answer, html, text
from service.http.endpoints import Serve
from service.http.incoming import Incoming
from service.openapi import document as openapi_document
from service.openapi.page import POLICY, page
from service.replies import Reply, problem
from service.store.feed import Feed
from service.telemetry.health import Health
from service.telemetry.metrics import CONTENT_TYPE, Metrics


def operations(feed: Feed, health: Health, metrics: Metrics) -> dict[str, Serve]:
    """Return what serves each operation, by name."""
    heads = metrics.number("gauge", "credit_ledger_head_position", "Position of a partition's last event.", "partition")

    async def measure_heads() -> None:
        heads.clear()  # a figure that cannot be read now is left out, not repeated
        for partition, position in (await feed.heads()).items():
            heads.labels(str(partition)).value = position

    metrics.probe(measure_heads)

    async def alive(_request: Incoming, _path: dict[str, str]) -> Answer:
        return answer(Reply(200, b'{"status":"alive"}'))

    async def ready(_request: Incoming, _path: dict[str, str]) -> Answer:
        failures = await health.failures()
        if not failures:
            alarms = health.alarms()
            return answer(
                Reply(200, orjson.dumps({"status": "ready", "alarms": alarms} if alarms else {"status": "ready"}))
            )
        detail = "not ready: " + "; ".join(f"{part}: {failure}" for part, failure in failures.items())
        body = problem(503, "unavailable", "Not ready", detail, {"parts": failures})
        return answer(Reply(503, body, "unavailable", retry_after_seconds=1))

    async def measures(_request: Incoming, _path: dict[str, str]) -> Answer:
        return text(await metrics.exposition(), CONTENT_TYPE)

    async def asyncapi(_request: Incoming, _path: dict[str, str]) -> Answer:
        return answer(Reply(200, asyncapi_document.document()))

    async def openapi(_request: Incoming, _path: dict[str, str]) -> Answer:
        # Made at the first request, which takes a fifth of a second.
        return answer(Reply(200, await asyncio.to_thread(openapi_document.document)))

    async def docs(_request: Incoming, _path: dict[str, str]) -> Answer:
        return html(await asyncio.to_thread(page), POLICY)

    return {
        "health": alive,
        "readiness": ready,
        "metrics": measures,
        "asyncapi": asyncapi,
        "openapi": openapi,
        "docs": docs,
    }
