"""Pulling messages from a stream, as many as there is room for, through a consumer of our own that is made anew each time.

One request for messages is open at a time. The server says every second that it is still there; when it does not, or
when it says that the consumer is gone, that is `StreamAway`, and whoever pulls begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from service.bus.connection import subscribe
from service.bus.jetstream import ApiError, StreamAway, api
from service.bus.streams import NANOSECONDS

PULL_SECONDS = 20
HEARTBEAT_SECONDS = 1
SILENCE_SECONDS_MAX = 4.0
LOOK_SECONDS = 0.25

_HEARTBEAT, _NONE, _TIMEOUT = "100", "404", "408"


class Pulling:
    """Takes the messages of a stream in its order, and hands each to `take`, which must not raise."""

    def __init__(self, client: Client, stream: str, consumer: str, take: Callable[[Msg], None]) -> None:
        self._client = client
        self._stream = stream
        self._consumer = consumer
        self._hand_on = take
        self._inbox = client.new_inbox()
        self._subscription: Subscription | None = None
        self._number = 0
        self._left = 0
        self._failure: str | None = None
        self._heard = asyncio.Event()
        self._room_made = asyncio.Event()

    async def open(self, *, at_work_max: int, ack_seconds_max: float) -> None:
        """Make the consumer, and delete those that were before it; raises StreamAway."""
        told = await api(self._client, "CONSUMER.NAMES", self._stream)
        for name in told.get("consumers") or ():
            with suppress(ApiError):  # somebody else was faster
                await api(self._client, "CONSUMER.DELETE", self._stream, name)
        configuration: dict[str, object] = {
            "durable_name": self._consumer,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(ack_seconds_max * NANOSECONDS),
            "max_deliver": -1,
            "max_ack_pending": at_work_max,
        }
        body: dict[str, object] = {"stream_name": self._stream, "config": configuration}
        await api(self._client, "CONSUMER.DURABLE.CREATE", self._stream, self._consumer, body=body)
        self._subscription = await subscribe(self._client, f"{self._inbox}.*", self._receive)

    async def close(self) -> None:
        """Receive no more."""
        if self._subscription is not None:
            with suppress(Error, OSError):
                await self._subscription.unsubscribe()

    async def run(self, room: Callable[[], int], is_current: Callable[[], bool]) -> None:
        """Pull for as long as `is_current`, whenever there is room; raises StreamAway."""
        while is_current():
            self._room_made.clear()
            free = room()
            if self._failure is not None:
                raise StreamAway(self._failure)
            if free <= 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await self._room_made.wait()
                continue
            await self._pull(free)

    def make_room(self) -> None:
        """Say that there may be room again."""
        self._room_made.set()

    def fail(self, reason: str) -> None:
        """Have `run` raise StreamAway soon, for a reason outside."""
        self._failure = reason
        self._heard.set()
        self._room_made.set()

    def count(self) -> None:
        """Say that a message came by another way."""
        self._left -= 1
        self._heard.set()

    async def _pull(self, number_max: int) -> None:
        """Ask for messages, and wait until they have come or the server says that there are no more now."""
        self._number += 1
        self._left = number_max
        body = orjson.dumps(
            {
                "batch": number_max,
                "expires": PULL_SECONDS * NANOSECONDS,
                "idle_heartbeat": HEARTBEAT_SECONDS * NANOSECONDS,
            }
        )
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        try:
            await self._client.publish(subject, body, reply=f"{self._inbox}.{self._number}")
        except (Error, OSError) as error:
            raise StreamAway(f"cannot ask for messages: {type(error).__name__}") from error
        connections = self._client.stats["reconnects"]
        while self._left > 0:
            self._heard.clear()
            if self._failure is not None:
                raise StreamAway(self._failure)
            await self._hear(connections)

    async def _hear(self, connections: int) -> None:
        """Wait for a word of the server; raises StreamAway when none comes, or the connection is another one."""
        deadline = monotonic() + SILENCE_SECONDS_MAX
        while not self._heard.is_set():
            if not self._client.is_connected or self._client.stats["reconnects"] != connections:
                raise StreamAway("the connection was lost")
            if monotonic() > deadline:
                raise StreamAway("the server is silent")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._heard.wait()

    async def _receive(self, message: Msg) -> None:
        headers = message.headers or {}
        if message.reply.startswith("$JS.ACK."):
            self._left -= 1
            self._hand_on(message)
        elif message.subject == f"{self._inbox}.{self._number}":
            status = headers.get("Status", "")
            if status in (_NONE, _TIMEOUT):
                self._left = 0
            elif status != _HEARTBEAT:
                self._failure = f"no more messages: {status} {headers.get('Description', '')}".strip()
        self._heard.set()
