"""Durable commands: taken from the stream in its order, executed once, acknowledged after the commit.

    <prefix>.submit.<caller>.<command>  ->  <prefix>.result.<caller>.<command>   its outcome, a refusal too
                                        ->  <prefix>.dead.<caller>               what cannot be executed at all

One process at a time takes them, the one that holds the lease. Each account has a lane: its commands run one after the
other, in stream order, while other accounts' run beside them. A command is acknowledged when its outcome is in the
stream of results, and only then it leaves the stream of commands. The one behind a refused command waits for that,
because a refusal is nothing that a second try would find again; behind an accepted one, whose key is in the log, the
next may begin at once.

An outage is no outcome. While the database is away the lanes wait, the messages stay where they are, and the server is
told that they are being worked on.

Whenever it is not certain what was delivered (at the start, after another process had the lease, after the connection
was lost) the server's consumer is deleted and made anew: then everything that was not acknowledged comes again, from
the first on, in stream order. That is why the order survives a crash, and redelivery is harmless because of the keys.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from time import monotonic

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

from events.errors import Refusal
from service.access import COMMAND_SCOPES, Access
from service.bus.admission import admit
from service.bus.connection import LastingClient
from service.bus.endpoint import fitted
from service.bus.jetstream import StreamAway, publish, request
from service.bus.pulling import Pulling
from service.bus.streams import HEADERS_BYTES_MAX, STATUS, command_specs, ensure, make_readable
from service.bus.submitted import Submission, Submitted, Unreadable, caller_of, read
from service.ending import ended
from service.gateway import Gateway
from service.outages import Outage
from service.replies import Reply, refused

AT_WORK_MAX = 512
ACK_SECONDS_MAX = 60.0
PROGRESS_SECONDS = 20.0
RETRY_SECONDS_MAX = 2.0
UNSTORED_SECONDS = 5.0
"""For so long it may be tried again to store an outcome or an acknowledgement before that is an alarm."""
FAILURES_MAX = 8
"""So often a command may fail while the ledger is well; then it goes to the dead, and its account's others go on."""

_MAY_BE_A_HEADER = re.compile(r"[\x21-\x7e]{1,128}")

_log = logging.getLogger(__name__)


class Submissions:
    """Takes durable commands; `healthy` returns when the ledger can work, and raises Outage when it cannot."""

    def __init__(
        self, *, gateway: Gateway, access: Access, prefix: str, healthy: Callable[[], Awaitable[object]]
    ) -> None:
        self._gateway = gateway
        self._access = access
        self._prefix = prefix
        self._healthy = healthy
        self._specs = command_specs(prefix)
        self._client: LastingClient | None = None
        self._is_current: Callable[[], bool] = bool
        self._at_work: dict[int, Submitted] = {}
        self._lanes: dict[str, deque[tuple[Submitted, Submission]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._pulling: Pulling | None = None
        self._opened = 0
        self.counts = {"accepted": 0, "refused": 0, "dead": 0}
        self.alarm: str | None = None
        """What keeps it from taking commands; None when it takes them or is not the one that does."""
        self.unstored = 0
        """How many outcomes and acknowledgements JetStream has refused to store for a while."""

    @property
    def at_work(self) -> int:
        """How many commands were taken and are not acknowledged yet."""
        return len(self._at_work)

    async def attach(self, client: LastingClient) -> None:
        """Use this client."""
        client.on_unreadable = self._take_broken
        self._client = client

    async def waiting(self) -> tuple[int, datetime | None]:
        """Return how many commands are in the stream, and when the first was submitted; raises StreamAway."""
        state = (await ensure(self._connected(), self._specs[0]))["state"]
        count = int(state["messages"])
        return count, datetime.fromisoformat(f"{state['first_ts'][:19]}+00:00") if count else None

    async def run(self, epoch: int, is_current: Callable[[], bool]) -> None:
        """Take commands until cancelled, or until the lease is lost, which `is_current` says."""
        self._is_current = is_current
        pause = 0.1
        try:
            while True:
                try:
                    await self._open(epoch)
                    self._tell(None)
                    pause = 0.1
                    assert self._pulling is not None  # noqa: S101 - made by _open
                    await self._pulling.run(self._room, is_current)
                except StreamAway as error:
                    self._tell(str(error))
                await self._abandon()
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_SECONDS_MAX)
        finally:
            await self._abandon()
            self.alarm = None

    async def _open(self, epoch: int) -> None:
        """Make the streams if need be, and a consumer that delivers everything that was not acknowledged, from the first on."""
        client = self._connected()
        for spec in self._specs:
            await ensure(client, spec)
        await make_readable(client, self._specs[1].name, self._prefix, self._access.callers)
        self._opened += 1
        self._pulling = Pulling(client, self._specs[0].name, f"ledger-{epoch}-{self._opened}", self._take)
        await self._pulling.open(at_work_max=AT_WORK_MAX, ack_seconds_max=ACK_SECONDS_MAX)
        self._spawn(self._keep())

    async def _abandon(self) -> None:
        """Let go of everything that was delivered; what was handed to the ledger goes on there."""
        await ended(self._tasks)
        self._tasks.clear()
        self._lanes.clear()
        self._at_work.clear()
        if self._pulling is not None:
            await self._pulling.close()
            self._pulling = None

    def _room(self) -> int:
        return AT_WORK_MAX - len(self._at_work)

    def _take(self, message: Msg) -> None:
        about = message.metadata
        self._begin(
            Submitted(
                about.sequence.stream,
                message.reply,
                message.subject,
                message.data,
                about.timestamp,
                message.headers or {},
            )
        )

    def _take_broken(self, subject: bytes, reply: bytes, data: bytes) -> None:
        """Take a message that nats-py cannot read: its subject or headers are broken, the rest is there."""
        ack = reply.decode(errors="replace")
        if self._pulling is None or not ack.startswith("$JS.ACK.") or ack.count(".") < 8:
            return
        sequence = int(ack.split(".")[5 if ack.count(".") == 8 else 7])
        if sequence not in self._at_work:
            text = subject.decode(errors="backslashreplace")
            message = Submitted(sequence, ack, text, data, datetime.now(UTC))
            self._at_work[sequence] = message
            refusal = Refusal("the message's subject or headers are not valid NATS")
            self._spawn(self._bury(message, "invalid_message", refusal.detail, 400))
        self._pulling.count()

    def _begin(self, message: Submitted) -> None:
        """Put a message into its account's lane; one that is at work already was delivered twice."""
        if message.sequence in self._at_work:
            return
        self._at_work[message.sequence] = message
        try:
            submission = read(message, self._prefix)
        except Unreadable as unreadable:
            refusal = unreadable.refusal
            self._spawn(self._bury(message, refusal.code, refusal.detail, refusal.status))
            return
        name = submission.account or ""
        lane = self._lanes.get(name)
        if lane is not None:
            lane.append((message, submission))
        else:
            self._lanes[name] = deque([(message, submission)])
            self._spawn(self._work(name))

    async def _work(self, name: str) -> None:
        """Execute the commands of one account, one after the other."""
        lane = self._lanes[name]
        while lane:
            message, submission = lane.popleft()
            reply = await self._execute(message, submission)
            if reply is None:
                self._begin_anew("the lease was lost")
                return
            if reply.status >= 500:
                await self._bury(message, reply.code or "internal", "the ledger failed on this command", reply.status)
            elif reply.status >= 400:
                await self._settle(message, submission, reply)
            else:
                self._spawn(self._settle(message, submission, reply))
        del self._lanes[name]

    async def _execute(self, message: Submitted, submission: Submission) -> Reply | None:
        """Return what a command led to, after every outage; None when the lease is lost meanwhile.

        A reply of 500 or 503 is given only for a command that fails again and again while the ledger is well.
        """
        failures, pause = 0, 0.05
        while self._is_current():
            reply = await self._ask(message, submission)
            if reply.status < 500:
                return reply
            was_well = await self._recovered()
            if was_well and reply.is_failure:
                failures += 1
            if failures >= FAILURES_MAX:
                return reply
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)
        return None

    async def _ask(self, message: Submitted, submission: Submission) -> Reply:
        scope = COMMAND_SCOPES.get(submission.command)
        try:
            actor = admit(self._access, submission.caller, scope, message.headers, len(message.body))
        except Refusal as refusal:
            return refused(refusal)
        return await self._gateway.command(
            submission.command, message.body, actor=actor, key=submission.key, caller=f"submit.{submission.caller}"
        )

    async def _recovered(self) -> bool:
        """Wait until the ledger can work; returns whether it could at once. All lanes wait for the same look."""
        try:
            await self._healthy()
        except Outage:
            if self._recovery is None or self._recovery.done():
                self._recovery = asyncio.create_task(self._recover())
            await asyncio.shield(self._recovery)
            return False
        return True

    async def _recover(self) -> None:
        _log.warning("durable commands wait: the ledger cannot work now")
        pause = 0.1
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)
            try:
                await self._healthy()
            except Outage:
                continue
            _log.info("durable commands go on")
            return

    async def _settle(self, message: Submitted, submission: Submission, reply: Reply) -> None:
        """Tell the outcome, then acknowledge the command."""
        reply = fitted(reply, self._connected().max_payload)
        headers = {
            STATUS: str(reply.status),
            "Idempotency-Key": submission.key,
            "Content-Type": "application/json" if reply.code is None else "application/problem+json",
        }
        if submission.account is not None and _MAY_BE_A_HEADER.fullmatch(submission.account):
            headers["Account"] = submission.account
        if reply.code is not None:
            headers |= {"Nats-Service-Error-Code": str(reply.status), "Nats-Service-Error": reply.code}
        subject = f"{self._prefix}.result.{submission.caller}.{submission.command}"
        await self._persistently(lambda client: publish(client, subject, reply.body, headers))
        self.counts["accepted" if reply.status < 400 else "refused"] += 1
        await self._acknowledge(message)

    async def _bury(self, message: Submitted, code: str, detail: str, status: int) -> None:
        """Keep what cannot be executed with the reason, then take it out of the commands."""
        headers = {
            "Reason": code,
            "Detail": detail.encode("ascii", "backslashreplace").decode(),
            STATUS: str(status),
            "Submitted-Subject": message.subject.encode("ascii", "backslashreplace").decode(),
            "Submitted-Sequence": str(message.sequence),
        }
        subject = f"{self._prefix}.dead.{caller_of(message.subject, self._prefix)}"
        await self._persistently(
            lambda client: publish(client, subject, message.body[: client.max_payload - HEADERS_BYTES_MAX], headers)
        )
        _log.warning("a durable command went to %s: %s", subject, code)
        self.counts["dead"] += 1
        await self._acknowledge(message)

    async def _acknowledge(self, message: Submitted) -> None:
        """Take a message out of the commands, and see that it is out."""
        await self._persistently(lambda client: request(client, message.ack, b"+ACK"))
        self._at_work.pop(message.sequence, None)
        if self._pulling is not None:
            self._pulling.make_room()

    async def _persistently(self, work: Callable[[Client], Coroutine[None, None, object]]) -> None:
        """Do work that may be done twice until it succeeds."""
        pause, began, is_late = 0.05, monotonic(), False
        try:
            while True:
                try:
                    await work(self._connected())
                except StreamAway as error:
                    if not is_late and monotonic() - began > UNSTORED_SECONDS:
                        is_late = True
                        self.unstored += 1
                        _log.warning("an outcome cannot be stored, which is tried again and again: %s", error)
                else:
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_SECONDS_MAX)
        finally:
            self.unstored -= is_late

    async def _keep(self) -> None:
        """Tell the server what is still being worked on, so that it does not deliver it again."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            for message in list(self._at_work.values()):
                try:
                    await self._connected().publish(message.ack, b"+WPI")
                except (Error, OSError, StreamAway):
                    break

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._discard)

    def _discard(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a durable command could not be finished; it comes again", exc_info=error)
            self._begin_anew("a durable command could not be finished")

    def _begin_anew(self, reason: str) -> None:
        """Have everything delivered again that was not acknowledged."""
        if self._pulling is not None:
            self._pulling.fail(reason)

    def _connected(self) -> Client:
        if self._client is None or not self._client.is_connected:
            raise StreamAway("NATS is not connected")
        return self._client

    def _tell(self, alarm: str | None) -> None:
        if alarm is None and self.alarm is not None:
            _log.warning("taking durable commands again")
        elif alarm is not None and alarm != self.alarm:
            _log.error("alarm: durable commands are not taken: %s", alarm)
        self.alarm = alarm
