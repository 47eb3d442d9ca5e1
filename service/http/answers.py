"""Responses: what the gateway replies, and what goes wrong before it is asked, as HTTP.

Every error is `application/problem+json`, whoever found it. Nothing is cached, for an answer is true when it is sent; what
has a tag may be kept and asked for again. The headers are put together once, and a response copies them.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from multidict import CIMultiDict

from events.errors import Refusal
from service.replies import Reply

_COMMON = {"Server": "credit-ledger", "Cache-Control": "no-store"}
REVALIDATED = "private, no-cache"
"""May be kept by who asked, and is asked for again each time."""
JSON = CIMultiDict({**_COMMON, "Content-Type": "application/json"})
PROBLEM = CIMultiDict({**_COMMON, "Content-Type": "application/problem+json"})
UNAUTHENTICATED = CIMultiDict({**PROBLEM, "WWW-Authenticate": 'Bearer realm="credit-ledger"'})
LINES = CIMultiDict({**_COMMON, "Content-Type": "application/x-ndjson"})


class MethodNotAllowed(Refusal):
    """The path is there, for other methods; `allow` names them."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"


class Malformed(Refusal):
    """The bytes that came are not an HTTP request."""

    code = "malformed_request"
    status = 400
    title = "The request is malformed"


class Encoded(Refusal):
    """The body is compressed, which is not undone: what it unpacks to has no bound that its sender pays for."""

    code = "unsupported_encoding"
    status = 415
    title = "The body is encoded"


class TooSlow(Refusal):
    """The body did not arrive in time."""

    code = "request_timeout"
    status = 408
    title = "The body did not arrive in time"


def answer(reply: Reply) -> web.Response:
    """Return the response that carries a reply."""
    if reply.code is None:
        return web.Response(status=reply.status, body=reply.body, headers=JSON)
    headers = UNAUTHENTICATED if reply.status == 401 else PROBLEM
    response = web.Response(status=reply.status, body=reply.body, headers=headers)
    if reply.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(reply.retry_after_seconds)
    return response


def tagged(reply: Reply, etag: str) -> web.Response:
    """Return the response that carries a reply which may be kept, and asked for again with its tag."""
    response = answer(reply)
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = REVALIDATED
    return response


def not_modified(etag: str) -> web.Response:
    """Return the response for a caller that has the content already."""
    return web.Response(status=304, headers={**_COMMON, "Cache-Control": REVALIDATED, "ETag": etag})


def csv_answer(body: bytes, next_cursor: str | None, as_of: str) -> web.Response:
    """Return a list as CSV, with what JSON has beside it in the headers `Next-Cursor` and `As-Of`."""
    headers = {**_COMMON, "Content-Type": "text/csv; charset=utf-8", "Vary": "Accept", "As-Of": as_of}
    if next_cursor is not None:
        headers["Next-Cursor"] = next_cursor
    return web.Response(body=body, headers=headers)


def text(body: str, content_type: str) -> web.Response:
    """Return a response of plain text."""
    return web.Response(body=body.encode(), headers={**_COMMON, "Content-Type": content_type})


def html(body: str, policy: str) -> web.Response:
    """Return a page; `policy` says what it may load."""
    response = text(body, "text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def allowing(response: web.Response, methods: str) -> web.Response:
    """Return the response with the methods that the path takes."""
    response.headers["Allow"] = methods
    return response


def nothing(headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a response without a body."""
    return web.Response(status=204, headers={**_COMMON, **(headers or {})})
