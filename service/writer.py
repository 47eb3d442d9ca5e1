"""The writer of one partition: the one way to change an account.

Commands queue up. What waits when the last batch is committed is the next batch; there is no timer, so a lone command
goes at once and a crowd shares a commit. For a batch the writer brings the accounts and items it needs into memory,
decides the commands in order, chains the lines, and appends all of it with one call that compares and sets the
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
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar, cast

from msgspec.structs import replace

from events.account import Item, ItemKind, Key, Missing, State
from events.catalog import Catalog
from events.commands import (
    Sweep,
)
from events.decide import Decision, decide
from events.errors import IdempotencyMismatch, Refusal
from events.history import History
from events.instants import Instant
from events.recorded import SYSTEM
from projections.outcome import DRY_RUN_ID
from service.attempt import Attempt
from service.cache import StateCache
from service.needs import Needs
from service.outages import Outage, Overloaded, Unavailable
from service.pending import Group, Pending, aborted
from service.recall import recall
from service.requests import Outcome, Request
from service.snapshots import decode_account, decode_item
from service.store.batches import Appended, Batch, Head, KnownItems, KnownKeys, Stale, Written
from service.store.log import Log

BATCH_COMMANDS_MAX = 200
DECIDING_SECONDS_MAX = 0.0005
"""For how long decisions keep the event loop; in between, a long batch on its way to the database gets on."""
QUEUE_MAX = 10_000
PATIENCE_SECONDS = 5.0
ATTEMPTS_MAX = 50

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Step:
    """A batch of commands and how they were decided."""

    attempt: Attempt[Pending]
    todo: list[Pending]
    appending: asyncio.Task[Appended] | None = None


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
        self._catalog = catalog
        self._clock = clock
        self._new_id = new_id
        self._committed = committed
        self._queue: deque[Pending] = deque()
        self._in_flight: dict[bytes, Pending] = {}
        self._cache = StateCache()
        self._head: Head | None = None
        self._suspects: list[tuple[str, Key]] = []
        self._one_by_one = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many commands wait or are being written."""
        return len(self._in_flight)

    def is_in_flight(self, digest: bytes) -> bool:
        """Say whether a command with this key waits for its outcome."""
        return digest in self._in_flight

    async def drain(self) -> None:
        """Wait until everything that was taken on has its outcome."""
        while self._task is not None:
            await asyncio.wait({self._task})

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
        if len(self._queue) + len(requests) > QUEUE_MAX:
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
        if len(self._queue) >= QUEUE_MAX:
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
        self._queue.append(pending)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return pending

    def _answer(self, pending: Pending, outcome: Outcome) -> None:
        """Give the caller, and those who wait with the same key, the outcome."""
        if self._leaves(pending):
            pending.future.set_result(outcome)

    def _fail(self, pending: Pending, error: Exception) -> None:
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

    async def _run(self) -> None:
        try:
            step: Step | None = None
            while step is not None or self._queue:
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
        size = min(len(self._queue), BATCH_COMMANDS_MAX)
        if self._one_by_one:
            size = 1
            self._one_by_one -= 1
        todo = [self._queue.popleft() for _ in range(size)]
        while self._queue and (group := self._queue[0].group) is not None and todo[-1].group is group:
            todo.append(self._queue.popleft())
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
                appending = step.appending or await self._send(step)
                ahead = await self._look_ahead(step.attempt)
                result = await appending
                if isinstance(result, Written):
                    if ahead is not None:  # before the callers wake up and take their time
                        ahead.attempt.stand_alone()
                        await self._send(ahead)
                    self._remember(step.attempt, ahead)
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
            todo = [*todo, *self._queue]  # who waits behind would be as patient, and then hear the same
            self._queue.clear()
            self._give_up(todo, None, outage)
        except Exception:  # noqa: BLE001 - whatever it is, the callers get an answer
            _log.exception("partition %s: a batch of %s commands failed", self._partition, len(todo))
            self._put_back(ahead)
            if len(todo) > 1:
                self._separate(todo)
            else:
                self._give_up(todo, None, Unavailable("the ledger failed on this command; look its key up"))
        return None

    def _separate(self, todo: list[Pending]) -> None:
        """Queue the commands of a batch that failed, one by one, so that only the one that it is about fails again."""
        self._forget()
        left = [pending for pending in todo if not pending.answered]
        self._queue.extendleft(reversed(left))
        self._one_by_one = len(left)

    def _give_up(self, todo: list[Pending], ahead: Step | None, outage: Outage) -> None:
        self._put_back(ahead)
        self._forget()
        for pending in todo:
            self._fail(pending, outage)

    def _put_back(self, ahead: Step | None) -> None:
        """Queue the commands of a step that stood on one that failed; they are decided anew."""
        if ahead is not None:
            self._cache.drop(ahead.attempt.accounts())
            self._queue.extendleft(reversed(ahead.todo))

    async def _look_ahead(self, base: Attempt[Pending]) -> Step | None:
        """Decide what waits as if `base` were written, which the append of `base` will tell.

        When every turn is taken, there is enough to do meanwhile, and it is better to let the queue grow.
        """
        if not self._queue or not base.writes or self._one_by_one or self._turns.locked():
            return None
        todo = self._take()
        attempt = self._begin(base.head_after, base)
        try:
            return await self._prepare(todo, attempt)
        except Exception as error:  # noqa: BLE001 - it will come up again when the batch has its turn
            _log.debug("partition %s: nothing was decided ahead: %s", self._partition, error)
            base.spoiled.update(attempt.accounts())  # their items in memory are shared with what was thrown away
            self._cache.drop(base.spoiled)
            self._queue.extendleft(reversed(todo))
            return None

    def _forget(self) -> None:
        self._head = None
        self._cache.clear()

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
        await self._decide(attempt, todo)
        return Step(attempt, todo)

    async def _send(self, step: Step) -> asyncio.Task[Appended]:
        """Start to append a step, and see its bytes leave before anything else keeps the loop busy."""
        step.appending = asyncio.create_task(self._commit(step.attempt))
        for _ in range(2):  # the task starts in the first turn of the loop, the transport writes in the second
            await asyncio.sleep(0)
        return step.appending

    async def _commit(self, attempt: Attempt[Pending]) -> Appended:
        absent = [pending.digest for pending, _ in attempt.refused if pending.digest is not None]
        batch = attempt.batch(absent)
        if batch.events:
            return await self._append(batch)
        return await self._check(batch) if attempt.judges else Written(frozenset())

    async def _recover(self, step: Step, result: Stale | KnownKeys | KnownItems) -> list[Pending]:
        """Learn from a failed append; returns the commands that have to be decided again."""
        self._cache.drop(step.attempt.accounts())
        match result:
            case Stale():
                await self._catch_up(step.attempt.head)
            case KnownItems():
                self._suspects = step.attempt.created()
            case KnownKeys():
                return await self._answer_known(step.todo, result.keys)
        return step.todo

    async def _decide(self, attempt: Attempt[Pending], todo: list[Pending]) -> None:
        """Decide all commands, those of one account in their order; load what is missing as often as it takes."""
        catalogs = self._catalog()
        while todo:
            missing = Needs()
            later: list[Pending] = []
            pause = monotonic() + DECIDING_SECONDS_MAX
            for pending in todo:
                command = pending.request.command
                if command.account in missing.accounts_blocked:
                    missing.named(command)
                    later.append(pending)
                    continue
                state = attempt.states.get(command.account) or self._state(attempt, command.account)
                if state is None:
                    missing.account(command)
                    later.append(pending)
                    continue
                try:
                    self._judge(attempt, pending, state, *catalogs)
                except Missing as error:
                    missing.items(command, error)
                    later.append(pending)
                if monotonic() > pause:
                    await asyncio.sleep(0)
                    pause = monotonic() + DECIDING_SECONDS_MAX
            if later:
                await self._load(attempt, missing)
            todo = later

    def _judge(
        self, attempt: Attempt[Pending], pending: Pending, state: State, catalog: Catalog, history: History
    ) -> None:
        """Decide a command, and with the first one of a group all of it; raises Missing."""
        try:
            if pending.group is None:
                decision = decide(state, pending.request.command, attempt.now, catalog, pending.new_id, history)
                self._accept(attempt, pending, decision)
            elif pending is pending.group.members[0]:
                self._judge_together(attempt, pending.group, state, catalog, history)
        except Missing:
            raise
        except Refusal as refusal:
            attempt.refuse(pending, refusal)
        except Exception:  # noqa: BLE001 - a command that cannot be judged must not fail its neighbours
            _log.exception("partition %s: a %s cannot be decided", self._partition, pending.request.command.name)
            for each in [pending] if pending.group is None else pending.group.members:
                self._fail(each, Unavailable("the ledger failed on this command; nothing was written"))

    def _accept(self, attempt: Attempt[Pending], pending: Pending, decision: Decision) -> None:
        request = pending.request
        if request.dry_run or not decision.writes or not (decision.due or decision.facts):
            attempt.show(pending, decision)
        else:
            attempt.accept(pending, decision, request, pending.digest)

    def _judge_together(
        self, attempt: Attempt[Pending], group: Group, state: State, catalog: Catalog, history: History
    ) -> None:
        """Decide the commands of a group on top of each other; when one may not be, none was. Raises Missing."""
        before = attempt.mark(state.account.id)
        state = state.apart()
        member = group.members[0]
        try:
            for member in group.members:
                decision = decide(state, member.request.command, attempt.now, catalog, member.new_id, history)
                self._accept(attempt, member, decision)
                state = decision.state
                state.settle()
        except Refusal as refusal:
            attempt.reset(before)
            number = group.members.index(member)
            for other in group.members:
                attempt.refuse(other, refusal if other is member else aborted(number))
        except BaseException:
            attempt.reset(before)
            raise

    async def _load(self, attempt: Attempt[Pending], missing: Needs) -> None:
        due = dict.fromkeys(missing.due, attempt.now)
        suspects, self._suspects = self._suspects, []
        items = [*missing.keys, *suspects]
        rows = await self._patiently(lambda: self._store.load(self._partition, list(missing.accounts), items, due))
        states: dict[str, State] = {}
        for row in rows:
            if row.what == "account":
                states[row.account] = State(decode_account(row.state))
        for account in missing.accounts:
            state = attempt.read[account] = states.get(account) or State.unknown(account)
            self._cache.put(account, state)
        for account, key in items:
            self._known(attempt, account).setdefault(key, None)
        for row in rows:
            if row.what == "item":
                item = decode_item(row.state)
                known = self._known(attempt, row.account)
                key: Key = (cast("ItemKind", row.kind), row.id)
                if known.get(key) is None:
                    known[key] = item
            elif row.what == "next_due":
                state = self._state(attempt, row.account)
                if state is not None:
                    state.holds_due = (attempt.now, row.due_at)

    def _state(self, attempt: Attempt[Pending], account: str) -> State | None:
        """Return what is known of an account; the cache may be too small for all that a batch has read."""
        return attempt.state(account) or attempt.read.get(account) or self._cache.get(account)

    def _known(self, attempt: Attempt[Pending], account: str) -> dict[Key, object]:
        state = self._state(attempt, account)
        return {} if state is None else state.known  # type: ignore[return-value]  # filled with decoded items only

    async def _append(self, batch: Batch) -> Appended:
        """Append; an unknown outcome is settled by sending the same batch again at the same head."""
        unsure = False

        async def send() -> Appended:
            nonlocal unsure
            try:
                result = await self._store.append(batch)
                if unsure and isinstance(result, Stale):
                    first = await self._store.hash_at(self._partition, batch.head.position + 1)
                    if first is not None and bytes.fromhex(first) == batch.events[0].hash:
                        _, known = await self._store.known_keys(self._partition, batch.absent_keys)
                        return Written(known)
            except Unavailable:
                unsure = True
                raise
            return result

        return await self._patiently(send)

    async def _check(self, batch: Batch) -> Written | Stale:
        """Make sure, when there is nothing to write, that all was decided on the present head."""
        head, known = await self._patiently(lambda: self._store.known_keys(self._partition, batch.absent_keys))
        same = (head.position, head.hash) == (batch.head.position, batch.head.hash)
        return Written(known) if same else Stale()

    async def _conclude(self, attempt: Attempt[Pending], known: frozenset[bytes]) -> None:
        """The batch is in the log: keep the states, and answer everybody."""
        self._head = attempt.head_after
        if attempt.writes:
            self._committed(self._partition, attempt.head_after.position)
        for pending, outcome in attempt.outcomes():
            self._answer(pending, outcome)
        for pending, refusal in attempt.refused:
            if known and await self._answer_if_known(pending, known):
                continue
            self._fail(pending, refusal)

    def _remember(self, attempt: Attempt[Pending], ahead: Step | None) -> None:
        """Keep the states that are in the log now.

        One with too many items goes on with the latest and those that the step ahead changed, which only it knows. The
        states that led here keep theirs: callers may still look at them.
        """
        for account, state in attempt.states.items():
            known = self._cache.latest(state)
            self._cache.put(account, state if known is None else self._lightened(state, known, ahead))
        self._cache.drop(attempt.spoiled)

    def _lightened(self, state: State, known: dict[Key, Item | None], ahead: Step | None) -> State:
        following = None if ahead is None else ahead.attempt.states.get(state.account.id)
        if ahead is not None and following is not None:
            known.update(ahead.attempt.items(state.account.id))
            following.forget_all_but(known)
        light = state.fork()
        light.forget_all_but(known)
        return light

    async def _answer_known(self, todo: list[Pending], keys: frozenset[bytes]) -> list[Pending]:
        return [pending for pending in todo if not await self._answer_if_known(pending, keys)]

    async def _answer_if_known(self, pending: Pending, keys: frozenset[bytes]) -> bool:
        """Answer a command that the log has; one of a group only with all of it. Returns False when it has nothing."""
        group = pending.group
        if group is not None and not group.known(keys):
            if not any(member.digest in keys for member in group.members):
                return False
            self._fail(pending, group.refusal(pending, keys))
        elif pending.digest not in keys:
            return False
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
            self._fail(pending, outage)
            return
        if first is None or first.lines[0].event.command.fingerprint != request.fingerprint:
            self._fail(pending, mismatch(request))
        else:
            self._answer(pending, first)

    async def _catch_up(self, head: Head) -> None:
        """Take over the head that another writer left, and forget the accounts that it touched."""
        self._head, touched = await self._patiently(lambda: self._store.touched(self._partition, head))
        if touched is None:  # the history that this writer knows is not the log's
            self._cache.clear()
        else:
            self._cache.drop(touched)

    async def _patiently(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do work that may be done again, until the database answers or the patience ends.

        Who has to be patient lets the others have the turn: their callers shall not wait longer for it.
        """
        deadline = monotonic() + PATIENCE_SECONDS
        pause = 0.02
        while True:
            try:
                return await work()
            except Unavailable:
                if monotonic() + pause > deadline:
                    raise
            self._end_turn()
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)


def _overloaded() -> Overloaded:
    return Overloaded(f"{QUEUE_MAX} commands of this partition are waiting")


def mismatch(request: Request) -> IdempotencyMismatch:
    """Return the refusal of a key that another command has."""
    return IdempotencyMismatch(
        f"the key {request.key} of account {request.command.account} was used for another command",
        account=request.command.account,
        idempotency_key=request.key,
    )
