"""The queue on JetStream: a work queue with a consumer for each priority, higher ones first.

It only says that an attempt of a job is to be begun. The store knows better, so a message that comes twice, late or for
a job that was decided is dropped, and one that was lost is sent again by the upkeep.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import NamedTuple, Self

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig

from examples.generation_service.jobs import PRIORITIES, Job

ANSWER_SECONDS_MAX = 5.0
ACK_SECONDS = 30.0
DUPLICATES_SECONDS = 120.0
IDLE_SECONDS = 1.0


class QueueAway(Exception):
    """JetStream cannot be reached, or cannot do it now."""


class Task(NamedTuple):
    """An attempt to begin; it is delivered again until it is done."""

    job: str
    attempt: int
    message: Msg

    @property
    def deliveries(self) -> int:
        """How often it was delivered."""
        return self.message.metadata.num_delivered

    async def done(self) -> None:
        """Take it off the queue; when that is not confirmed, it comes again."""
        with suppress(Error, TimeoutError):
            await self.message.ack_sync(ANSWER_SECONDS_MAX)

    async def later(self, seconds: float) -> None:
        """Have it delivered again after some time."""
        with suppress(Error):
            await self.message.nak(delay=seconds)


class Queue:
    """The queue, as an asynchronous context manager with a connection of its own."""

    def __init__(self, servers: str, stream: str = "GENERATION_JOBS", subject: str = "generation.jobs") -> None:
        self._servers = servers
        self._stream = stream
        self._subject = subject
        self._client = Client()
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._client.connect(
            self._servers, max_reconnect_attempts=-1, reconnect_time_wait=1, ping_interval=5, error_cb=_passes
        )
        await self.ensure()
        # What is published on the stream's subjects is heard here as well, and wakes the workers.
        await self._client.subscribe(f"{self._subject}.*", cb=self._hear)  # pyright: ignore[reportUnknownMemberType] - nats-py does not say what its `future` holds
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ensure(self) -> None:
        """Make the stream and its consumers unless they are there, also when the stream was lost; raises QueueAway."""
        try:
            await self._js.add_stream(  # pyright: ignore[reportUnknownMemberType] - nats-py leaves `params` untyped
                StreamConfig(
                    name=self._stream,
                    subjects=[f"{self._subject}.*"],
                    retention=RetentionPolicy.WORK_QUEUE,
                    duplicate_window=DUPLICATES_SECONDS,
                )
            )
            for priority in PRIORITIES:
                await self._js.add_consumer(  # pyright: ignore[reportUnknownMemberType] - the same
                    self._stream,
                    ConsumerConfig(
                        durable_name=f"workers-{priority}",
                        filter_subject=f"{self._subject}.{priority}",
                        ack_policy=AckPolicy.EXPLICIT,
                        ack_wait=ACK_SECONDS,
                    ),
                )
        except (Error, TimeoutError) as error:
            raise QueueAway(str(error)) from error

    async def put(self, job: Job) -> None:
        """Queue an attempt of a job, which is stored once however often this is done; raises QueueAway."""
        headers = {"Nats-Msg-Id": f"{job.id}:{job.attempt}"}
        body = json.dumps({"job": job.id, "attempt": job.attempt}).encode()
        try:
            await self._js.publish(f"{self._subject}.{job.priority}", body, ANSWER_SECONDS_MAX, headers=headers)
        except (Error, TimeoutError) as error:
            raise QueueAway(str(error)) from error

    async def take(self) -> Task:
        """Return the next task of the highest priority that has one, when there is one; raises QueueAway."""
        while True:
            self._news.clear()
            for priority in PRIORITIES:
                if (task := await self._next(f"workers-{priority}")) is not None:
                    return task
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._news.wait()

    async def _next(self, consumer: str) -> Task | None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
        try:
            # A task comes with its own subject, not with that of the inbox, so the inbox has to be of this request alone.
            message = await self._client.request(
                subject, b'{"batch":1,"no_wait":true}', ANSWER_SECONDS_MAX, old_style=True
            )
        except (Error, TimeoutError) as error:
            raise QueueAway(str(error)) from error
        if "Status" in (message.headers or {}):  # nothing there
            return None
        told = json.loads(message.data)
        return Task(told["job"], told["attempt"], message)

    async def _hear(self, _: Msg) -> None:
        self._news.set()

    @property
    def _js(self) -> JetStreamContext:
        return self._client.jetstream(timeout=ANSWER_SECONDS_MAX)  # pyright: ignore[reportUnknownMemberType] - the same


async def _passes(_: Exception) -> None:
    """Say nothing: who asks is told by QueueAway."""
