"""Answers: what the gateway replies, and what goes wrong before it is asked, as HTTP.

Every error is `application/problem+json`, whoever found it. Nothing is cached, for an answer is true when it is sent; what
has a tag may be kept and asked for again. The lines of a head are put together once, and answers share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web
from multidict import CIMultiDict

from events.errors import Refusal
from service.replies import Reply

_COMMON = {"Server": "credit-ledger", "Cache-Control": "no-store"}
REVALIDATED = "private, no-cache"
"""May be kept by who asked, and is asked for again each time."""


class Answer(NamedTuple):
    """A whole answer: its head without the first line, the length and the date, which are the connection's to add."""

    status: int
    head: bytes
    body: bytes


def head_of(headers: Mapping[str, str]) -> bytes:
    """Return the lines of a head; no value is a caller's."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")


JSON = head_of({**_COMMON, "Content-Type": "application/json"})
PROBLEM = head_of({**_COMMON, "Content-Type": "application/problem+json"})
UNAUTHENTICATED = PROBLEM + head_of({"WWW-Authenticate": 'Bearer realm="credit-ledger"'})
TAGGED = head_of({"Server": "credit-ledger", "Cache-Control": REVALIDATED, "Content-Type": "application/json"})
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


def answer(reply: Reply) -> Answer:
    """Return the answer that carries a reply."""
    if reply.code is None:
        return Answer(reply.status, JSON, reply.body)
    head = UNAUTHENTICATED if reply.status == 401 else PROBLEM
    if reply.retry_after_seconds is not None:
        head += b"Retry-After: %d\r\n" % reply.retry_after_seconds
    return Answer(reply.status, head, reply.body)


def tagged(reply: Reply, etag: str) -> Answer:
    """Return the answer that carries a reply which may be kept, and asked for again with its tag."""
    return Answer(reply.status, b"%bETag: %b\r\n" % (TAGGED, etag.encode("ascii")), reply.body)


def not_modified(etag: str) -> Answer:
    """Return the answer for a caller that has the content already."""
    return Answer(304, head_of({**_COMMON, "Cache-Control": REVALIDATED, "ETag": etag}), b"")


def csv_answer(body: bytes, next_cursor: str | None, as_of: str) -> Answer:
    """Return a list as CSV, with what JSON has beside it in the headers `Next-Cursor` and `As-Of`."""
    headers = {**_COMMON, "Content-Type": "text/csv; charset=utf-8", "Vary": "Accept", "As-Of": as_of}
    if next_cursor is not None:
        headers["Next-Cursor"] = next_cursor
    return Answer(200, head_of(headers), body)


def text(body: str, content_type: str) -> Answer:
    """Return an answer of plain text."""
    return Answer(200, head_of({**_COMMON, "Content-Type": content_type}), body.encode())


def html(body: str, policy: str) -> Answer:
    """Return a page; `policy` says what it may load."""
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return Answer(200, head_of({**_COMMON, **headers}), body.encode())


def allowing(given: Answer, methods: str) -> Answer:
    """Return the answer with the methods that the path takes."""
    return given._replace(head=given.head + head_of({"Allow": methods}))


def nothing() -> Answer:
    """Return an answer without a body."""
    return Answer(204, head_of(_COMMON), b"")


def response_of(given: Answer) -> web.Response:
    """Return the answer as aiohttp sends it."""
    lines = (line.partition(": ") for line in given.head.decode("ascii").split("\r\n")[:-1])
    headers = CIMultiDict((name, value) for name, _, value in lines)
    return web.Response(status=given.status, body=given.body or None, headers=headers)


@lru_cache(maxsize=128)
def first_line(status: int) -> bytes:
    """Return the first line of an answer."""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode("ascii")
