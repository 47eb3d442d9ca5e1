"""An endpoint: one subject of requests, each in a task of its own, each with exactly one answer.

`nats.micro` runs one request of an endpoint after the other, shows `repr(exception)` to callers and forgets what is
under way when it stops. Here whoever reads a message only starts a task for it, so requests run side by side;
above `concurrent_max` they are answered 503 at once instead of piling up, but for callers who have less than their
share of them. Whatever happens in a request, even a cancellation that leaks out of it, ends in an answer that says
nothing of it and leaves the subscription alone.

Not executed at all, and counted as errors, are

- a message without a reply subject: nobody would learn what became of it (the durable `submit` subjects are for that);
- one whose reply subject lies in `$...` or in our own subjects: the answer would be published with the ledger's rights
  where the caller may have none, into the event stream for example;
- one for another endpoint: nats-py takes a vertical tab in a subject for a blank, so a caller could address a
  subscription by its number and pass a query off as a command.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter_ns

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from service.bus.connection import LastingClient, head_of
from service.outages import Overloaded
from service.replies import Reply, failed, out_of_order, problem

QUEUE_GROUP = "credit-ledger"
REFUSING_MAX = 8192
"""Refusals that are on their way, more than come in one piece from the network."""
DRAIN_SECONDS_MAX = 5.0
FINISH_SECONDS_MAX = 10.0
HEADER_BYTES_MAX = 1024
"""What is kept free for the headers of an answer."""

Handler = Callable[[Msg], Awaitable[Reply]]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Figures:
    """What an endpoint did since it was made, as `$SRV.STATS` tells it; times in nanoseconds."""

    requests: int = 0
    errors: int = 0
    processing_nanoseconds: int = 0
    last_error: str = ""

    def fail(self, error: str) -> None:
        """Count an error; `error` says what it was, and nothing of the inside."""
        self.errors += 1
        self.last_error = error


class Endpoint:
    """Answers the requests on `<prefix>.<name>.*.*` with what `handler` returns; instances share them in a queue group."""

    def __init__(self, prefix: str, name: str, handler: Handler, *, concurrent_max: int) -> None:
        self.name = name
        self.subject = f"{prefix}.{name}.*.*"
        self.figures = Figures()
        self._handler = handler
        self._stem = f"{prefix}.{name}."
        self._reserved = ("$", f"{prefix}.")
        self._concurrent_max = concurrent_max
        self._overloaded = out_of_order(Overloaded(f"{concurrent_max} requests are being worked on"))
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing: set[asyncio.Task[None]] = set()
        self._taken: Counter[str] = Counter()
        self._subscription: Subscription | None = None
        self._client: LastingClient

    async def attach(self, client: LastingClient) -> None:
        """Take requests from this client."""
        self._client = client
        self._subscription = await client.subscribe_at_once(self.subject, self._take, QUEUE_GROUP)

    async def drain(self) -> None:
        """Take no more requests, and wait until those that were taken are answered; bounded."""
        if self._subscription is not None and self._client.is_connected:
            with suppress(Error, OSError, TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS_MAX):
                    await self._subscription.drain()
        self._subscription = None
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=FINISH_SECONDS_MAX)
            for task in late:
                task.cancel()
            if late:
                _log.warning("%s: gave up on %d requests that were still being worked on", self.name, len(late))

    def _take(self, message: Msg) -> None:
        """Start the task that answers a message."""
        self.figures.requests += 1
        if not message.reply or message.reply.startswith(self._reserved):
            self.figures.fail("422:no reply subject, or one where no answer may go")
        elif not message.subject.startswith(self._stem):
            self.figures.fail("422:not a subject of this endpoint")
        elif self._is_full_for(caller := message.subject[len(self._stem) :].partition(".")[0]):
            self._refuse(message.reply)
        else:
            self._taken[caller] += 1
            self._tasks.add(asyncio.create_task(self._answer(message, caller)))

    def _refuse(self, subject: str) -> None:
        """Say that there is too much at work; whoever asks while even that cannot be sent hears nothing."""
        if len(self._refusing) >= REFUSING_MAX:
            self.figures.fail("503:too much at work to be told so")
            return
        refusing = asyncio.create_task(self._send(subject, self._overloaded))
        self._refusing.add(refusing)
        refusing.add_done_callback(self._refusing.discard)

    def _is_full_for(self, caller: str) -> bool:
        """Say whether a caller may have no more taken: all places are, and its share of them is its own."""
        if len(self._tasks) < self._concurrent_max:
            return False
        callers = len(self._taken) + (caller not in self._taken)
        return self._taken[caller] * callers >= self._concurrent_max or len(self._tasks) >= 2 * self._concurrent_max

    async def _answer(self, message: Msg, caller: str) -> None:
        started = perf_counter_ns()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is only ever run as a task
        try:
            try:
                reply = await self._handler(message)
            except asyncio.CancelledError:
                if task.cancelling():
                    raise
                _log.exception("%s: a cancellation leaked out of a request", self.name)
                reply = failed()
            except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer
                _log.exception("%s: a request failed", self.name)
                reply = failed()
            await self._send(message.reply, reply)
        finally:
            self._tasks.discard(task)
            self._taken[caller] -= 1
            if not self._taken[caller]:
                del self._taken[caller]
            self.figures.processing_nanoseconds += perf_counter_ns() - started

    async def _send(self, subject: str, reply: Reply) -> None:
        reply = fitted(reply, self._client.max_payload)
        if reply.code is not None:
            self.figures.fail(f"{reply.status}:{reply.code}")
        head = answer_head(reply.status, reply.code, reply.retry_after_seconds)
        try:
            await self._client.send(subject, reply.body, head)
        except (Error, OSError) as error:
            self.figures.fail("503:an answer could not be sent")
            _log.warning("%s: an answer could not be sent: %s", self.name, type(error).__name__)


@lru_cache(maxsize=512)
def answer_head(status: int, code: str | None, retry_after_seconds: int | None) -> bytes:
    """Return the headers of an answer as they are sent."""
    headers = {"Status": str(status)}
    if code is not None:
        headers |= {"Nats-Service-Error-Code": str(status), "Nats-Service-Error": code}
    if retry_after_seconds is not None:
        headers["Retry-After"] = str(retry_after_seconds)
    return head_of(headers)


def fitted(reply: Reply, payload_bytes_max: int) -> Reply:
    """Return the reply, or one that says that it is too large for a message of this server."""
    if len(reply.body) <= payload_bytes_max - HEADER_BYTES_MAX:
        return reply
    detail = "the answer is larger than a message of this NATS server may be; a command's outcome can be had over HTTP"
    return Reply(500, problem(500, "internal", "Internal error", detail), "internal")
