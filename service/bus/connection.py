"""One connection to NATS that lasts, whatever the server or a message does to it.

nats-py reconnects by itself, but three things end its connection for good, and each is met here:

- **The server is away when we start.** Connecting goes on in the background, so everything else can start.
- **The client gives up.** An error that the server reports (expired credentials, too many connections) closes the
  client for good, whatever `max_reconnect_attempts` says. Then a new client is made, and what listened listens again.
- **A message that nats-py cannot read.** A subject that is not UTF-8 or a broken header raises in its read loop, which
  ends: the client stays connected and hears nothing more. Any caller could do that with one message, and the server
  lets it through. `LastingClient` drops the message instead. Its control line is out of reach: a form feed in a subject
  makes nats-py reconnect, which takes a moment and loses nothing that was answered.

A server that vanished without a word is noticed by unanswered pings, within three of them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import (
    BadSubjectError,
    ConnectionClosedError,
    ConnectionDrainingError,
    Error,
    MaxPayloadError,
    OutboundBufferLimitError,
)

from service.ending import ended

PING_SECONDS = 5
RECONNECT_SECONDS = 1
CLOSE_SECONDS_MAX = 5
PENDING_BYTES_MAX = 16 * 1024 * 1024
"""What waits to be sent, also while the server is away, before publishing waits or fails."""

BROKEN = (Error, OSError, RuntimeError)
"""What a connection that breaks while it is closed may raise; the last is uvloop's, of a transport that is closed already."""

_BLANK = re.compile(r"[ \t\r\n]")
"""What would end a subject on the line of a message."""

_log = logging.getLogger(__name__)


class LastingClient(Client):
    """nats-py's client, whose read loop survives messages that it cannot read.

    Much goes through it, so there are two short ways: messages that are handed over as they are read, without a queue
    and a task between (`subscribe_at_once`), and headers that were encoded before (`send`).

    `on_unreadable`, when set, is told subject, reply subject and body of such a message; it must not raise.
    """

    on_unreadable: Callable[[bytes, bytes, bytes], None] | None = None

    def __init__(self) -> None:
        super().__init__()
        self._takers: dict[int, Callable[[Msg], None]] = {}

    async def subscribe_at_once(self, subject: str, take: Callable[[Msg], None], queue: str = "") -> Subscription:
        """Subscribe `take` to a subject: it is called while messages are read, so it only begins what is to be done."""

        async def take_later(message: Msg) -> None:
            take(message)

        subscription = await subscribe(self, subject, take_later, queue)
        self._takers |= {sid: take for sid, each in self._subs.items() if each is subscription}
        return subscription

    async def send(self, subject: str, body: bytes, head: bytes, reply: str = "") -> None:
        """Publish a body behind encoded headers (`head_of`); raises nats-py's Error."""
        if not subject or _BLANK.search(subject) or _BLANK.search(reply):
            raise BadSubjectError
        if self.is_closed:
            raise ConnectionClosedError
        if self.is_draining_pubs:
            raise ConnectionDrainingError
        if not self.is_connected and len(body) + self._pending_data_size > self._max_pending_size:
            raise OutboundBufferLimitError
        whole = len(head) + len(body)
        if whole > self._max_payload:
            raise MaxPayloadError
        first = f"HPUB {subject} {reply} {len(head)} {whole}\r\n".encode()
        await self._send_command(b"%b%b%b\r\n" % (first, head, body))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        try:
            take = self._takers.get(sid)
            if take is None or sid not in self._subs:
                await super()._process_msg(sid, subject, reply, data, headers)
                return
            found = await self._process_headers(headers)  # pyright: ignore[reportUnknownMemberType] - nats-py's
            take(self._build_message(sid, subject, reply, data, found))
        except (UnicodeDecodeError, IndexError):
            _log.warning("a message is not valid NATS: its subject, reply subject or headers are broken")
            if self.on_unreadable is not None:
                self.on_unreadable(subject, reply, data)
        except Exception:  # noqa: BLE001 - whatever it is, the messages behind it are read
            _log.exception("a message could not be taken")


def head_of(headers: Mapping[str, str]) -> bytes:
    """Return the headers of a message as they are sent; names and values are ours, without a line's end."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


class Connection:
    """A connection that is made when the server is there, and made anew when it was closed for good.

    `attach` subscribes what the connection is for; it is called once for each client, not at reconnections, at which
    nats-py subscribes again by itself. `url` may name several servers of a cluster, separated by commas.
    """

    def __init__(
        self,
        url: str,
        *,
        attach: Callable[[LastingClient], Awaitable[None]],
        credentials: Path | None = None,
        name: str = "credit-ledger",
    ) -> None:
        self._servers = [server.strip() for server in url.split(",")]
        self._attach = attach
        self._credentials = credentials
        self._name = name
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._attached = asyncio.Event()
        self._is_loss_told = False

    @property
    def is_connected(self) -> bool:
        """Whether the server can be reached at this moment, as far as we know."""
        return self._client is not None and self._client.is_connected

    def open(self) -> None:
        """Begin to connect; returns at once."""
        self._task = asyncio.create_task(self._keep(), name="nats")

    async def attached(self) -> None:
        """Wait until the server is there and everything listens."""
        await self._attached.wait()

    async def let_go(self) -> None:
        """Make no new client from now on; the present one stays connected until `close`."""
        if self._task is not None:
            await ended([self._task])

    async def close(self) -> None:
        """Send what still waits to be sent, and close; takes a few seconds at most."""
        await self.let_go()
        client = self._client
        if client is None or not (client.is_connected or client.is_reconnecting or client.is_connecting):
            return
        with suppress(*BROKEN, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await (client.drain() if client.is_connected else client.close())

    async def _keep(self) -> None:
        """Connect, and connect anew whenever the client has given up."""
        while True:
            ended = asyncio.Event()
            try:
                client = await self._connect(ended)
                await self._attach(client)
                await client.flush()
                self._attached.set()
                await ended.wait()
                _log.error("the NATS connection was closed for good (%s); making a new one", client.last_error)
            except (Error, OSError) as error:
                _log.warning("cannot listen on NATS: %s", error)
            except Exception:  # noqa: BLE001 - the ledger serves over HTTP meanwhile, and the next try may succeed
                _log.exception("cannot connect to NATS")
            self._attached.clear()
            if self._client is not None and not self._client.is_closed:
                with suppress(*BROKEN):
                    await self._client.close()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _connect(self, ended: asyncio.Event) -> LastingClient:
        """Return a connected client; waits for as long as the server is away."""
        client = self._client = LastingClient()

        async def on_error(error: Exception) -> None:
            self._tell_error(client, error)

        async def on_disconnected() -> None:
            if not client.is_closed:
                _log.warning("the connection to NATS is lost")
                self._is_loss_told = True

        async def on_connected() -> None:
            _log.info("connected to NATS again")
            self._is_loss_told = False

        async def on_closed() -> None:
            ended.set()

        await client.connect(
            self._servers,
            name=self._name,
            user_credentials=None if self._credentials is None else str(self._credentials),
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_connected,
            closed_cb=on_closed,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_SECONDS,
            ping_interval=PING_SECONDS,
            drain_timeout=CLOSE_SECONDS_MAX,
            flush_timeout=CLOSE_SECONDS_MAX,
            pending_size=PENDING_BYTES_MAX,
        )
        self._is_loss_told = False
        return client

    def _tell_error(self, client: Client, error: Exception) -> None:
        """Log an error; the many of one loss only once."""
        if client.is_connected:
            _log.warning("NATS: %s", error)
        elif not self._is_loss_told:
            self._is_loss_told = True
            _log.warning("NATS is not there (%s); trying again every %d s", error, RECONNECT_SECONDS)


async def subscribe(
    client: Client, subject: str, callback: Callable[[Msg], Awaitable[None]], queue: str = ""
) -> Subscription:
    """Subscribe `callback`, which must be a coroutine function, to a subject."""
    return await client.subscribe(  # pyright: ignore[reportUnknownMemberType] - nats-py does not say what its `future` holds
        subject, queue=queue, cb=callback
    )
