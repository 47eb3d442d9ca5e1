"""The writer of one partition: the one way to change an account.

Commands queue up (`intake`). What waits when the last batch is committed is the next batch; there is no timer, so a lone command
goes at once and a crowd shares a commit. For a batch the writer brings the accounts and items it needs into memory,
decides the commands in order (`deciding`), chains the lines, and appends all of it with one call that compares and sets the
partition's head. Nobody is answered before that call has.

While the call is under way, the next batch is decided as if it will succeed; if it does not, those decisions are thrown
away with it. So the database and the decisions work at the same time, and still in order.

What can go wrong, and what happens:

- Another writer was faster (`Stale`): drop what it touched, take its head, decide again.
- A key is in the log already (`KnownKeys`): those callers get the first outcome, the others are decided again.
- The outcome of the call is unknown (`Unavailable`): the same batch is sent again at the same head, where it can be
  written only once. After `PATIENCE_SECONDS` the callers get 503 and look their keys up.
- A refusal is only given when the log, at the head that it was decided on, does not have its key.
- A bug comes up: the commands of the batch are taken one by one, so that only the one that it is about fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from events.account import Key
from events.catalog import Catalog
from events.history import History
from events.instants import Instant
from service.attempt import Attempt
from service.deciding import Decider
from service.intake import Intake, mismatch
from service.outages import Failed, Outage, Unavailable
from service.pending import Pending
from service.recall import recall
from service.store.batches import Appended, Batch, Head, KnownItems, KnownKeys, Stale, Written
from service.store.log import Loaded, Log

BATCH_COMMANDS_MAX = 200
PATIENCE_SECONDS = 5.0
ATTEMPTS_MAX = 50

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Step:
    """A batch of commands, how they were decided, and what is to be appended."""

    attempt: Attempt[Pending]
    todo: list[Pending]
    batch: Batch
    counted: list[bytes]
    """The keys of payments that were counted before, and of the groups that they are in."""
    appending: asyncio.Future[Appended] | None = None


class Writer:
    """Takes the commands of one partition, and writes what they lead to."""

    def __init__(
        self,
        partition: int,
        log: Log,
        *,
        turns: asyncio.Semaphore,
        catalog: Callable[[], tuple[Catalog, History]],
        clock: Callable[[], Instant],
        new_id: Callable[[], str],
        committed: Callable[[int, int], None],
    ) -> None:
        self._partition = partition
        self._store = log
        self._turns = turns
        self._has_turn = False
        self._clock = clock
        self._committed = committed
        self.intake = Intake(new_id, self._wake)
        """Where commands come in."""
        self._decider = Decider(partition, catalog=catalog, read=self._read, fail=self.intake.fail)
        self._head: Head | None = None
        self._one_by_one = 0
        self._task: asyncio.Task[None] | None = None

    async def drain(self) -> None:
        """Wait until everything that was taken on has its outcome."""
        while self._task is not None:
            await asyncio.wait({self._task})

    def _wake(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            step: Step | None = None
            while step is not None or self.intake.queue:
                await self._take_turn()
                step = await self._bring_home(step)
                if step is None:
                    self._end_turn()
        finally:
            self._end_turn()
            self._task = None

    async def _take_turn(self) -> None:
        """Wait until few enough writers write; what is queued meanwhile makes the batch larger."""
        if not self._has_turn:
            await self._turns.acquire()
            self._has_turn = True

    def _end_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._turns.release()

    def _take(self) -> list[Pending]:
        size = min(len(self.intake.queue), BATCH_COMMANDS_MAX)
        if self._one_by_one:
            size = 1
            self._one_by_one -= 1
        todo = [self.intake.queue.popleft() for _ in range(size)]
        while self.intake.queue and (group := self.intake.queue[0].group) is not None and todo[-1].group is group:
            todo.append(self.intake.queue.popleft())
        return todo

    async def _bring_home(self, step: Step | None) -> Step | None:
        """Write a batch, whatever it takes, while the next one is decided on top of it; returns that next step.

        Every caller of the batch gets an outcome, a refusal or an outage.
        """
        todo = step.todo if step else self._take()
        ahead: Step | None = None
        try:
            for _ in range(ATTEMPTS_MAX):
                if step is None:
                    step = await self._prepare(todo, await self._at_head())
                if step.appending is None:
                    await self._send(step)
                ahead = await self._look_ahead(step.attempt)
                result = await self._outcome(step)
                if isinstance(result, Written):
                    if ahead is not None:  # before the callers wake up and take their time
                        ahead.attempt.stand_alone()
                        await self._send(ahead)
                    self._decider.remember(step.attempt, ahead and ahead.attempt)
                    await self._conclude(step.attempt, result.known)
                    return ahead
                self._put_back(ahead)
                ahead = None
                todo = await self._recover(step, result)
                if not todo:
                    return None
                step = None
            self._give_up(todo, ahead, Unavailable("other writers are too busy on this partition"))
        except Outage as outage:
            self._put_back(ahead)
            todo = [*todo, *self.intake.queue]  # who waits behind would be as patient, and then hear the same
            self.intake.queue.clear()
            self._give_up(todo, None, outage)
        except Exception:  # noqa: BLE001 - whatever it is, the callers get an answer
            _log.exception("partition %s: a batch of %s commands failed", self._partition, len(todo))
            self._put_back(ahead)
            if len(todo) > 1:
                self._separate(todo)
            else:
                self._give_up(todo, None, Failed("the ledger failed on this command; look its key up"))
        return None

    def _separate(self, todo: list[Pending]) -> None:
        """Queue the commands of a batch that failed, one by one, so that only the one that it is about fails again."""
        self._forget()
        left = [pending for pending in todo if not pending.answered]
        self.intake.queue.extendleft(reversed(left))
        self._one_by_one = len(left)

    def _give_up(self, todo: list[Pending], ahead: Step | None, outage: Outage) -> None:
        self._put_back(ahead)
        self._forget()
        for pending in todo:
            self.intake.fail(pending, outage)

    def _put_back(self, ahead: Step | None) -> None:
        """Queue the commands of a step that stood on one that failed; they are decided anew."""
        if ahead is not None:
            self._decider.cache.drop(ahead.attempt.accounts())
            self.intake.queue.extendleft(reversed(ahead.todo))

    async def _look_ahead(self, base: Attempt[Pending]) -> Step | None:
        """Decide what waits as if `base` were written, which the append of `base` will tell.

        When every turn is taken, there is enough to do meanwhile, and it is better to let the queue grow.
        """
        if not self.intake.queue or not base.writes or self._one_by_one or self._turns.locked():
            return None
        todo = self._take()
        attempt = self._begin(base.head_after, base)
        try:
            return await self._prepare(todo, attempt)
        except Exception as error:  # noqa: BLE001 - it will come up again when the batch has its turn
            _log.debug("partition %s: nothing was decided ahead: %s", self._partition, error)
            base.spoiled.update(attempt.accounts())  # their items in memory are shared with what was thrown away
            self._decider.cache.drop(base.spoiled)
            self.intake.queue.extendleft(reversed(todo))
            return None

    def _forget(self) -> None:
        self._head = None
        self._decider.cache.clear()

    async def _at_head(self) -> Attempt[Pending]:
        """Begin on the head that is known, or else on the one that the log has."""
        if self._head is None:
            self._head = await self._patiently(lambda: self._store.head(self._partition))
        return self._begin(self._head)

    def _begin(self, head: Head, base: Attempt[Pending] | None = None) -> Attempt[Pending]:
        return Attempt(self._partition, head, max(self._clock(), head.recorded_at), base)

    async def _prepare(self, todo: list[Pending], attempt: Attempt[Pending]) -> Step:
        """Decide commands, on top of what the attempt begins with."""
        todo = [pending for pending in todo if not pending.answered]
        await self._decider.decide(attempt, todo)
        absent = [pending.digest for pending, _ in attempt.refused if pending.digest is not None]
        return Step(attempt, todo, attempt.batch(absent), list(_keys_of_counted(attempt)))

    async def _send(self, step: Step) -> None:
        """Start to append a step, and see its bytes leave before anything else keeps the loop busy."""
        step.appending = self._append(step)
        for _ in range(2):  # the statement starts in the first turn of the loop, the transport writes at its end
            await asyncio.sleep(0)

    def _append(self, step: Step) -> asyncio.Future[Appended]:
        if step.counted:
            return asyncio.ensure_future(self._append_unless_known(step))
        if step.batch.events:
            return asyncio.ensure_future(self._store.append(step.batch))
        return asyncio.ensure_future(self._check(step))

    async def _append_unless_known(self, step: Step) -> Appended:
        """Append a step with payments that were counted before: they write nothing, so no key of theirs would be seen."""
        _, known = await self._patiently(lambda: self._store.known_keys(self._partition, step.counted))
        if known:
            return KnownKeys(known)
        return await (self._store.append(step.batch) if step.batch.events else self._check(step))

    async def _outcome(self, step: Step) -> Appended:
        """Wait for what became of a step; an unknown outcome is settled by sending the same batch again."""
        assert step.appending is not None  # noqa: S101 - it was sent
        try:
            return await step.appending
        except Unavailable:
            if not step.batch.events:
                raise
        return await self._append_again(step.batch)

    async def _recover(self, step: Step, result: Stale | KnownKeys | KnownItems) -> list[Pending]:
        """Learn from a failed append; returns the commands that have to be decided again."""
        self._decider.cache.drop(step.attempt.accounts())
        match result:
            case Stale():
                await self._catch_up(step.attempt.head)
            case KnownItems():
                self._decider.suspects = step.attempt.created()
            case KnownKeys():
                return await self._answer_known(step.todo, result.keys)
        return step.todo

    async def _read(
        self, accounts: Sequence[str], items: Sequence[tuple[str, Key]], due: dict[str, Instant]
    ) -> list[Loaded]:
        return await self._patiently(lambda: self._store.load(self._partition, accounts, items, due))

    async def _append_again(self, batch: Batch) -> Appended:
        """Append a batch that may be in the log already, at the same head."""

        async def send() -> Appended:
            result = await self._store.append(batch)
            if isinstance(result, Stale):
                first = await self._store.hash_at(self._partition, batch.head.position + 1)
                if first is not None and bytes.fromhex(first) == batch.events[0].hash:
                    _, known = await self._store.known_keys(self._partition, batch.absent_keys)
                    return Written(known)
            return result

        return await self._patiently(send, failed=True)

    async def _check(self, step: Step) -> Appended:
        """Make sure, when there is nothing to write, that all that was judged was judged on the present head."""
        if not step.attempt.judges:
            return Written(frozenset())
        batch = step.batch
        head, known = await self._patiently(lambda: self._store.known_keys(self._partition, batch.absent_keys))
        same = (head.position, head.hash) == (batch.head.position, batch.head.hash)
        return Written(known) if same else Stale()

    async def _conclude(self, attempt: Attempt[Pending], known: frozenset[bytes]) -> None:
        """The batch is in the log: keep the states, and answer everybody."""
        self._head = attempt.head_after
        if attempt.writes:
            self._committed(self._partition, attempt.head_after.position)
        for pending, outcome in attempt.outcomes():
            self.intake.answer(pending, outcome)
        for pending, refusal in attempt.refused:
            if known and await self._answer_if_known(pending, known):
                continue
            self.intake.fail(pending, refusal)

    async def _answer_known(self, todo: list[Pending], keys: frozenset[bytes]) -> list[Pending]:
        return [pending for pending in todo if not await self._answer_if_known(pending, keys)]

    async def _answer_if_known(self, pending: Pending, keys: frozenset[bytes]) -> bool:
        """Answer a command that the log has; one of a group only with all of it. Returns False when it has nothing."""
        group = pending.group
        if group is not None and not group.known(keys):
            if not any(member.digest in keys for member in group.members):
                return False
            self.intake.fail(pending, group.refusal(pending, keys))
        elif pending.digest not in keys:
            if group is None or pending.keyless is None:
                return False
            self.intake.answer(pending, pending.keyless)
        else:
            await self._answer_first(pending)
        return True

    async def _answer_first(self, pending: Pending) -> None:
        """Answer with the first outcome of the key, or with a mismatch."""
        request = pending.request
        try:
            first = await self._patiently(
                lambda: recall(self._store, self._partition, request.command.account, request.key)
            )
        except Outage as outage:
            self.intake.fail(pending, outage)
            return
        if first is None or first.lines[0].event.command.fingerprint != request.fingerprint:
            self.intake.fail(pending, mismatch(request))
        else:
            self.intake.answer(pending, first)

    async def _catch_up(self, head: Head) -> None:
        """Take over the head that another writer left, and forget the accounts that it touched."""
        self._head, touched = await self._patiently(lambda: self._store.touched(self._partition, head))
        if touched is None:  # the history that this writer knows is not the log's
            self._decider.cache.clear()
        else:
            self._decider.cache.drop(touched)

    async def _patiently(self, work: Callable[[], Awaitable[Result]], *, failed: bool = False) -> Result:
        """Do work that may be done again, until the database answers or the patience ends; it may have `failed` before.

        Who has to be patient lets the others have the turn: their callers shall not wait longer for it.
        """
        deadline = monotonic() + PATIENCE_SECONDS
        pause = 0.02
        while True:
            if not failed:
                try:
                    return await work()
                except Unavailable:
                    if monotonic() + pause > deadline:
                        raise
            failed = False
            self._end_turn()
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)


def _keys_of_counted(attempt: Attempt[Pending]) -> Iterator[bytes]:
    for pending, outcome in attempt.shown:
        if outcome.counted is not None:
            for member in [pending] if pending.group is None else pending.group.members:
                if member.digest is not None:
                    yield member.digest
