"""Counterfactual replay: what the same commands would have come to had another catalog come into force at an instant.

An account's events are read once, in their order. Until the instant there is one account. From there on there are two:
one goes on by the events, the other by the commands that are rebuilt from them and decided anew, each at its own
instant, under the other catalog. What the catalog changes has its consequences: a balance that ran out earlier refuses
what came later, and what is about a hold that was refused falls with it.

Commands that were refused at the time left nothing in the log. So a dearer catalog shows all that it would have refused,
and a cheaper one does not show what it would have allowed in addition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from events.account import State
from events.catalog import Catalog
from events.commands import Command, Consume, Extend, Refund, Release, Revoke
from events.decide import Decision, decide, due_facts
from events.errors import AccountNotFound, Refusal
from events.evolve import evolve
from events.facts import Consumed, Data, Refunded
from events.history import History
from events.instants import Instant
from events.rebuilding import Assumption, Loss, Rebuilt, rebuild
from events.recorded import Event

CANNOT_SAY = (
    "what was refused at the time: refusals are not in the log, so nothing says which of them would be allowed",
    "operations that were free at the time, checks and quotes: they left nothing in the log",
    "what callers would have done instead: each command comes when it came, with what its body said",
    "`deadline`, which is not recorded, and was met",
)
"""What no counterfactual replay of a log can tell."""

REFUSED_TOLD_MAX = 1000
"""Of all that would be refused the first are told one by one; all are counted."""

Verdict = Literal["accepted", "refused", "falls", "free", "not_rebuilt"]
"""`falls`: it is about something that does not exist, because what would have made it was refused, fell or was free."""


class Work(msgspec.Struct, gc=False):
    """What the work of one side came to, in the unit's smallest step."""

    steps: int = 0
    used: int = 0
    charged: int = 0
    refunded: int = 0

    @property
    def net(self) -> int:
        """What was used and not given back: what it cost."""
        return self.used - self.refunded

    def add(self, other: Work) -> None:
        """Add another one to this."""
        self.steps += other.steps
        self.used += other.used
        self.charged += other.charged
        self.refunded += other.refunded


class Both(msgspec.Struct, gc=False):
    """A figure of each side."""

    was: Work
    would_be: Work

    @classmethod
    def nothing(cls) -> Both:
        """Return both sides at 0."""
        return cls(Work(), Work())

    def add(self, other: Both) -> None:
        """Add another one to this."""
        self.was.add(other.was)
        self.would_be.add(other.would_be)


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A command that was accepted and would be refused, by the event that it wrote."""

    event: str
    account: str
    at: Instant
    command: str
    operation: str | None
    code: str
    detail: str


Row = tuple[str, str]
"""A unit, and the operation or '' for work that named none."""


class Told(msgspec.Struct, gc=False):
    """What became of one account or, added up, of many."""

    commands: int = 0
    verdicts: Counter[Verdict] = msgspec.field(default_factory=Counter[Verdict])
    codes: Counter[str] = msgspec.field(default_factory=Counter[str])
    assumed: Counter[Assumption] = msgspec.field(default_factory=Counter[Assumption])
    lost: Counter[Loss] = msgspec.field(default_factory=Counter[Loss])
    operations: dict[Row, Both] = {}
    refused: list[Refused] = []
    was: State | None = None
    would_be: State | None = None

    def add(self, other: Told) -> None:
        """Add another account's."""
        self.commands += other.commands
        self.verdicts.update(other.verdicts)
        self.codes.update(other.codes)
        self.assumed.update(other.assumed)
        self.lost.update(other.lost)
        for row, both in other.operations.items():
            self.operations.setdefault(row, Both.nothing()).add(both)
        self.refused += other.refused[: REFUSED_TOLD_MAX - len(self.refused)]


class Counterfactual:
    """Reads one account's events; `end` returns what became of it."""

    def __init__(self, account: str, catalog: Catalog, history: History, start: Instant, end: Instant) -> None:
        """`history` has the catalogs that were in force; `catalog` is in force from `start` on instead."""
        self._catalog = catalog
        self._before = history
        self._history = history.supposing(catalog, start)
        self._start = start
        self._end = end
        self._actual = State.unknown(account)
        self._supposed: State | None = None
        self._command: list[Event] = []
        self._absent: set[str] = set()
        self._told = Told()

    def enter(self, event: Event) -> None:
        """Read the next event of the account."""
        if event.recorded_at >= self._start and self._supposed is None:
            self._supposed = self._actual.apart()
            self._supposed.account.figures = dict(self._actual.account.figures)
        if self._supposed is None:
            self._evolve([event])
            return
        key = event.command.idempotency_key
        if self._command and self._command[0].command.idempotency_key != key:
            self._judge()
        if key is None:  # what was due; on the other side other things may be
            self._evolve([event])
        else:
            self._command.append(event)

    def end(self) -> Told:
        """Return what became of the account; of one without events in the range, nothing."""
        if self._command:
            self._judge()
        told = self._told
        if self._supposed is not None:
            present = self._before.at(self._end, self._catalog)
            told.was = due_facts(self._actual, self._end, present, self._before)[0]
            told.would_be = due_facts(self._supposed, self._end, self._catalog, self._history)[0]
        return told

    def _judge(self) -> None:
        """Decide the command that is complete on the other side, then let its events happen on this one."""
        events, self._command = self._command, []
        rebuilt = rebuild(events, self._actual, self._before)
        self._told.commands += 1
        self._told.assumed.update(rebuilt.assumed)
        if rebuilt.command is None:
            self._told.lost[rebuilt.lost or "unknown_command"] += 1
            verdict: Verdict = "not_rebuilt"
        else:
            verdict = self._decide(events, rebuilt, rebuilt.command)
        self._told.verdicts[verdict] += 1
        self._count(self._actual, [event.data for event in events], supposed=False)
        self._evolve(events)

    def _decide(self, events: Sequence[Event], rebuilt: Rebuilt, command: Command) -> Verdict:
        assert self._supposed is not None  # noqa: S101 - nothing is judged before the two part
        about = _about(command)
        if about is not None and about in self._absent:
            self._absent.update(_made(events))
            return "falls"
        at = events[0].recorded_at
        if isinstance(command, Revoke):
            command = Revoke(account=command.account, grant_id=self._twin(command.grant_id), reason=command.reason)
        try:
            decision = decide(self._supposed, command, at, self._catalog, rebuilt.new_id, self._history)
        except Refusal as refusal:
            if isinstance(refusal, AccountNotFound) and self._actual.exists:
                return "falls"
            self._absent.update(_made(events))
            self._told.codes[refusal.code] += 1
            if len(self._told.refused) < REFUSED_TOLD_MAX:
                self._told.refused.append(_refused(events, refusal))
            return "refused"
        if decision.free:
            self._absent.update(_made(events))
            return "free"
        self._happen(decision)
        return "accepted"

    def _happen(self, decision: Decision) -> None:
        if not decision.writes:
            return
        assert self._supposed is not None  # noqa: S101 - it is what was decided on
        self._count(self._supposed, [fact.data for fact in (*decision.due, *decision.facts)], supposed=True)
        self._supposed = decision.state
        self._supposed.settle()

    def _twin(self, grant_id: str) -> str:
        """Return the grant of the other side that stands for one that the ledger made, whose id may differ."""
        assert self._supposed is not None  # noqa: S101 - nothing is judged before the two part
        own = self._actual.grant(grant_id)
        if own is None or self._supposed.grant(grant_id) is not None:
            return grant_id
        like = (own.kind, own.unit, own.starts_at)
        grants = self._supposed.account.grants.values()
        return next((each.id for each in grants if (each.kind, each.unit, each.starts_at) == like), grant_id)

    def _evolve(self, events: Iterable[Event]) -> None:
        for event in events:
            evolve(self._actual, event)
            self._actual.settle()

    def _count(self, before: State, data: Iterable[Data], *, supposed: bool) -> None:
        """Count the work of a command; what is given back stands under the operation of its consumption."""
        for each in data:
            if isinstance(each, Consumed):
                for line in each.lines:
                    self._add(each.unit, line.operation, Work(1, line.amount, line.charged), supposed=supposed)
                if not each.lines:
                    self._add(each.unit, each.operation, Work(1, each.actual, each.charged), supposed=supposed)
            elif isinstance(each, Refunded) and each.usage:
                of = None if each.consumption_id is None else before.consumption(each.consumption_id)
                operation = None if of is None else of.operation
                self._add(each.unit, operation, Work(refunded=each.usage), supposed=supposed)

    def _add(self, unit: str, operation: str | None, work: Work, *, supposed: bool) -> None:
        both = self._told.operations.setdefault((unit, operation or ""), Both.nothing())
        (both.would_be if supposed else both.was).add(work)


def _about(command: Command) -> str | None:
    """Return the hold, consumption or grant that must exist for a command."""
    match command:
        case Consume() | Release() | Extend():
            return command.reservation_id
        case Refund():
            return command.consumption_id
        case Revoke():
            return command.grant_id
        case _:
            return None


def _made(events: Iterable[Event]) -> set[str]:
    """Return the ids of what a command made."""
    names = ("reservation_id", "consumption_id", "grant_id")
    found = {getattr(event.data, name, None) for event in events for name in names}
    return {each for each in found if each is not None}


def _refused(events: Sequence[Event], refusal: Refusal) -> Refused:
    named = [getattr(event.data, "operation", None) for event in events]
    named += [line.operation for event in events for line in getattr(event.data, "lines", ())]
    return Refused(
        event=events[0].id,
        account=events[0].account,
        at=events[0].recorded_at,
        command=events[0].command.name,
        operation=next((name for name in named if name is not None), None),
        code=refusal.code,
        detail=refusal.detail,
    )
