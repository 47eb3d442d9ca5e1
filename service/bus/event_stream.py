"""The stream of events: what stands in it, and windows of messages that are stored in their order or refused.

A window is sent without waiting for the single answers. Three headers keep it in order whatever happens to it on the
way: each message says the sequence that the stream must have reached, and from the second one on which message must be
the last one in it. So when one is lost, all behind it are refused; and a publisher that was frozen in the middle of a
window and wakes up later finds that others went on, and is refused for ever. Why both are needed:
docs/adr/0009-one-publisher.md.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import orjson
from nats.aio.msg import Msg
from nats.errors import Error

from service.bus.connection import LastingClient, head_of
from service.bus.jetstream import (
    EXPECTED_SEQUENCE,
    NO_MESSAGE,
    WRONG_MESSAGE_ID,
    WRONG_SEQUENCE,
    ApiError,
    StreamAway,
    api,
    take_out,
)
from service.bus.streams import Spec, StreamUnusable, ensure, events_spec
from service.cloud_events import CONTENT_TYPE, Message

WINDOW_SECONDS_MAX = 5.0
ASKED_AT_ONCE_MAX = 32
SENT_AT_ONCE = 32


class StreamMoved(Exception):
    """Somebody else wrote into the stream: nothing of this window is stored from here on."""


class AlreadyStored(Exception):
    """The server remembers the message's id, as it does for two minutes, also after the message was deleted."""


class StreamState(NamedTuple):
    """A stream: when it was made, where it begins and ends, and whether its own limits delete messages."""

    created: str
    first_sequence: int
    last_sequence: int
    is_limited: bool


class LastEvent(NamedTuple):
    """The last event of a partition in the stream."""

    position: int
    hash: str
    source: str


class _Window:
    """Counts the answers to a window; `done` has no result, or the first thing that went wrong."""

    __slots__ = ("_left", "_sequence", "done")

    def __init__(self, size: int, sequence: int) -> None:
        self._left = size
        self._sequence = sequence
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, number: int, answer: bytes) -> None:
        if self.done.done():
            return
        try:
            told = cast("dict[str, Any]", orjson.loads(answer))
        except orjson.JSONDecodeError:  # an empty answer: nobody listens to these subjects, there is no stream
            self.done.set_exception(StreamAway("the stream of events is not there"))
            return
        if "error" in told:
            code, text = int(told["error"].get("err_code", 0)), str(told["error"].get("description", ""))
            moved = code in (WRONG_SEQUENCE, WRONG_MESSAGE_ID)
            self.done.set_exception(StreamMoved(text) if moved else ApiError(code, text))
        elif told.get("duplicate"):
            self.done.set_exception(AlreadyStored())
        elif told["seq"] != self._sequence + number + 1:
            self.done.set_exception(StreamMoved(f"stored at {told['seq']}, not at {self._sequence + number + 1}"))
        else:
            self._left -= 1
            if not self._left:
                self.done.set_result(None)


class EventStream:
    """The stream of one ledger's events. Every method raises StreamAway when it cannot be reached."""

    def __init__(self, prefix: str, spec: Spec | None = None) -> None:
        self._prefix = prefix
        self._spec = spec or events_spec(prefix)
        self._client: LastingClient | None = None
        self._inbox = ""
        self._number = 0
        self._window: _Window | None = None

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._spec.name

    async def attach(self, client: LastingClient) -> None:
        """Use this client."""
        self._inbox = client.new_inbox()
        await client.subscribe_at_once(f"{self._inbox}.*.*", self._take)
        self._client = client

    async def open(self) -> StreamState:
        """Return how the stream stands, after it was made if need be; raises StreamUnusable."""
        info = await ensure(self._connected(), self._spec)
        config = info["config"]
        limited = any(
            config.get(limit, 0) > 0 for limit in ("max_age", "max_bytes", "max_msgs", "max_msgs_per_subject")
        )
        state = info["state"]
        return StreamState(str(info["created"]), int(state["first_seq"]), int(state["last_seq"]), limited)

    async def empty(self) -> None:
        """Delete all messages."""
        await api(self._connected(), "STREAM.PURGE", self.name)

    async def lasts(self, partitions: int) -> dict[int, LastEvent]:
        """Return the last event of each partition that has one in the stream; raises StreamUnusable."""
        asked = asyncio.Semaphore(ASKED_AT_ONCE_MAX)

        async def ask(partition: int) -> LastEvent | None:
            async with asked:
                return await self._last(partition)

        found = await asyncio.gather(*(ask(partition) for partition in range(partitions)))
        return {partition: last for partition, last in enumerate(found) if last is not None}

    async def publish(self, messages: Sequence[Message], last_sequence: int) -> int:
        """Store messages behind `last_sequence` in their order, and return the last one's sequence.

        Raises StreamMoved, AlreadyStored and StreamAway; then the beginning of the window may be stored.
        """
        client = self._connected()
        self._number += 1
        window = self._window = _Window(len(messages), last_sequence)
        before: str | None = None
        try:
            for number, message in enumerate(messages):
                headers = {
                    "Content-Type": CONTENT_TYPE,
                    "Nats-Msg-Id": message.id,
                    EXPECTED_SEQUENCE: str(last_sequence + number),
                }
                if before is not None:
                    headers["Nats-Expected-Last-Msg-Id"] = before
                before = message.id
                reply = f"{self._inbox}.{self._number}.{number}"
                await client.send(message.subject, message.body, head_of(headers), reply)
                if number % SENT_AT_ONCE == SENT_AT_ONCE - 1:
                    await asyncio.sleep(0)  # these leave, and are stored while the next ones are put together
            async with asyncio.timeout(WINDOW_SECONDS_MAX):
                await window.done
        except TimeoutError:
            raise StreamAway("the stream of events did not answer in time") from None
        except (Error, OSError) as error:
            raise StreamAway(f"cannot publish: {type(error).__name__}") from error
        finally:
            if window.done.done() and not window.done.cancelled():
                window.done.exception()  # somebody has seen it, also when publishing failed first
            self._window = None
        return last_sequence + len(messages)

    def _take(self, answer: Msg) -> None:
        """Hand an answer to the window that is under way; answers to older ones are ignored."""
        _, window, number = answer.subject.rsplit(".", 2)
        if self._window is not None and int(window) == self._number:
            self._window.take(int(number), answer.data)

    async def _last(self, partition: int) -> LastEvent | None:
        subject = f"{self._prefix}.events.{partition}.>"
        client = self._connected()
        try:
            told = await api(client, "STREAM.MSG.GET", self.name, body={"last_by_subj": subject})
        except ApiError as error:
            if error.number == NO_MESSAGE:
                return None
            raise
        try:
            event = orjson.loads(base64.b64decode(told["message"]["data"]))
            return LastEvent(int(event["data"]["position"]), str(event["data"]["hash"]), str(event["source"]))
        except (KeyError, TypeError, ValueError):
            if await take_out(client, self.name, told["message"], EXPECTED_SEQUENCE):
                return await self._last(partition)
            raise StreamUnusable(f"the last message at {subject} in {self.name} is no event of a ledger") from None

    def _connected(self) -> LastingClient:
        if self._client is None or not self._client.is_connected:
            raise StreamAway("NATS is not connected")
        return self._client
