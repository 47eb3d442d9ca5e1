"""`GET /v1/events`: the log as newline-delimited JSON, the lines as they are stored.

The first page is read before the response begins, so that whatever is wrong is still answered as a problem. When the
stream breaks later, the connection is cut without the end mark that a complete response has: an export that misses
lines never looks whole. A reader that takes nothing for a minute is cut off in the same way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

import orjson
from aiohttp import hdrs, web
from pydantic import TypeAdapter, ValidationError

from events.asking import invalid
from service.http.answers import LINES
from service.http.endpoints import Door, Stream
from service.http.incoming import boolean, numbered, parameters
from service.http.routes import Route
from service.outages import Outage
from service.store.feed import Feed, FeedQuery

TAKE_SECONDS_MAX = 60.0

_log = logging.getLogger(__name__)
_queries: TypeAdapter[FeedQuery] = TypeAdapter(FeedQuery)


def events(route: Route, door: Door, feed: Feed) -> Stream:
    """Return what serves the log."""
    scope = route.scope

    async def serve(request: web.BaseRequest, _path: dict[str, str]) -> web.StreamResponse:
        given = parameters(request)
        principal = door.admit(request, scope, given.get("account"))
        async with aclosing(feed.stream(_parsed(given), principal.prefixes)) as pages:
            first = await anext(pages, b"")
            if request.method == hdrs.METH_HEAD:
                return web.Response(headers=LINES)
            return await _send(request, first, pages)

    return serve


def _parsed(given: dict[str, str]) -> FeedQuery:
    fields = numbered(given)
    if "follow" in given:
        fields["follow"] = boolean("follow", given["follow"])
    try:
        return _queries.validate_json(orjson.dumps(fields))
    except ValidationError as error:
        raise invalid(error) from None


async def _send(request: web.BaseRequest, first: bytes, pages: AsyncIterator[bytes]) -> web.StreamResponse:
    """Send the pages as they come, as fast as they are taken; returns when they end or the reader is gone."""
    response = web.StreamResponse(headers=LINES)
    try:
        await response.prepare(request)
        await _take(response, first)
        async for page in pages:
            if request.transport is None:
                break
            await _take(response, page)
        async with asyncio.timeout(TAKE_SECONDS_MAX):
            await response.write_eof()
    except ConnectionError:
        pass  # the reader is gone, which is its right
    except TimeoutError:
        _log.warning("a stream of events was cut: its reader took nothing for %g s", TAKE_SECONDS_MAX)
        _cut(request)
    except Outage as outage:
        _log.warning("a stream of events was cut: %s", outage.detail)
        _cut(request)
    except Exception:  # noqa: BLE001 - whatever it is, a broken stream must not look whole
        _log.exception("a stream of events failed")
        _cut(request)
    return response


async def _take(response: web.StreamResponse, page: bytes) -> None:
    if page:
        async with asyncio.timeout(TAKE_SECONDS_MAX):
            await response.write(page)


def _cut(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()
