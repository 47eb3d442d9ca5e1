"""Whatever bytes come in whatever pieces, the short way of whole requests answers what aiohttp's own way answers."""

import asyncio
import re
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.http.listener import _Connection
from tests.http.stage import Service
from tests.http.test_http_transport import RESERVE, T

ANSWERED_SECONDS_MAX = 20.0
VARYING = re.compile(rb"Date: [^\r]*|20\d\d-\d\d-\d\dT[0-9:.]*Z")
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

METHODS = ["GET", "GET", "GET", "POST", "POST", "HEAD", "OPTIONS", "DELETE", "BREW"]
TARGETS = [
    T + "/balance",
    T + "/balance?unit=%00",
    T + "/bal%61nce",
    T + "/%62alance?a=b#c",
    T.replace("42", "%34%32") + "/quota",
    T + "/../team-42/quota",
    T + "//quota",
    "/" + T + "/quota",
    "http://x" + T + "/quota",
    "//x" + T + "/quota",
    "*",
    RESERVE,
    "/v1/quote",
    "/v1/events?limit=1",
    "/healthz",
    "/v1/nothing",
]
HEADERS = [
    "Host: y",
    "Connection: keep-alive",
    "Connection: close",
    "Expect: 100-continue",
    "Expect: a miracle",
    "Accept: text/csv",
    "Idempotency-Key: same",
    "Idempotency-Key: same\r\nIdempotency-Key: same",
    "Idempotency-Key: \xe9",
    "Idempotency-Key:",
    "Content-Encoding: gzip",
    "If-None-Match: *",
    "X: folded\r\n over two lines",
    "X : a",
    "X: a\0b",
    "X: " + "a" * 9_000,
]
BODY = b'{"amount":1}'
FRAMES = [
    b"\r\n",
    b"\r\n",
    b"Content-Length: 0\r\n\r\n",
    b"Content-Length: 12\r\n\r\n" + BODY,
    b"Content-Length: 12\r\n\r\n" + BODY,
    b"Content-Length: +12\r\n\r\n" + BODY,
    b"Content-Length: 9\r\n\r\n" + BODY,
    b"Content-Length: 17\r\n\r\n" + BODY,
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 99999999999999999999999\r\n\r\n",
    b"Content-Length: 12\r\nContent-Length: 12\r\n\r\n" + BODY,
    b"Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n" + BODY + b"\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nc\r\n" + BODY + b"\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\n" + BODY[:5] + b"\r\n7\r\n" + BODY[5:] + b"\r\n0\r\nA: b\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nd\r\n" + BODY + b"\r\n0\r\n\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n\r\nc\r\n" + BODY + b"\r\n0\r\n\r\n",
    b"Transfer-Encoding: identity\r\n\r\n",
    b"Content-Length: 65537\r\n\r\n" + b" " * 65_537,
]


@st.composite
def sent(draw: st.DrawFn) -> list[bytes]:
    """Some requests, good and bad, as the pieces in which they are sent; the last one ends the connection."""
    requests: list[bytes] = []
    for _ in range(draw(st.integers(1, 4))):
        version = draw(st.sampled_from(["1.1"] * 8 + ["1.0"]))
        first = f"{draw(st.sampled_from(METHODS))} {draw(st.sampled_from(TARGETS))} HTTP/{version}"
        lines = [first, "Host: x", *draw(st.lists(st.sampled_from(HEADERS), max_size=1))]
        head = "".join(line + "\r\n" for line in lines).encode("latin-1")
        request = head + draw(st.sampled_from(FRAMES))
        if draw(st.integers(0, 15)) == 0:
            request = request.replace(b"\r\n", b"\n")
        requests.append(request)
    whole = b"".join([*requests, LAST])
    ends = [sum(map(len, requests[:number])) for number in range(1, len(requests) + 1)]
    odd = st.integers(1, len(whole) - 1)
    cuts = sorted(set(draw(st.lists(st.sampled_from(ends) | odd, max_size=4))))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


async def received(service: Service, pieces: list[bytes]) -> bytes:
    """Everything that comes back until the connection is closed, but instants."""
    loop = asyncio.get_running_loop()
    got = b""
    with socket.socket() as caller:
        caller.setblocking(False)
        await loop.sock_connect(caller, ("127.0.0.1", service.server.port))
        try:
            async with asyncio.timeout(ANSWERED_SECONDS_MAX):
                with suppress(ConnectionError):  # behind a refusal nothing is read; what was answered can be read still
                    for piece in pieces:
                        await loop.sock_sendall(caller, piece)
                        for _ in range(20):
                            await asyncio.sleep(0)  # the server, in this same loop, reads it apart from the next
                with suppress(ConnectionError):
                    while data := await loop.sock_recv(caller, 65_536):
                        got += data
        except TimeoutError:
            got += b" and nothing more"
    return VARYING.sub(b"", got)


@contextmanager
def the_long_way() -> Generator[None]:
    """Every request goes aiohttp's own way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Connection, "takes", lambda *_: False)
        yield


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=sent())
async def test_the_same_bytes_get_the_same_answers_on_both_ways(shared: Service, pieces: list[bytes]) -> None:
    await shared.do("POST", RESERVE, {"amount": 1}, key="same")
    short = await received(shared, pieces)
    with the_long_way():
        long = await received(shared, pieces)
    assert short == long
