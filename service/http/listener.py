"""Listening on a port: connections, requests that come as a whole, the answer to bytes that are no request, an orderly end.

A connection is aiohttp's, with two differences. What it answers by itself is a problem like every other error. And most
requests are small and arrive in one piece: these are answered from here, with aiohttp's parser but without its request,
response and writer, which cost more than the ledger does. Whatever else there is, a body in pieces, a stream, several
requests at once, a method or a path that is not in the table, goes aiohttp's way.

Answers that are ready at about the same time leave together. Each would wake its reader up, when that sleeps already,
and waking somebody up costs several times what sending does; a reader that is awake takes all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from email.utils import formatdate
from functools import lru_cache
from time import time
from typing import Any, Protocol, cast

from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage

from service.http.answers import Answer, Malformed, answer, first_line, response_of
from service.http.room import Room
from service.replies import failed, refused

BACKLOG = 1024
KEEPALIVE_SECONDS = 75.0
SHUTDOWN_SECONDS_MAX = 10.0
LINGERING_SECONDS_MAX = 2.0
"""How long the rest of a refused body is taken and thrown away, so that its sender comes to read the answer."""
TOGETHER_MAX = 64
"""So many answers leave at once, and wait for no more."""
WITHOUT_BODY = frozenset({204, 304})

_Messages = tuple[list[tuple[RawRequestMessage, StreamReader]], bool, bytes]
_NOTHING: _Messages = ([], False, b"")

_log = logging.getLogger(__name__)


class Handler(Protocol):
    """What answers requests."""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request as it comes."""
        ...

    def whole(self, message: RawRequestMessage, content: StreamReader) -> Coroutine[Any, Any, Answer] | None:
        """Return what answers a request that came as a whole and never raises; None for one that is not served so."""
        ...


class _Together:
    """Sends what was written in one turn of the loop at the beginning of the next one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: list[tuple[asyncio.Transport, bytes]] = []

    def send(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send soon, before anything that is begun from now on."""
        if not self._ready:
            self._loop.call_soon(self.leave)
        self._ready.append((transport, data))
        if len(self._ready) >= TOGETHER_MAX:
            self.leave()

    def leave(self) -> None:
        """Send what waits at once."""
        ready, self._ready = self._ready, []
        for transport, data in ready:
            if not transport.is_closing():
                transport.write(data)


class _Sieve:
    """aiohttp's parser, from whose messages the connection takes the whole requests that it answers itself."""

    __slots__ = ("_connection", "_parser")

    def __init__(self, parser: HttpRequestParser, connection: _Connection) -> None:
        self._parser = parser
        self._connection = connection

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the parser has
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> _Messages:
        """Return the requests in what was received but those that were taken; raises aiohttp's HttpProcessingError."""
        found = self._parser.feed_data(data)
        messages, is_upgraded, _ = found
        if len(messages) == 1 and not is_upgraded and self._connection.takes(*messages[0]):
            self._parser.message_consumed()
            return _NOTHING
        return found


class _Connection(web.RequestHandler):
    """A connection that answers whole requests itself, and in problems even where no request came about."""

    __slots__ = ("_answering", "_later", "_listener")

    def __init__(self, listener: _Listener, loop: asyncio.AbstractEventLoop, **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(listener, loop=loop, **options)
        self._listener = listener
        self._answering: asyncio.Task[None] | None = None
        self._later = b""
        self._parser = cast("HttpRequestParser", _Sieve(self._parser, self))

    def data_received(self, data: bytes) -> None:
        """Take what was received; what comes while a request is answered waits, and lets its sender wait."""
        if self._answering is not None:
            if data and self.transport is not None:
                self._later += data
                self.transport.pause_reading()
        elif data and (self._later or self._is_between_requests()):
            if not self._later:
                self._loop.call_soon(self._go_on)  # by then aiohttp waits for the next request
            self._later += data
        else:
            super().data_received(data)

    def _is_between_requests(self) -> bool:
        """Say whether aiohttp has not come back yet from the last request, or from the beginning."""
        return self._waiter is None and not self._request_in_progress and not self._messages

    def _go_on(self) -> None:
        """Take what had to wait."""
        later, self._later = self._later, b""
        super().data_received(later)

    def takes(self, message: RawRequestMessage, content: StreamReader) -> bool:
        """Begin to answer a request, if it is one that is answered here; says whether it is."""
        waiter = self._waiter
        if (
            waiter is None
            or waiter.done()  # aiohttp has a request of this connection
            or self._paused
            or self._reading_paused
            or message.should_close
            or message.upgrade
            or message.version != HttpVersion11
            or not message.path.startswith("/")
            or not content.is_eof()
            or hdrs.EXPECT in message.headers
        ):
            return False
        work = self._listener.handler.whole(message, content)
        if work is None:
            return False
        self._request_in_progress = True
        self._answering = self._loop.create_task(self._answer(work))
        return True

    async def _answer(self, work: Coroutine[Any, Any, Answer]) -> None:
        try:
            given = await work
        except BaseException:  # a cancellation that leaked out of it: whoever waits must not wait for ever
            self.force_close()
            raise
        finally:
            self._answering = None
            self._request_in_progress = False
            if self._handler_waiter is not None:  # somebody waits to close the connection, from the next turn on
                self._handler_waiter.set_result(None)
        if self.transport is not None:
            self._listener.together.send(self.transport, _written(given))
        self._next_keepalive_close_time = self._loop.time() + KEEPALIVE_SECONDS
        if self._later and self.transport is not None:
            self.transport.resume_reading()
            self._go_on()

    def force_close(self) -> None:
        """Close the connection, behind an answer that was about to leave."""
        self._listener.together.leave()
        super().force_close()

    def _process_keepalive(self) -> None:
        """Close the connection when it is idle, which aiohttp takes it for while a request is answered here."""
        if self._answering is not None:
            self._next_keepalive_close_time = self._loop.time() + KEEPALIVE_SECONDS
        super()._process_keepalive()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the parser's words, about its own inside
    ) -> web.StreamResponse:
        """Return the answer to bytes that are no HTTP request, after which the connection is closed."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer had begun")
        if status >= 500:
            _log.error("a request failed outside of its endpoint", exc_info=exc)
            response = response_of(answer(failed()))
        else:
            response = response_of(answer(refused(Malformed("the bytes received are not an HTTP/1.1 request"))))
        response.force_close()
        return response


class _Listener(web.Server):
    """Makes such connections."""

    def __init__(self, handler: Handler, room: Room, **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(handler, **options)
        self.handler = handler
        self._room = room
        self.together = _Together(self._loop)

    def __call__(self) -> asyncio.Protocol:  # pyright: ignore[reportIncompatibleMethodOverride] - a turned away one too
        if len(self.connections) >= self._room.connections_max:
            return self._room.turn_away()
        return _Connection(self, self._loop, **self._kwargs)


def _written(given: Answer) -> bytes:
    """Return an answer as it is sent."""
    status, head, body = given
    if status in WITHOUT_BODY:
        return b"%b%bDate: %b\r\n\r\n" % (first_line(status), head, _date(int(time())))
    return b"%b%bContent-Length: %d\r\nDate: %b\r\n\r\n%b" % (
        first_line(status),
        head,
        len(body),
        _date(int(time())),
        body,
    )


@lru_cache(maxsize=2)
def _date(seconds: int) -> bytes:
    """Return an instant as the header `Date` has it."""
    return formatdate(seconds, usegmt=True).encode("ascii")


class Port:
    """One port and what listens on it."""

    def __init__(self, handler: Handler, host: str, port: int) -> None:
        self.host = host
        self.room = Room()
        self._handler = handler
        self._port = port
        self._listener: _Listener | None = None
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None

    @property
    def connections(self) -> int:
        """How many callers are connected."""
        return 0 if self._listener is None else len(self._listener.connections)

    @property
    def port(self) -> int:
        """The port asked for, and once it listens the one it has."""
        return self._port if self._site is None else self._site.port

    async def start(self) -> None:
        """Listen; raises OSError."""
        listener = _Listener(
            self._handler,
            self.room,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGERING_SECONDS_MAX,
        )
        runner = web.ServerRunner(listener, shutdown_timeout=SHUTDOWN_SECONDS_MAX)
        await runner.setup()
        site = web.TCPSite(runner, self.host, self._port, backlog=BACKLOG)
        try:
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        self._listener, self._runner, self._site = listener, runner, site

    async def stop(self) -> None:
        """Stop listening and wait for what runs; without effect when it does not listen."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
