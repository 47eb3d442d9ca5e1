"""The language of the domain's laws: given what happened, when a command comes, then these facts, or this refusal.

    given(opened("basic"), granted("gift", 10)).when(reserve("r", amount=5)).then("hold", available=125, reserved=5)

A `Story` is the life of one account with a clock that a test moves. Each command is decided twice, from everything that
is known and from nothing but the stored snapshot, and must come out the same. What is accepted is recorded as real
lines of a log, and after every event the story checks

- the identities of SEMANTICS.md section 3, in books that read the lines alone (`tests.domain.books`),
- that the fold of the decoded lines, without a clock or a catalog, is the state that the decision left,
- that snapshot and items come back from their stored bytes as they were,
- that no figure, deadline or answer given before has changed its meaning: every earlier answer is built again,
- that the chain verifies.

A refusal must leave everything as it was. So each law only says what is particular to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from msgspec.structs import replace

from events import chain
from events.account import ZERO, Account, Key, Missing, State
from events.catalog import Catalog
from events.checking import Verdict, check
from events.commands import ChangePlan, Command
from events.decide import Decision, decide, due_facts
from events.draft import Draft
from events.errors import Refusal
from events.evolve import evolve, replay
from events.facts import Data, Fact, PlanChanged
from events.grants import Grant
from events.history import NO_HISTORY, Activation, History
from events.holds import Consumption, Hold
from events.instants import Instant, plus
from events.recorded import GENESIS, SYSTEM, Actor, CommandRef, Line, decode, record
from projections.outcome import answer
from service.snapshots import decode_account, decode_item, encode_account, encode_item
from tests.domain.books import Books
from tests.domain.projecting import check_projections
from tests.domain.shop import ACCOUNT, SHOP, START, Asked, opened

PARTITION = 3


class Story:
    """One account, from before it existed."""

    def __init__(self, catalog: Catalog = SHOP, *, at: Instant = START, thorough: bool = True) -> None:
        self.catalog = catalog
        self.history = NO_HISTORY
        self.now = at
        self.thorough = thorough
        """Whether everything is checked again after each command, from the first event on, or only at the end."""
        self.state = State.unknown(ACCOUNT)
        self.replayed = State.unknown(ACCOUNT)
        self.books = Books()
        self.log: list[Line] = []
        self.decision: Decision | None = None
        self.refusal: Refusal | None = None
        self.answers: list[tuple[list[Line], dict[str, Any]]] = []
        self._snapshot: bytes | None = None
        self._items: dict[Key, bytes] = {}
        self._commands = 0
        self._refusal_seen = True

    # -- time ------------------------------------------------------------------------------------------------------

    def at(self, instant: Instant | str) -> Story:
        """Let it be `instant`, which is not before now."""
        assert instant >= self.now
        self.now = Instant(instant)
        return self

    def after(self, *, days: int = 0, hours: int = 0, minutes: int = 0, seconds: int = 0) -> Story:
        """Let time pass."""
        return self.at(plus(self.now, seconds=seconds + 60 * (minutes + 60 * (hours + 24 * days))))

    def under(self, catalog: Catalog) -> Story:
        """Let another catalog be in force."""
        self.catalog = catalog
        return self

    def having_had(self, *catalogs: tuple[str, Catalog]) -> Story:
        """Let these catalogs have come into force at these instants, the last of them to stay."""
        self.history = History(Activation(Instant(at), catalog) for at, catalog in catalogs)
        return self.under(catalogs[-1][1])

    # -- what happens ----------------------------------------------------------------------------------------------

    def when(self, command: Command) -> Story:
        """Let a command come; what becomes of it is for `then` or `then_refused` to say."""
        assert self._refusal_seen, f"the test did not expect the refusal {self.refusal!r}"
        self.attempt(command)
        self._refusal_seen = self.refusal is None
        return self

    def attempt(self, command: Command) -> Refusal | None:
        """Decide a command and record what it leads to; returns the refusal when it is refused."""
        self._commands += 1
        new_id = f"new{self._commands}"
        before = _copy(self.state)
        told = judged(self.state, command, self.now, self.catalog, new_id, self.history)
        cold = self._from_the_store(command, new_id)
        assert _same(told) == _same(cold), "a decision does not depend on how much is in memory"
        assert _copy(self.state) == before, "deciding changes nothing"
        self.refusal = told if isinstance(told, Refusal) else None
        self.decision = told if isinstance(told, Decision) else None
        if self.decision is not None and self.decision.writes:
            self._record(self.decision, command)
        return self.refusal

    def _from_the_store(self, command: Command, new_id: str) -> Decision | Refusal:
        """Decide with nothing in memory but the snapshot, bringing in what is asked for, as a cold ledger does."""
        if self._snapshot is None:
            return judged(State.unknown(ACCOUNT), command, self.now, self.catalog, new_id, self.history)
        state = State(decode_account(self._snapshot))
        for name in ("reservation_id", "consumption_id"):
            work_id = getattr(command, name, None)
            if work_id is not None:
                self._bring(state, ("work", work_id))
                self._bring(state, ("work", f"{work_id}:1"))
        while True:
            try:
                return judged(state, command, self.now, self.catalog, new_id, self.history)
            except Missing as missing:
                if not missing.keys and missing.due is None:
                    raise AssertionError("what is missing has a name") from missing
                for key in missing.keys:
                    if key in state.known:
                        raise AssertionError(f"{key} was brought already") from missing
                    self._bring(state, key)
                if missing.due is not None:
                    self._bring_due(state, missing.due)

    def _bring(self, state: State, key: Key) -> None:
        state.known[key] = decode_item(self._items[key]) if key in self._items else None

    def _bring_due(self, state: State, until: Instant) -> None:
        later: list[Instant] = []
        for key in self._items:
            item = decode_item(self._items[key])
            if isinstance(item, Hold) and item.due_at is not None:
                if item.due_at <= until:
                    state.known[key] = item
                else:
                    later.append(item.due_at)
        state.holds_due = (until, min(later, default=None))

    def _record(self, decision: Decision, command: Command) -> None:
        ref = CommandRef(name=command.name, idempotency_key=f"k{self._commands}", fingerprint="f" * 64)
        for fact in decision.due:
            system = CommandRef(name="system", idempotency_key=None, fingerprint=None, id=fact.system_id)
            self._append(fact, SYSTEM, system)
        first = len(self.log)
        assert decision.facts, "every accepted command writes at least one event"
        for fact in decision.facts:
            self._append(fact, Actor(id="tester", via="test"), ref)
        self.books.check_settled()
        self.state = decision.state
        self.state.account.position = len(self.log)
        for key, item in self.state.changed.items():
            self._items[key] = encode_item(item)
            assert decode_item(self._items[key]) == item
        self.state.settle()
        self._snapshot = encode_account(self.state.account)
        lines = self.log[first:]
        self.answers.append((lines, orjson.loads(orjson.dumps(answer(ACCOUNT, lines, self.state)))))
        self._check_state()
        if self.thorough:
            self.check_history()

    def _append(self, fact: Fact, actor: Actor, command: CommandRef) -> None:
        line = record(
            fact,
            account=ACCOUNT,
            partition=PARTITION,
            position=len(self.log) + 1,
            prev_hash=self.log[-1].hash if self.log else GENESIS,
            recorded_at=self.now,
            actor=actor,
            command=command,
        )
        self.log.append(line)
        event = decode(line.line)
        assert event == line.event, "a line stands for its event"
        evolve(self.replayed, event)
        self.replayed.settle()
        self.books.enter(line.line)
        self.books.check(self.replayed)

    # -- what must hold --------------------------------------------------------------------------------------------

    def _check_state(self) -> None:
        """Check that the state after the decision is what its events lead to, and that it can be stored."""
        _check_equal(self.state, self.replayed)
        assert self._snapshot is not None
        stored = decode_account(self._snapshot)
        assert stored == self.state.account
        assert list(stored.grants) == list(self.state.account.grants), "a stored account keeps its draw order"
        due = _next_due(self.state)
        for account in (self.state.account, self.replayed.account):
            assert due is None or (account.due_at is not None and account.due_at <= due), "a due fact would be missed"
        due_at = self.state.account.due_at
        assert due_at is None or due_at > self.now, "when a command was decided, nothing is due"

    def check_history(self) -> None:
        """Check the log from its first line on, and build every answer again from what is stored now."""
        events = list(chain.verify(PARTITION, [line.line for line in self.log]))
        assert events == [line.event for line in self.log]
        _check_equal(replay(ACCOUNT, events), self.state)
        check_projections(events, self.state)
        for lines, first in self.answers:
            recalled = State(Account(ACCOUNT))
            for line in lines:
                for name in ("reservation_id", "consumption_id"):
                    work_id = getattr(line.event.data, name, None)
                    if work_id is not None:
                        self._bring(recalled, ("work", work_id))
            read = [Line(decode(line.line), line.line, line.hash) for line in lines]
            again = orjson.loads(orjson.dumps(answer(ACCOUNT, read, recalled)))
            assert again == first, "a replay answers as the first time"

    # -- what is asked ---------------------------------------------------------------------------------------------

    def then(self, *kinds: str, due: Sequence[str] = (), **figures: int) -> Story:
        """The command was accepted: these are the kinds of its facts and of the due ones, and the credits after it."""
        if self.refusal is not None:
            raise AssertionError(f"refused: {self.refusal!r} {self.refusal.fields}") from self.refusal
        assert self.decision is not None
        assert [fact.kind for fact in self.decision.facts] == list(kinds)
        assert [fact.kind for fact in self.decision.due] == list(due)
        return self.balance("credits", **figures)

    def then_refused(self, code: str, **fields: object) -> Story:
        """The command was refused with this code and, among others, these fields."""
        assert self.refusal is not None, f"accepted: {self.decision}"
        assert self.refusal.code == code, self.refusal.detail
        assert {name: self.refusal.fields.get(name) for name in fields} == fields
        self._refusal_seen = True
        return self

    def then_counted_before(self, **payment: object) -> Story:
        """The command's payment was counted before: nothing was written, and its first event can be found."""
        assert self.refusal is None, f"refused: {self.refusal!r}"
        assert self.decision is not None and self.decision.counted is not None, f"counted now: {self.decision}"
        counted = self.decision.counted
        assert {name: getattr(counted, name) for name in payment} == payment
        assert not self.decision.due and not self.decision.facts
        told = [line.event for line in self.log if line.event.recorded_at == counted.at]
        payments = [event.data.payment for event in told if isinstance(event.data, PlanChanged)]
        assert (counted.reference, counted.period_start) in [(p.reference, p.period_start) for p in payments if p]
        return self

    def balance(self, unit: str = "credits", **figures: int) -> Story:
        """A read now answers these figures of a unit."""
        told = self.read().account.figures.get(unit, ZERO)
        assert {name: getattr(told, name) for name in figures} == figures
        return self

    def read(self) -> State:
        """The account as a read sees it now."""
        assert self._refusal_seen, f"the test did not expect the refusal {self.refusal!r}"
        return due_facts(self.state, self.now, self.catalog, self.history)[0]

    def check(self, **asked: Any) -> Verdict:
        """The answer of a check now."""
        return check(Draft(self.read(), self.now, self.catalog, "check"), Asked(**asked))

    def data(self, kind: str, index: int = 0) -> Any:
        """The data of a fact of the last command, due ones included."""
        assert self.decision is not None
        found: list[Data] = [fact.data for fact in (*self.decision.due, *self.decision.facts) if fact.kind == kind]
        return found[index]

    def drawn(self, kind: str) -> list[tuple[str, int]]:
        """What the last command's fact of this kind took from which grant, in its order."""
        return [(entry.grant_id, entry.amount) for entry in self.data(kind).allocation]

    def answered(self) -> dict[str, Any]:
        """The answer to the last accepted command."""
        return self.answers[-1][1]

    def bucket(self, grant_id: str) -> Grant:
        """A grant as it was left by the last command."""
        grant = self.state.grant(grant_id)
        assert grant is not None
        return grant

    def work(self, reservation_id: str = "r") -> Hold:
        """A hold as it was left by the last command."""
        hold = self.state.hold(reservation_id)
        assert hold is not None
        return hold

    def charge(self, consumption_id: str = "c") -> Consumption:
        """A consumption as it was left by the last command."""
        consumption = self.state.consumption(consumption_id)
        assert consumption is not None
        return consumption


def given(*commands: Command, catalog: Catalog = SHOP, at: Instant = START) -> Story:
    """A story in which these commands were accepted; the account is on the plan `bare` unless they open it."""
    story = Story(catalog, at=at)
    for command in commands if commands and isinstance(commands[0], ChangePlan) else (opened(), *commands):
        story.when(command)
        assert story.refusal is None, f"refused: {story.refusal!r}"
    return story


def new(catalog: Catalog = SHOP) -> Story:
    """A story of an account that nobody opened."""
    return Story(catalog)


def judged(
    state: State, command: Command, now: Instant, catalog: Catalog, new_id: str, history: History = NO_HISTORY
) -> Decision | Refusal:
    """What becomes of a command: a decision or a refusal."""
    try:
        return decide(state, command, now, catalog, new_id, history)
    except Refusal as refusal:
        return refusal


def _same(told: Decision | Refusal) -> object:
    if isinstance(told, Refusal):
        return type(told), told.code, told.status, told.detail, told.fields
    return told.due, told.facts, told.free, told.counted


def _copy(state: State) -> object:
    return encode_account(state.account), list(state.account.grants), dict(state.known), dict(state.changed)


def _check_equal(one: State, other: State) -> None:
    """Check that two states are the same; `due_at` is a lower bound, which a fold finds less often."""
    same = {"due_at": None, "position": 0}
    assert replace(one.account, **same) == replace(other.account, **same)
    assert list(one.account.grants) == list(other.account.grants)
    assert {**one.known, **one.changed} == {**other.known, **other.changed}


def _next_due(state: State) -> Instant | None:
    """The earliest instant at which time alone will change something."""
    instants = [
        plus(item.expires_at, seconds=item.grace_seconds)
        for item in state.known.values()
        if isinstance(item, Hold) and item.state == "open" and item.expires_at is not None
    ]
    for grant in state.account.grants.values():
        if grant.state == "scheduled":
            instants.append(grant.starts_at)
        elif grant.state == "active" and grant.expires_at is not None:
            instants.append(grant.expires_at)
    if state.account.turns_at is not None:
        instants.append(state.account.turns_at)
    return min(instants, default=None)
