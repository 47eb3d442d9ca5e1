"""A lean NATS request/reply load generator that speaks the text protocol itself.

One connection, one wildcard subscription for the replies, two reply subjects for each lane which take turns, so that a
second answer to a request is seen as what it is and never counted. All answers that arrive in
one read are checked in one pass and the requests that follow from them leave in one write, which is what a pipelining
client library would do at best.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterable
from typing import NamedTuple, cast

from service.benching.http_load import SHOWN_BYTES_MAX, Good, unexpected
from service.benching.pump import BenchError, Pump, Window

HANDSHAKE_SECONDS_MAX = 5.0

NatsRequest = tuple[bytes, bytes]
"""What stands before and after the reply subject of a PUB."""


class NatsAddress(NamedTuple):
    """Where a NATS server answers, and what it is told about the caller."""

    host: str
    port: int
    user: str | None = None
    password: str | None = None
    token: str | None = None
    inbox: str = "_INBOX"


async def nats_load(pump: Pump[NatsRequest], address: NatsAddress, good: Good | None) -> Window:
    """Runs one round; the connection stands and the replies are subscribed before the window opens.

    `good` None expects a plain answer without a status. Raises BenchError.
    """
    requester = Requester(pump, address, good)
    pump.wake = requester.wake
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: requester, address.host, address.port)
            await requester.ready
        pump.start()
        requester.wake(range(pump.lanes))
        return await pump.result()
    except OSError as error:  # TimeoutError is one
        raise BenchError(f"NATS at {address.host}:{address.port} cannot be reached: {error or 'no answer'}") from None
    finally:
        requester.close()


class Requester(asyncio.Protocol):
    """A connection with many requests in flight, told apart by the last token of the reply subject."""

    def __init__(self, pump: Pump[NatsRequest], address: NatsAddress, good: Good | None) -> None:
        inbox = f"{address.inbox}.bench{secrets.token_hex(8)}."
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pump = pump
        self._good = good
        statuses = () if good is None else good.statuses
        self._status, *self._other = [f"Status: {status}\r\n".encode() for status in statuses] or [b""]
        self._hello = hello(address) + f"SUB {inbox}* 1\r\nPING\r\n".encode()
        self._turns = [1] * pump.lanes
        self._reply_subjects = [[f"{inbox}{turn}{lane}".encode() for turn in (0, 1)] for lane in range(pump.lanes)]
        self._inbox_length = len(inbox)
        self._received = bytearray()
        self._wanted = 0
        self._outgoing: list[bytes] = []
        self._transport: asyncio.WriteTransport | None = None
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says hello and subscribes the replies; the PONG says that the server has done both."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(self._hello)

    def wake(self, lanes: Iterable[int]) -> None:
        """Sends the next request of lanes that have none under way."""
        for lane in lanes:
            self._queue_next(lane)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Takes every whole protocol message that has arrived, then sends what follows from them."""
        whole: bytes | bytearray = data
        if self._received:
            self._received += data
            if len(self._received) < self._wanted:
                return
            whole = self._received
        at = self._take(whole)
        self._received = bytearray(memoryview(whole)[at:])
        self._wanted = max(0, self._wanted - at)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """A broker that hangs up has failed the round."""
        if not self._closing:
            self._fail(BenchError(f"the NATS server closed the connection ({exc})"))

    def close(self) -> None:
        """Ends the connection from this side."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _take(self, data: bytes | bytearray) -> int:
        """Takes the whole messages at the front of what was received; where they end."""
        at = self._wanted = 0
        while (line_end := data.find(b"\r\n", at)) >= 0:
            if data.startswith((b"MSG ", b"HMSG "), at):
                fields = bytes(data[at:line_end]).split(b" ")
                end = line_end + 2 + int(fields[-1])
                if len(data) < end + 2:
                    self._wanted = end + 2
                    break
                self._answered(fields, data[line_end + 2 : end])
                at = end + 2
            else:
                self._control(bytes(data[at:line_end]))
                at = line_end + 2
        return at

    def _answered(self, fields: list[bytes], message: bytes | bytearray) -> None:
        lane = int(fields[1][self._inbox_length + 1 :])
        if fields[1] != self._reply_subjects[lane][self._turns[lane]]:
            self._pump.fail(BenchError(f"a request was answered twice: {bytes(message[:SHOWN_BYTES_MAX])!r}"))
            return
        if self._good is None:
            is_good = fields[0] == b"MSG" and message.startswith(b"{")
        else:
            is_good = (
                fields[0] == b"HMSG" and self._has_status(message, int(fields[-2])) and self._good.is_body(message)
            )
        if not is_good:
            self._pump.fail(self._unexpected(message))
            return
        self._pump.answered(lane)
        self._queue_next(lane)

    def _has_status(self, message: bytes | bytearray, head_end: int) -> bool:
        return message.find(self._status, 0, head_end) > 0 or any(
            message.find(other, 0, head_end) > 0 for other in self._other
        )

    def _unexpected(self, message: bytes | bytearray) -> BenchError:
        if message.startswith(b"NATS/1.0 503"):
            return BenchError("no ledger takes commands on these subjects, or it takes none now")
        if self._good is None:
            return BenchError(f"expected a plain answer, got {bytes(message[:SHOWN_BYTES_MAX])!r}")
        return unexpected(self._good, message)

    def _control(self, line: bytes) -> None:
        if line == b"PING":
            self._outgoing.append(b"PONG\r\n")
        elif line == b"PONG":
            if not self.ready.done():
                self.ready.set_result(None)
        elif line.startswith(b"-ERR"):
            self._fail(BenchError(f"the NATS server said {line.decode(errors='replace')}"))

    def _fail(self, error: BenchError) -> None:
        if self.ready.done():
            self._pump.fail(error)
        else:
            self.ready.set_exception(error)

    def _queue_next(self, lane: int) -> None:
        request = self._pump.take(lane)
        if request is not None:
            before, after = request
            self._turns[lane] = turn = 1 - self._turns[lane]
            self._outgoing += (before, self._reply_subjects[lane][turn], after)

    def _flush(self) -> None:
        if self._outgoing and self._transport is not None:
            self._transport.write(b"".join(self._outgoing))
            self._outgoing.clear()


def hello(address: NatsAddress) -> bytes:
    """The CONNECT of a client that wants headers and to hear when nobody listens."""
    told: dict[str, object] = {
        "verbose": False,
        "pedantic": False,
        "headers": True,
        "no_responders": True,
        "name": "credit-ledger-bench",
        "lang": "python",
        "version": "1",
        "protocol": 1,
    }
    credentials = {"user": address.user, "pass": address.password, "auth_token": address.token}
    told |= {name: value for name, value in credentials.items() if value is not None}
    return f"CONNECT {json.dumps(told)}\r\n".encode()
