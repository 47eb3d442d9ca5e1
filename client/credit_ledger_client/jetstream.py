"""JetStream as far as a client of the ledger needs it: two consumers, each read in its order.

A consumer of events begins where its reader was and knows no acknowledgements: what was not read is read by a new one.
It has the caller's name, because that is the only one that the broker's permissions allow a caller. So there is one at a
time: while another process follows, making it fails, and is tried again until that one is gone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from credit_ledger_client.transport import Published, Start

API_SECONDS_MAX = 5.0
BATCH = 256
PULL_SECONDS = 20
HEARTBEAT_SECONDS = 1
SILENCE_SECONDS_MAX = 4.0
INACTIVE_SECONDS = 10
NANOSECONDS = 1_000_000_000
NO_CONSUMER = 10014

_NONE, _TIMEOUT, _HEARTBEAT = "404", "408", "100"


class StreamAway(Exception):
    """JetStream cannot be reached, or cannot do it now; trying again may help."""


class ApiError(StreamAway):
    """JetStream answered with an error; `number` is its `err_code`."""

    def __init__(self, number: int, description: str) -> None:
        super().__init__(f"{description} ({number})")
        self.number = number


async def subscribe(client: Client, subject: str, callback: Callable[[Msg], Awaitable[None]]) -> Subscription:
    """Subscribe `callback`, which must be a coroutine function, to a subject."""
    return await client.subscribe(  # pyright: ignore[reportUnknownMemberType] - nats-py does not say what its `future` holds
        subject, cb=callback
    )


class JetStream:
    """The streams of a ledger with this prefix."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._names = prefix.upper().replace(".", "_")

    async def events(self, name: str, instance: str, start: Start) -> AsyncIterator[Published]:
        """Yield the stream of events from `start` on; raises StreamAway. `start` is told which stream it is."""
        stream = f"{self._names}_EVENTS"
        await self._place(stream, start)
        await self._delete(stream, name)
        partitions = start.partitions
        configuration: dict[str, object] = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start.sequence + 1,
            "ack_policy": "none",
            "mem_storage": True,
            "inactive_threshold": INACTIVE_SECONDS * NANOSECONDS,
            "metadata": {"instance": instance},
        }
        if partitions is not None:
            configuration["filter_subjects"] = [f"{self._prefix}.events.{partition}.>" for partition in partitions]
        body: dict[str, object] = {"stream_name": stream, "config": configuration, "action": "create"}
        await self._api("CONSUMER.CREATE", stream, name, body=body)
        delivered = 0
        try:
            async for message in self._pull(stream, name):
                about = message.metadata.sequence
                if about.consumer != delivered + 1:
                    raise StreamAway("messages were lost on the way")
                delivered = about.consumer
                yield Published(about.stream, message.data)
        finally:
            with suppress(
                Error, OSError
            ):  # so that the next one need not wait; without an answer, and without the right
                await self._client.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{name}")

    async def _place(self, stream: str, start: Start) -> None:
        """Find out where in the stream to begin; one that was made anew is read from its first event."""
        info = await self._api("STREAM.INFO", stream)
        created, last = str(info["created"]), int(info["state"]["last_seq"])
        if start.only_new and not start.stream:
            start.sequence = last
        elif start.stream != created or start.sequence > last:
            start.sequence = 0
        start.stream = created

    async def _delete(self, stream: str, name: str) -> None:
        """Delete a consumer of ours that was left behind, when that is allowed and it is left behind."""
        with suppress(ApiError):
            info = await self._api("CONSUMER.INFO", stream, name)
            if not int(info.get("num_waiting", 0)):
                await self._api("CONSUMER.DELETE", stream, name, seconds=1.0)

    async def results(self, name: str) -> AsyncIterator[Msg]:
        """Yield the outcomes that the durable consumer of this name delivers, to be acknowledged; raises StreamAway."""
        stream = f"{self._names}_RESULTS"
        try:
            await self._api("CONSUMER.INFO", stream, name)
        except ApiError as error:
            if error.number != NO_CONSUMER:
                raise
            configuration: dict[str, object] = {
                "durable_name": name,
                "filter_subject": f"{self._prefix}.result.{name}.>",
                "deliver_policy": "all",
                "ack_policy": "explicit",
            }
            body: dict[str, object] = {"stream_name": stream, "config": configuration}
            await self._api("CONSUMER.DURABLE.CREATE", stream, name, body=body)
        async for message in self._pull(stream, name):
            yield message

    async def _api(
        self, *subject: str, body: Mapping[str, object] | None = None, seconds: float = API_SECONDS_MAX
    ) -> dict[str, Any]:
        """Ask the JetStream API; raises ApiError for what it refuses, and StreamAway when nobody answers."""
        data = b"" if body is None else json.dumps(body).encode()
        if not self._client.is_connected:
            raise StreamAway("NATS is not connected")
        try:
            answer = await self._client.request(".".join(("$JS.API", *subject)), data, timeout=seconds)
            told = json.loads(answer.data)
        except (Error, OSError, TimeoutError, ValueError) as error:
            raise StreamAway(f"{type(error).__name__}: no answer from JetStream to {subject[0]}") from error
        if (wrong := told.get("error")) is not None:
            raise ApiError(int(wrong.get("err_code", 0)), str(wrong.get("description", "")))
        return told

    async def _pull(self, stream: str, name: str) -> AsyncIterator[Msg]:
        """Yield a consumer's messages, asking for some at a time; raises StreamAway when the server is silent."""
        inbox = self._client.new_inbox()
        arrived: asyncio.Queue[Msg] = asyncio.Queue()
        subscription = await subscribe(self._client, f"{inbox}.*", arrived.put)
        wanted = {
            "batch": BATCH,
            "expires": PULL_SECONDS * NANOSECONDS,
            "idle_heartbeat": HEARTBEAT_SECONDS * NANOSECONDS,
        }
        body = json.dumps(wanted).encode()
        try:
            for number in itertools.count(1):
                reply = f"{inbox}.{number}"
                await self._client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", body, reply=reply)
                left = BATCH
                while left > 0:
                    message = await self._next(arrived)
                    if message.reply.startswith("$JS.ACK."):
                        left -= 1
                        yield message
                    elif message.subject == reply and not _goes_on(message):
                        break
        except (Error, OSError) as error:
            raise StreamAway(f"cannot ask for messages: {type(error).__name__}") from error
        finally:
            with suppress(Error, OSError):
                await subscription.unsubscribe()

    async def _next(self, arrived: asyncio.Queue[Msg]) -> Msg:
        try:
            async with asyncio.timeout(SILENCE_SECONDS_MAX):
                return await arrived.get()
        except TimeoutError:
            raise StreamAway("the server is silent") from None


def _goes_on(message: Msg) -> bool:
    """Say whether a request for messages goes on after a word of the server; raises StreamAway when that is the end."""
    headers = message.headers or {}
    status = headers.get("Status", "")
    if status in (_NONE, _TIMEOUT):
        return False
    if status == _HEARTBEAT:
        return True
    raise StreamAway(f"no more messages: {status} {headers.get('Description', '')}".strip())
