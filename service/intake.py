"""The intake of a partition: the commands that wait or are being written, each with those who wait for it.

Of the commands with one key only one is in flight. Who comes with the same key meanwhile waits for its outcome, and gets
it when the command is the same; otherwise it is judged by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from events.commands import Sweep
from events.errors import IdempotencyMismatch, Refusal
from events.recorded import SYSTEM
from projections.outcome import DRY_RUN_ID
from service.outages import Overloaded
from service.pending import Group, Pending
from service.requests import Outcome, Request

QUEUE_MAX = 10_000


class Intake:
    """Takes commands on, and tells their outcomes; `wake` lets somebody come for the first one."""

    def __init__(self, new_id: Callable[[], str], wake: Callable[[], None]) -> None:
        self.queue: deque[Pending] = deque()
        self._in_flight: dict[bytes, Pending] = {}
        self._new_id = new_id
        self._wake = wake

    @property
    def waiting(self) -> int:
        """How many commands wait or are being written."""
        return len(self._in_flight)

    def is_in_flight(self, digest: bytes) -> bool:
        """Say whether a command with this key waits for its outcome."""
        return digest in self._in_flight

    async def execute(self, request: Request) -> Outcome:
        """Return what the command led to, now or when it was first sent; raises Refusal and Outage."""
        digest = None if request.dry_run else request.digest
        if digest is not None:
            while (other := self._in_flight.get(digest)) is not None:
                outcome = await self._follow(other, request)
                if outcome is not None:
                    return outcome
        pending = self._enqueue(request, digest)
        try:
            return await pending.future
        except asyncio.CancelledError:
            pending.go_on_alone()
            raise

    async def sweep(self, account: str) -> Outcome:
        """Write what is due in an account; the outcome has `facts`, none, when nothing is. Raises Outage."""
        return await self._enqueue(Request(Sweep(account=account), "", "", SYSTEM), None).future

    async def execute_together(self, requests: Sequence[Request]) -> list[asyncio.Future[Outcome]]:
        """Take on the commands of an atomic batch, all of one account; raises Overloaded, and then took on none.

        Each future has the outcome or the refusal of its command. Commands in flight with the same keys come first.
        """
        for request in requests:
            while not request.dry_run and (other := self._in_flight.get(request.digest)) is not None:
                await asyncio.wait({other.future})
                await asyncio.sleep(0)  # whoever waited for it and went away leaves a new future behind
        if len(self.queue) + len(requests) > QUEUE_MAX:
            raise _overloaded()
        group = Group()
        group.members = [
            self._enqueue(request, None if request.dry_run else request.digest, group) for request in requests
        ]
        return [member.future for member in group.members]

    def take_on(self, request: Request) -> asyncio.Future[Outcome] | None:
        """Take on a command and return the future of its outcome; None when one with its key is in flight."""
        digest = None if request.dry_run else request.digest
        if digest is not None and digest in self._in_flight:
            return None
        return self._enqueue(request, digest).future

    async def _follow(self, other: Pending, request: Request) -> Outcome | None:
        """Wait for a command with the same key; returns None when this one has to be judged by itself."""
        same = other.request.fingerprint == request.fingerprint
        future = other.future
        try:
            outcome = await asyncio.shield(future)
        except Refusal:
            if same:
                raise
            return None
        except asyncio.CancelledError:
            if future.cancelled():
                await asyncio.sleep(0)  # its caller went away, and leaves a new future behind as soon as it knows
                return None
            raise
        if not same:
            if outcome.keyless:
                return None  # nothing was written, so the key is still free
            raise mismatch(request)
        return outcome if outcome.replayed or outcome.keyless else replace(outcome, replayed=True)

    def _enqueue(self, request: Request, digest: bytes | None, group: Group | None = None) -> Pending:
        if len(self.queue) >= QUEUE_MAX:
            raise _overloaded()
        pending = Pending(
            request,
            digest,
            DRY_RUN_ID if request.dry_run else self._new_id(),
            asyncio.get_running_loop().create_future(),
            group=group,
        )
        if digest is not None:
            self._in_flight[digest] = pending
        self.queue.append(pending)
        self._wake()
        return pending

    def answer(self, pending: Pending, outcome: Outcome) -> None:
        """Give the caller, and those who wait with the same key, the outcome."""
        if self._leaves(pending):
            pending.future.set_result(outcome)

    def fail(self, pending: Pending, error: Exception) -> None:
        """Give the caller, and those who wait with the same key, the refusal or outage."""
        if self._leaves(pending):
            pending.future.set_exception(error)

    def _leaves(self, pending: Pending) -> bool:
        """Let go of a command whose outcome is known; returns whether somebody still waits for it."""
        if pending.answered:
            return False  # the next command with its key may be in flight by now
        pending.answered = True
        if pending.digest is not None:
            self._in_flight.pop(pending.digest, None)
        return not pending.future.done()


def _overloaded() -> Overloaded:
    return Overloaded(f"{QUEUE_MAX} commands of this partition are waiting")


def mismatch(request: Request) -> IdempotencyMismatch:
    """Return the refusal of a key that another command has."""
    return IdempotencyMismatch(
        f"the key {request.key} of account {request.command.account} was used for another command",
        account=request.command.account,
        idempotency_key=request.key,
    )
