"""A lean HTTP/1.1 load generator: prepared bytes out, the status and Content-Length of the answer in, nothing else.

It shares two cores with the server it measures, so it is an `asyncio.Protocol` that answers each response with the
next request in the same callback: no tasks, no futures, no parser. It expects what an HTTP server behind keep-alive
connections sends: a status line, a Content-Length, a body; anything else ends the round.
"""

import asyncio

from bench.jobs import Http
from bench.measure import BenchError, Pump, Window
from bench.wire import http_openings, http_pairs


async def http(job: Http) -> Window:
    """Runs one round with one connection for each lane, all connected before the window opens."""
    load = job.load
    pairs = http_openings(load) if job.opening else http_pairs(load)
    pump = Pump[bytes](pairs, load.in_flight, load.seconds)
    loop = asyncio.get_running_loop()
    expected = f"HTTP/1.1 {job.status} ".encode()
    connections: list[Connection] = []
    try:
        for lane in range(load.in_flight):
            connection = Connection(pump, lane, expected)
            await loop.create_connection(lambda made=connection: made, "127.0.0.1", job.port)
            connections.append(connection)
        pump.start()
        for connection in connections:
            connection.send_next()
        return await pump.result()
    finally:
        for connection in connections:
            connection.close()


class Connection(asyncio.Protocol):
    """One keep-alive connection, with one request in flight at any time."""

    def __init__(self, pump: Pump[bytes], lane: int, expected: bytes) -> None:
        self._pump = pump
        self._lane = lane
        self._expected = expected
        self._received = b""
        self._transport: asyncio.Transport
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport; the window opens later."""
        self._transport = transport  # type: ignore[assignment]

    def send_next(self) -> None:
        """Sends the lane's next request, if there is one."""
        request = self._pump.take(self._lane)
        if request is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Takes a piece of the answer, and when it is whole, checks it and sends the next request."""
        if self._received:
            data = self._received + data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0 or len(data) < (end := head_end + 4 + content_length(data, head_end)):
            self._received = data
            return
        self._received = b""
        if len(data) > end or not data.startswith(self._expected):
            self._pump.fail(BenchError(f"expected {self._expected.decode()}and one answer, got: {data[:600]!r}"))
            return
        self._pump.answered(self._lane)
        self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        """A server that closes a connection during the round has failed it."""
        if not self._closing:
            self._pump.fail(BenchError(f"the server closed a connection ({exc})"))

    def close(self) -> None:
        """Ends the connection from this side."""
        self._closing = True
        self._transport.close()


def content_length(data: bytes, head_end: int) -> int:
    """The length of the body; a head without one is treated as malformed.

    Raises:
        BenchError: there is no Content-Length.
    """
    start = data.find(b"\r\nContent-Length: ", 0, head_end)
    if start < 0:
        start = data[:head_end].lower().find(b"\r\ncontent-length: ")
        if start < 0:
            raise BenchError(f"an answer without Content-Length: {data[:head_end]!r}")
    start += 18
    line_end = data.find(b"\r\n", start)
    return int(data[start:line_end])
