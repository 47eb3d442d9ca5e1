"""Hints, leaks and the forecast say what the log says, for random histories of holds of every kind."""

from collections import defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from events.catalog import parse_catalog
from events.facts import Consumed, Reserved
from events.instants import Instant, moment
from events.recorded import Event, ReservedEvent
from projections.holds import percent_of
from projections.usage import hour_of
from service.ledger import Ledger
from service.projection_commands import rebuild
from service.ranges import LAST, Edge, hour_after, whole_hours
from service.reads import Reads
from service.store.log import Log
from tests.projections.test_agreement import asked, every_event
from tests.projections.test_projector import projected
from tests.writer.asking import Clock, OpenLedger, accounts_of, ask, said

CATALOG = parse_catalog(
    """
version = "reports-1"
default_plan = "large"
[capacities.slots]
[plans.large]
rank = 0
allowance.credits = 1000000
[operations.image]
each = "3"
[operations.reel]
base = "5"
each = "2"
"""
)
ACCOUNTS = [*accounts_of(3, 2), *accounts_of(5, 1)]


async def history(ledger: Ledger, clock: Clock, random: Random) -> None:
    """Holds by operation, by amount, with several lines and without an end; settled in every way, released or left."""
    open_: list[tuple[str, str]] = []
    for number in range(120):
        account = random.choice(ACCOUNTS)
        name = f"h{number}"
        form: dict[str, Any] = random.choice(
            [
                {"operation": "image", "quantity": random.randint(1, 9)},
                {"operation": "reel"},
                {"amount": random.randint(1, 50)},
                {"lines": [{"operation": "image", "quantity": 2}, {"operation": "reel"}]},
                {"amount": 0, "occupies": {"slots": 1}, "ttl_seconds": None},
            ]
        )
        await ledger.execute(ask("reserve", account, reservation_id=name, **form))
        open_.append((account, name))
        clock.advance(random.choice([1, 20, 200, 4000]))
        if random.random() < 0.8:
            account, name = open_.pop(random.randrange(len(open_)))
            for step in random.choice(STEPS):
                await said(ledger, ask(account=account, reservation_id=name, **step))


STEPS: Sequence[Sequence[dict[str, Any]]] = (
    [{"name": "consume"}],
    [{"name": "consume", "amount": 4}],
    [{"name": "consume", "amount": 0}],
    [{"name": "extend", "amount": 3}, {"name": "consume", "amount": 60}],
    [{"name": "consume", "amount": 1, "final": False}, {"name": "consume", "lines": [{"line": 0, "amount": 2}]}],
    [{"name": "extend", "occupies": {"slots": 2}}],
    [{"name": "release"}],
)


@pytest.fixture
async def told(open_ledger: OpenLedger, readers: Log, request: pytest.FixtureRequest) -> tuple[Reads, list[Event]]:
    """A history whose seed is the test's parameter, projected in small batches and built again."""
    clock = Clock(days_ago=30)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    await history(ledger, clock, Random(request.param))
    clock.advance(1)
    await projected(readers, batch_lines_max=7)
    assert await rebuild(readers, ["holds"]) == []
    return Reads(ledger), await every_event(readers)


def begun(events: Sequence[Event]) -> dict[tuple[str, str], ReservedEvent]:
    return {
        (event.account, event.data.reservation_id): event
        for event in events
        if isinstance(event, ReservedEvent) and event.kind == "hold"
    }


@pytest.mark.parametrize("told", [1, 2], indirect=True)
async def test_hints_and_leaks_are_what_the_log_says_in_any_range(told: tuple[Reads, list[Event]]) -> None:
    reads, events = told
    random = Random(3)
    for _ in range(6):
        from_, to = sorted(random.choice(events).recorded_at for _ in range(2))
        hints = await asked(reads, "reserve_hints", **{"from": from_, "to": to})
        leaks = await asked(reads, "hold_leaks", **{"from": from_, "to": to})
        assert hints["from"] == leaks["from"] == hour_of(from_)
        within = [event for event in events if hints["from"] <= event.recorded_at < hints["to"]]
        _check_hints(hints, within, events)
        _check_leaks(leaks, within, events)


def _check_hints(hints: Any, within: Sequence[Event], events: Sequence[Event]) -> None:
    """Holds of one line are compared one by one, those of several as a whole, which no line of 0 disturbs here."""
    holds = begun(events)
    expected: dict[str | None, list[int]] = defaultdict(list)
    reserved = settled = 0
    for event in within:
        data = event.data
        if not isinstance(data, Consumed) or data.hold is None or data.reservation_id is None:
            continue
        if data.hold.state not in {"settled", "settled_late"} or not data.hold.amount:
            continue
        reserved += data.hold.amount
        settled += data.hold.charged + data.hold.unfunded
        lines = holds[event.account, data.reservation_id].data.lines
        if len(lines) <= 1:
            operation = lines[0].operation if lines else None
            expected[operation].append(percent_of(data.hold.charged + data.hold.unfunded, data.hold.amount))
    rows = {row["operation"]: row for row in hints["operations"]}
    assert sum(row["reserved"] for row in rows.values()) == reserved
    assert sum(row["settled"] for row in rows.values()) == settled
    if None in expected:  # no line of a hold with several is without an operation
        percents = sorted(expected[None])
        assert rows[None]["holds"] == len(percents)
        assert rows[None]["percentiles"]["p50"] == percents[-(-len(percents) // 2) - 1]
        assert rows[None]["above"] == sum(percent > 100 for percent in percents)


def _check_leaks(leaks: Any, within: Sequence[Event], events: Sequence[Event]) -> None:
    holds = begun(events)
    made = [event.data for event in within if isinstance(event.data, Reserved) and event.kind == "hold"]
    assert sum(row["made"] for row in leaks["operations"]) == sum(len(data.lines) or 1 for data in made)
    assert sum(row["made_amount"] for row in leaks["operations"]) == sum(data.amount for data in made)
    expired = [event for event in within if event.kind == "hold_expired"]
    amount = sum(event.data.amount for event in expired)
    for rows in (leaks["operations"], leaks["accounts"]):
        assert sum(row["amount"] for row in rows) == amount
        assert sum(row["expired"] for row in rows) == sum(
            len(holds[event.account, event.data.reservation_id].data.lines) or 1  # type: ignore[union-attr]
            for event in expired
        )
        assert all(row["unsettled"] == row["expired"] - row["settled_late"] for row in rows)
    assert {row["actor"] for row in leaks["operations"]} <= {"tests"}


def test_the_last_hour_that_there_is_ends_with_the_last_instant() -> None:
    late = Instant("9999-12-31T23:30:00.000000Z")
    assert hour_after(Instant(hour_of(late))) == LAST
    assert whole_hours(late, None).edges == (Edge(late, LAST),)
    assert whole_hours(late, LAST).edges == (Edge(late, LAST),)


@pytest.mark.parametrize("told", [1], indirect=True)
async def test_open_holds_without_an_end_are_listed_the_oldest_first(told: tuple[Reads, list[Event]]) -> None:
    reads, events = told
    left = {key: event for key, event in begun(events).items() if event.data.expires_at is None}
    for event in events:
        hold = getattr(event.data, "hold", None)
        if hold is not None and hold.state != "open":
            left.pop((event.account, getattr(event.data, "reservation_id", "")), None)
    whole = (await asked(reads, "hold_leaks", age_seconds=0, limit=500))["without_end"]
    assert {(row["account"], row["reservation_id"]) for row in whole} == set(left)
    assert [row["created_at"] for row in whole] == sorted(event.recorded_at for event in left.values())
    assert {row["occupies"]["slots"] for row in whole} == {1, 2}
    oldest = whole[0]
    age = oldest["age_seconds"]
    assert [row for row in whole if row["age_seconds"] > age // 2] == (
        await asked(reads, "hold_leaks", age_seconds=age // 2)
    )["without_end"]


@pytest.mark.parametrize("told", [2], indirect=True)
async def test_the_pace_of_a_forecast_is_the_usage_of_its_days(told: tuple[Reads, list[Event]]) -> None:
    reads, events = told
    for account in ACCOUNTS:
        view = await asked(reads, "forecast", account=account)
        work = [e.data.actual for e in events if e.account == account and isinstance(e.data, Consumed)]
        assert view["pace"]["used"] == sum(work)
        assert sum(row["used"] for row in view["pace"]["operations"]) == sum(work)
        begin, end = (moment(view["pace"][name]) for name in ("from", "to"))
        days = max(1.0, (end - begin).total_seconds() / 86_400)
        assert float(view["pace"]["per_day"]) == pytest.approx(sum(work) / days, abs=0.01)
        balance = await asked(reads, "balance", account=account)
        assert (view["available"], view["reserved"]) == (balance["available"], balance["reserved"])
