"""Listening on a port: connections, the answer to bytes that are no request, and an orderly end.

A connection is aiohttp's, with one difference: what it answers by itself is a problem like every other error.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from service.http.answers import Malformed, answer
from service.replies import failed, refused

BACKLOG = 1024
KEEPALIVE_SECONDS = 75.0
SHUTDOWN_SECONDS_MAX = 10.0
LINGERING_SECONDS_MAX = 2.0
"""How long the rest of a refused body is taken and thrown away, so that its sender comes to read the answer."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


class _Connection(web.RequestHandler):
    """A connection that answers in problems even where no request came about."""

    __slots__ = ()

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
            response = answer(failed())
        else:
            response = answer(refused(Malformed("the bytes received are not an HTTP/1.1 request")))
        response.force_close()
        return response


class _Listener(web.Server):
    """Makes such connections."""

    def __call__(self) -> _Connection:
        return _Connection(self, loop=self._loop, **self._kwargs)


class Port:
    """One port and what listens on it."""

    def __init__(self, handler: Handler, host: str, port: int) -> None:
        self.host = host
        self._handler = handler
        self._port = port
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None

    @property
    def port(self) -> int:
        """The port asked for, and once it listens the one it has."""
        return self._port if self._site is None else self._site.port

    async def start(self) -> None:
        """Listen; raises OSError."""
        listener = _Listener(
            self._handler,
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
        self._runner, self._site = runner, site

    async def stop(self) -> None:
        """Stop listening and wait for what runs; without effect when it does not listen."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
