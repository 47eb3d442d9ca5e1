"""Batches by hand: what a writer would append, with everything that a test wants to be different."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from events.instants import Instant, instant
from events.recorded import GENESIS
from service.store.batches import AccountRow, Batch, EventRow, Head, ItemRow

PARTITION = 3
START = Head(0, GENESIS, instant(datetime.fromtimestamp(0, UTC)))


def ago(seconds: float) -> Instant:
    """An instant before now."""
    return instant(datetime.now(UTC) - timedelta(seconds=seconds))


def lines(start: int, number: int, *, keys: Sequence[bytes | None] = ()) -> list[EventRow]:
    """Some events of the account `a` that begin behind a position; the first ones have these keys."""
    rows: list[EventRow] = []
    for index in range(number):
        line = f"line {start + index + 1}".encode()
        key = keys[index] if index < len(keys) else None
        rows.append(EventRow("a", "granted", "promo", key, line, sha256(line).digest()))
    return rows


def batch(
    head: Head = START,
    *,
    events: list[EventRow] | None = None,
    accounts: list[AccountRow] | None = None,
    items: list[ItemRow] | None = None,
    absent_keys: list[bytes] | None = None,
    recorded_at: Instant | None = None,
    partition: int = PARTITION,
) -> Batch:
    """A batch at a head, of one event if nothing else is said."""
    return Batch(
        partition,
        head,
        recorded_at or max(head.recorded_at, ago(60)),
        events=lines(head.position, 1) if events is None else events,
        accounts=accounts or [],
        items=items or [],
        absent_keys=absent_keys or [],
    )


def after(appended: Batch) -> Head:
    """The head that a batch leads to."""
    return Head(appended.head.position + len(appended.events), appended.events[-1].hash.hex(), appended.recorded_at)


def item(name: str, state: bytes, *, created: bool, due_at: Instant | None = None) -> ItemRow:
    """A row of an item of the account `a`."""
    return ItemRow("a", "work", name, due_at, state, created)
