"""A lean HTTP/1.1 load generator: prepared bytes out, the status and Content-Length of the answer in, nothing else.

It shares the machine with the server it measures, so it is an `asyncio.Protocol` that answers each response with the
next request in the same callback: no tasks, no futures, no parser. It expects what an HTTP server behind keep-alive
connections sends: a status line, a Content-Length, a body; anything else ends the round.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterable
from typing import NamedTuple, cast

from service.benching.pump import BenchError, Pump, Window

CONNECT_SECONDS_MAX = 10.0
SHOWN_BYTES_MAX = 600


class HttpAddress(NamedTuple):
    """Where a ledger answers."""

    host: str
    port: int
    tls: bool = False


class Good(NamedTuple):
    """What a good answer is: its status, and how many commands of a batch must say that they were written.

    `or_replayed` allows 200 as well, which is how a command is answered that was written before.
    """

    status: int
    written: int = 0
    or_replayed: bool = False

    @property
    def statuses(self) -> tuple[int, ...]:
        """The statuses that are good."""
        return (self.status, 200) if self.or_replayed else (self.status,)

    def is_body(self, body: bytes | bytearray) -> bool:
        """Whether the body says so."""
        return not self.written or body.count(b'{"status":201,') == self.written


async def http_load(pump: Pump[bytes], address: HttpAddress, good: Good) -> Window:
    """Runs one round with one connection for each lane, all connected before the window opens.

    Raises:
        BenchError: nobody listens, an answer was not the one that was expected, or one did not come.
    """
    loop = asyncio.get_running_loop()
    tls = ssl.create_default_context() if address.tls else None
    connections: list[Connection] = []

    def wake(lanes: Iterable[int]) -> None:
        for lane in lanes:
            connections[lane].send_next()

    pump.wake = wake
    try:
        for lane in range(pump.lanes):
            connection = Connection(pump, lane, good)
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await loop.create_connection(lambda made=connection: made, address.host, address.port, ssl=tls)
            connections.append(connection)
        pump.start()
        wake(range(pump.lanes))
        return await pump.result()
    except OSError as error:  # TimeoutError is one
        raise BenchError(f"{address.host}:{address.port} cannot be reached: {error or 'no answer'}") from None
    finally:
        for connection in connections:
            connection.close()


class Connection(asyncio.Protocol):
    """One keep-alive connection, with one request in flight at any time."""

    def __init__(self, pump: Pump[bytes], lane: int, good: Good) -> None:
        self._pump = pump
        self._lane = lane
        self._good = good
        self._expected = tuple(f"HTTP/1.1 {status} ".encode() for status in good.statuses)
        self._received = bytearray()
        self._wanted = 0
        self._transport: asyncio.Transport
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport; the window opens later."""
        self._transport = cast("asyncio.Transport", transport)

    def send_next(self) -> None:
        """Sends the lane's next request, if there is one."""
        request = self._pump.take(self._lane)
        if request is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Takes a piece of the answer, and when it is whole, checks it and sends the next request."""
        whole: bytes | bytearray = data
        if self._received or self._wanted:
            self._received += data
            if len(self._received) < self._wanted:
                return
            whole = self._received
        try:
            end = answer_length(whole)
        except BenchError as error:
            self._pump.fail(error)
            return
        if len(whole) < end or not end:
            self._wanted = end
            if whole is data:
                self._received += data
            return
        self._received, self._wanted = bytearray(), 0
        if len(whole) > end or not whole.startswith(self._expected) or not self._good.is_body(whole):
            self._pump.fail(unexpected(self._good, whole))
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


def unexpected(good: Good, answer: bytes | bytearray) -> BenchError:
    """The error that an answer is: a problem in its own words, anything else as it came."""
    wanted = " or ".join(str(status) for status in good.statuses)
    _, _, body = answer.partition(b"\r\n\r\n")
    try:
        problem = json.loads(bytes(body))
        told = f"{problem['status']} {problem['code']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        told = repr(bytes(answer[:SHOWN_BYTES_MAX]))
    return BenchError(f"expected an answer with status {wanted}, got {told}")


def answer_length(data: bytes | bytearray) -> int:
    """The length of an answer, head and body, or 0 while the head is not there as a whole.

    Raises:
        BenchError: there is no Content-Length.
    """
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return 0
    start = data.find(b"\r\nContent-Length: ", 0, head_end)
    if start < 0:
        start = data[:head_end].lower().find(b"\r\ncontent-length: ")
        if start < 0:
            raise BenchError(f"an answer without Content-Length: {bytes(data[:head_end])!r}")
    start += 18
    line_end = data.find(b"\r\n", start)
    return head_end + 4 + int(data[start:line_end])
