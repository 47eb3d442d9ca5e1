"""Holds as they are looked at together: how estimates compare with charges, what expired unsettled, what has no end.

Four kinds of rows, each folded from events alone. `Made` counts holds by the hour in which they were made, by operation
and actor; a hold with several lines counts once for each. `Settled` says what lines came to, as percent of what was
reserved for them. `Expired` counts what came back because nobody settled it, by account, and what was settled late after
all, under the operation and the actor of the hold. `Endless` are the open holds without an end, one row each.

The event that made a hold names its operations and actor; the events that end it do not, so those that need them come
with their `Sources`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from events.facts import Consumed, HoldFigures, Refunded, Reserved
from events.instants import Instant, moment
from events.recorded import Event, ReservedEvent
from projections.usage import hour_of

NAME = "holds"
VERSION = 1
SETTLED = frozenset({"settled", "settled_late"})
PERCENT_MAX = 10_000


class Work(NamedTuple):
    """What a row is about: an hour, a unit, an operation ('' when none was named), and who reserved."""

    hour: str
    unit: str
    operation: str
    actor: str


class Made(NamedTuple):
    """How many lines were held, and how many credits for them at first."""

    holds: int
    amount: int


class Ratio(NamedTuple):
    """What a row of settled lines is about; `percent` is that of `percent_of`."""

    hour: str
    unit: str
    operation: str
    percent: int


class Settled(NamedTuple):
    """How many lines were settled, what was reserved for them in all, and what they came to."""

    holds: int
    reserved: int
    actual: int


class Leak(NamedTuple):
    """What a row of expired holds is about."""

    account: str
    hour: str
    unit: str
    operation: str
    actor: str


class Expired(NamedTuple):
    """How many lines expired, the credits that came back, for how many seconds those were held, and how many lines were
    settled late after all.
    """

    holds: int
    amount: int
    seconds: int
    settled_late: int


class Endless(NamedTuple):
    """An open hold without an end."""

    operation: str
    actor: str
    occupies: dict[str, int]
    created_at: Instant | None
    """None: only what it occupies has changed."""


Id = tuple[str, str]
"""An account and a reservation of it."""
Sources = Mapping[Id, ReservedEvent]
"""The events that made holds."""


class Folded(NamedTuple):
    """What events add to each row; an endless hold that is None has ended."""

    made: dict[Work, Made]
    settled: dict[Ratio, Settled]
    expired: dict[Leak, Expired]
    endless: dict[Id, Endless | None]


def needed(events: Iterable[Event]) -> dict[Id, None]:
    """Return the holds whose beginning must be known to fold the events, each once."""
    found: dict[Id, None] = {}
    for event in events:
        data = event.data
        if isinstance(data, Consumed):
            hold = data.hold
            needs = hold is not None and hold.state in SETTLED and (hold.state == "settled_late" or len(hold.lines) > 1)
            reservation_id = data.reservation_id if needs else None
        else:
            reservation_id = (
                data.reservation_id if isinstance(data, Refunded) and event.kind == "hold_expired" else None
            )
        if reservation_id is not None:
            found[event.account, reservation_id] = None
    return found


def fold(events: Iterable[Event], sources: Sources) -> Folded:
    """Return what events add to each row."""
    folded = Folded({}, {}, {}, {})
    for event in events:
        match event.data:
            case Reserved() as data:
                _reserved(folded, event, data)
            case Consumed(reservation_id=str() as reservation_id, hold=HoldFigures() as hold) as data:
                source = sources.get((event.account, reservation_id))
                if hold.state in SETTLED:
                    _settled(folded, event, data, hold, source)
                if hold.state == "settled_late" and source is not None:
                    for work in _lines(source):
                        leak = Leak(event.account, hour_of(event.recorded_at), *work)
                        _add_expired(folded, leak, Expired(0, 0, 0, 1))
                _ended(folded, event, reservation_id, hold)
            case Refunded(reservation_id=str() as reservation_id, hold=HoldFigures() as hold) as data:
                source = sources.get((event.account, reservation_id))
                if event.kind == "hold_expired" and source is not None:
                    _expired(folded, event, data, source)
                _ended(folded, event, reservation_id, hold)
            case _:
                pass
    return folded


def _reserved(folded: Folded, event: Event, data: Reserved) -> None:
    hour, actor = hour_of(event.recorded_at), event.actor.id
    if event.kind == "hold":
        for operation, amount in [(line.operation, line.amount) for line in data.lines] or [("", data.amount)]:
            work = Work(hour, data.unit, operation, actor)
            before = folded.made.get(work, Made(0, 0))
            folded.made[work] = Made(before.holds + 1, before.amount + amount)
    if data.expires_at is None:
        operation = data.lines[0].operation if len(data.lines) == 1 else ""
        key = (event.account, data.reservation_id)
        before = folded.endless.get(key)
        if event.kind == "hold":
            folded.endless[key] = Endless(operation, actor, data.occupies, event.recorded_at)
        elif before is not None:
            folded.endless[key] = before._replace(occupies=data.occupies)
        else:
            folded.endless[key] = Endless(operation, actor, data.occupies, None)


def _ended(folded: Folded, event: Event, reservation_id: str, hold: HoldFigures) -> None:
    if hold.state != "open" and hold.expires_at is None:
        folded.endless[event.account, reservation_id] = None


def _settled(folded: Folded, event: Event, data: Consumed, hold: HoldFigures, source: ReservedEvent | None) -> None:
    """Count each line of a hold that was settled; one that nothing was reserved for has no ratio."""
    whole = [(data.operation or "", hold.amount, hold.charged + hold.unfunded)]
    lines = whole if len(hold.lines) <= 1 or source is None else _compared(data, hold, source)
    for operation, reserved, actual in lines:
        if reserved:
            row = Ratio(hour_of(event.recorded_at), data.unit, operation, percent_of(actual, reserved))
            before = folded.settled.get(row, Settled(0, 0, 0))
            folded.settled[row] = Settled(before.holds + 1, before.reserved + reserved, before.actual + actual)


def _compared(data: Consumed, hold: HoldFigures, source: ReservedEvent) -> list[tuple[str, int, int]]:
    """Return operation, reserved and actual of each line of a hold with several.

    What the last step left unfunded stands in its lines; what earlier ones did is told of the hold alone, and counts
    with the first line.
    """
    unfunded = {line.line: line.amount - line.charged for line in data.lines}
    earlier = hold.unfunded - sum(unfunded.values())
    added = hold.added or [0] * len(hold.lines)
    return [
        (
            line.operation,
            line.amount + added[index],
            hold.lines[index][1] + unfunded.get(index, 0) + (earlier if index == 0 else 0),
        )
        for index, line in enumerate(source.data.lines)
    ]


def _expired(folded: Folded, event: Event, data: Refunded, source: ReservedEvent) -> None:
    seconds = int((moment(event.effective_at) - moment(source.recorded_at)).total_seconds())
    back: dict[int, int] = {}
    for entry in data.allocation:
        back[entry.line] = back.get(entry.line, 0) + entry.amount
    for index, work in enumerate(_lines(source)):
        leak = Leak(event.account, hour_of(event.recorded_at), *work)
        _add_expired(folded, leak, Expired(1, back.get(index, 0), seconds, 0))


def _lines(source: ReservedEvent) -> Sequence[tuple[str, str, str]]:
    """Return unit, operation and actor of each line of a hold."""
    data, actor = source.data, source.actor.id
    return [(data.unit, line.operation, actor) for line in data.lines] or [(data.unit, "", actor)]


def _add_expired(folded: Folded, leak: Leak, more: Expired) -> None:
    before = folded.expired.get(leak, Expired(0, 0, 0, 0))
    folded.expired[leak] = Expired(*(one + other for one, other in zip(before, more, strict=True)))


def percent_of(actual: int, reserved: int) -> int:
    """Return what a line came to, as percent of what was reserved for it, rounded up as a hint should be.

    To a percent until twice as much, then to 5 % of the figure; 10,000 stands for all above.
    """
    percent = -(-100 * actual // reserved)
    if percent <= 200:
        return percent
    if percent >= PERCENT_MAX:
        return PERCENT_MAX
    step = 10 if percent <= 1_000 else 50
    return -(-percent // step) * step


def quantile(counts: Mapping[int, int], per_cent: int) -> int:
    """Return the smallest percent that so many of a hundred lines came to at most (nearest rank)."""
    rank = -(-sum(counts.values()) * per_cent // 100)
    for percent in sorted(counts):
        rank -= counts[percent]
        if rank <= 0:
            return percent
    raise ValueError("nothing was counted")
