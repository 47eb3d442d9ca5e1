"""A lean NATS request/reply load generator that speaks the text protocol itself.

One connection, one wildcard subscription for the replies, two reply subjects for each lane which take turns, so that a
second answer to a request is seen as what it is and never counted. All answers that arrive in
one read are checked in one pass and the requests that follow from them leave in one write, which is what a pipelining
client library would do at best.
"""

import asyncio
import secrets

from bench.jobs import Nats
from bench.measure import BenchError, Pump, Window
from bench.wire import NatsRequest, nats_pairs

HANDSHAKE_SECONDS_MAX = 5.0
CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"name":"bench"}\r\n'


async def nats(job: Nats) -> Window:
    """Runs one round; the connection stands and the replies are subscribed before the window opens."""
    load = job.load
    pump = Pump[NatsRequest](nats_pairs(load, job.subject), load.in_flight, load.seconds)
    requester = Requester(pump, load.in_flight, job.status)
    await asyncio.get_running_loop().create_connection(lambda: requester, "127.0.0.1", job.port)
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
            await requester.ready
        pump.start()
        requester.begin()
        return await pump.result()
    finally:
        requester.close()


class Requester(asyncio.Protocol):
    """A connection with many requests in flight, told apart by the last token of the reply subject."""

    def __init__(self, pump: Pump[NatsRequest], lanes: int, status: int | None) -> None:
        inbox = f"_INBOX.bench{secrets.token_hex(8)}."
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pump = pump
        self._status = None if status is None else f"Status: {status}\r\n".encode()
        self._hello = CONNECT + f"SUB {inbox}* 1\r\nPING\r\n".encode()
        self._turns = [1] * lanes
        self._reply_subjects = [[f"{inbox}{turn}{lane}".encode() for turn in (0, 1)] for lane in range(lanes)]
        self._inbox_length = len(inbox)
        self._received = b""
        self._outgoing: list[bytes] = []
        self._transport: asyncio.WriteTransport
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says hello and subscribes the replies; the PONG says that the server has done both."""
        self._transport = transport  # type: ignore[assignment]
        self._transport.write(self._hello)

    def begin(self) -> None:
        """Sends the first request of every lane."""
        for lane in range(len(self._reply_subjects)):
            self._queue_next(lane)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Takes every whole protocol message that has arrived, then sends what follows from them."""
        if self._received:
            data = self._received + data
        at = 0
        while (line_end := data.find(b"\r\n", at)) >= 0:
            if data.startswith((b"MSG ", b"HMSG "), at):
                fields = data[at:line_end].split(b" ")
                end = line_end + 2 + int(fields[-1])
                if len(data) < end + 2:
                    break
                self._answered(fields, data[line_end + 2 : end])
                at = end + 2
            else:
                self._control(data[at:line_end])
                at = line_end + 2
        self._received = data[at:]
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """A broker that hangs up has failed the round."""
        if not self._closing:
            self._pump.fail(BenchError(f"the NATS server closed the connection ({exc})"))

    def close(self) -> None:
        """Ends the connection from this side."""
        self._closing = True
        self._transport.close()

    def _answered(self, fields: list[bytes], message: bytes) -> None:
        lane = int(fields[1][self._inbox_length + 1 :])
        if fields[1] != self._reply_subjects[lane][self._turns[lane]]:
            self._pump.fail(BenchError(f"a request was answered twice: {message[:600]!r}"))
            return
        if self._status is None:
            good = fields[0] == b"MSG" and message.startswith(b"{")
        else:
            good = fields[0] == b"HMSG" and message.find(self._status, 0, int(fields[-2])) > 0
        if not good:
            self._pump.fail(BenchError(f"expected {self._status or b'a plain answer'!r}, got: {message[:600]!r}"))
            return
        self._pump.answered(lane)
        self._queue_next(lane)

    def _control(self, line: bytes) -> None:
        if line == b"PING":
            self._outgoing.append(b"PONG\r\n")
        elif line == b"PONG":
            if not self.ready.done():
                self.ready.set_result(None)
        elif line.startswith(b"-ERR"):
            self._pump.fail(BenchError(f"the NATS server said {line!r}"))

    def _queue_next(self, lane: int) -> None:
        request = self._pump.take(lane)
        if request is not None:
            before, after = request
            self._turns[lane] = turn = 1 - self._turns[lane]
            self._outgoing += (before, self._reply_subjects[lane][turn], after)

    def _flush(self) -> None:
        if self._outgoing:
            self._transport.write(b"".join(self._outgoing))
            self._outgoing.clear()
