"""Usage: the work that was done, by hour, unit, operation and actor.

Work counts in the hour in which it was consumed; what a refund takes back of it stands beside it, in the hour of the
refund, under the operation and the actor of the consumption. So `used - refunded` is the usage of SEMANTICS.md section 3,
and a reset, which is about no single consumption, stands under none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from events.facts import Consumed, ConsumedLine, Refunded
from events.instants import Instant
from events.recorded import ConsumedEvent, Event

NAME = "usage"
VERSION = 1
HOUR_CHARACTERS = len("YYYY-MM-DDTHH")
ALL = ""
"""Stands for all accounts of a partition together; no account has this id."""


class Key(NamedTuple):
    """What a row is about; an operation that was not named is ''."""

    account: str
    hour: str
    unit: str
    operation: str
    actor: str


class Work(NamedTuple):
    """How many consumptions there were, the work done, what was charged of it and what not, and what was taken back."""

    steps: int = 0
    used: int = 0
    charged: int = 0
    unfunded: int = 0
    refunded: int = 0

    def plus(self, other: Work) -> Work:
        """Return both together."""
        return Work(
            self.steps + other.steps,
            self.used + other.used,
            self.charged + other.charged,
            self.unfunded + other.unfunded,
            self.refunded + other.refunded,
        )


Sources = Mapping[tuple[str, str], ConsumedEvent]
"""The consumptions that refunds are about, by account and id."""


def hour_of(at: str) -> str:
    """Return the instant at which the hour of an instant begins."""
    return f"{at[:HOUR_CHARACTERS]}:00:00.000000Z"


def needed(events: Iterable[Event]) -> dict[tuple[str, str], None]:
    """Return the consumptions that refunds among the events are about, by account and id, each once."""
    return {
        (event.account, event.data.consumption_id): None
        for event in events
        if isinstance(event.data, Refunded) and event.data.consumption_id is not None
    }


def fold(events: Iterable[Event], sources: Sources) -> dict[Key, Work]:
    """Return what events add to each row, for their accounts alone."""
    rows: dict[Key, Work] = {}

    def add(key: Key, work: Work) -> None:
        before = rows.get(key)
        rows[key] = work if before is None else before.plus(work)

    for event in events:
        data, hour = event.data, hour_of(event.recorded_at)
        if isinstance(data, Consumed):
            for line in _lines(data):
                key = Key(event.account, hour, data.unit, line.operation or "", event.actor.id)
                add(key, Work(1, line.amount, line.charged, line.amount - line.charged))
        elif isinstance(data, Refunded) and data.usage:
            source = None if data.consumption_id is None else sources.get((event.account, data.consumption_id))
            for operation, part in _taken_back(data, source):
                actor = source.actor.id if source is not None else event.actor.id
                add(Key(event.account, hour, data.unit, operation, actor), Work(refunded=part))
    return rows


def totals(rows: Mapping[Key, Work]) -> dict[Key, Work]:
    """Return the rows of all accounts together."""
    found: dict[Key, Work] = {}
    for key, work in rows.items():
        total = key._replace(account=ALL)
        found[total] = found.get(total, Work()).plus(work)
    return found


def _lines(data: Consumed) -> Sequence[ConsumedLine]:
    return data.lines or [ConsumedLine(line=0, amount=data.actual, charged=data.charged, operation=data.operation)]


def _taken_back(data: Refunded, source: ConsumedEvent | None) -> list[tuple[str, int]]:
    """Return what a refund takes back of each operation: the last line first, as the allocation is reversed."""
    if source is None:
        return [("", data.usage)]
    lines = _lines(source.data)
    if len(lines) == 1:
        return [(lines[0].operation or "", data.usage)]
    parts: dict[str, int] = {}
    passed, missing = data.refunded - data.amount, data.amount
    completes = data.usage > data.amount
    for line in reversed(lines):
        skipped = min(passed, line.charged)
        passed -= skipped
        part = min(line.charged - skipped, missing)
        missing -= part
        if completes:
            part += line.amount - line.charged
        if part:
            parts[line.operation or ""] = parts.get(line.operation or "", 0) + part
    return list(parts.items())


BUCKETS: dict[str, int] = {"hour": 13, "day": 10, "month": 7}
"""How many characters of an instant name the bucket that it is in."""
_REST = "YYYY-01-01T00:00:00.000000Z"


def bucket_of(hour: str, bucket: str) -> Instant:
    """Return the instant at which an hour's bucket begins."""
    characters = BUCKETS[bucket]
    return Instant(hour[:characters] + _REST[characters:])


def work_view(work: Work) -> dict[str, object]:
    """Return figures as answers show them; `net` is the usage."""
    return {
        "count": work.steps,
        "used": work.used,
        "charged": work.charged,
        "unfunded": work.unfunded,
        "refunded": work.refunded,
        "net": work.used - work.refunded,
    }
