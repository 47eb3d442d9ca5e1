"""What every projection of an account's log must say, whatever the log holds: checked at the end of each story."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from events.account import ZERO, State
from events.facts import Consumed, Figures, Refunded, Reserved
from events.holds import Hold
from events.recorded import ConsumedEvent, Event, ReservedEvent
from projections import accounts, alerts, finance, history, holds, usage
from projections.admin_audit import action_of, audit_entry
from projections.finance import Movements, Origin
from projections.statement import movement_of
from projections.usage import Work

HALF = 2


def check_projections(events: Sequence[Event], state: State) -> None:
    """Fold the log and compare with the account that it leads to."""
    if not events:
        return
    _check_finance(events, state)
    _check_usage(events)
    _check_effective(events)
    _check_accounts(events, state)
    _check_alerts(events, state)
    _check_holds(events, state)
    for event in events:
        terms = history.terms(event)
        assert len(terms) == len(set(terms)) and f"kind/{event.kind}" in terms
        assert history.filters_of(type_=None, kind=event.kind).pass_(event)
        assert (history.ADMIN in terms) == (action_of(event) is not None)
        assert audit_entry(event)["created_at"] == event.recorded_at
        for unit in event.balance:
            assert movement_of(event, unit)["event"] == event.id


def worth(figures: Figures) -> int:
    """All credits of a unit, wherever they stand, less what is owed."""
    return figures.available + figures.reserved + figures.scoped + figures.scheduled - figures.debt


def _check_finance(events: Sequence[Event], state: State) -> None:
    """What moved is what balances moved, and what is left is in the grants, by kind.

    What a hold returns to a grant that has ended is nowhere until the next event of the batch ends it again.
    """
    known: finance.Origins = {}
    sums: dict[tuple[str, Origin], Movements] = {}
    for event, following in zip(events, [*events[1:], None], strict=True):
        folded = finance.fold([event], known)
        known.update(folded.grants)
        for key, movements in folded.rows.items():
            row = (key.unit, Origin(key.kind, key.basis))
            sums[row] = sums.get(row, Movements()).plus(movements)
        if following is None or following.recorded_at != event.recorded_at:
            for unit, figures in event.balance.items():
                assert worth(figures) == sum(m.change for (of, _), m in sums.items() if of == unit), event
    left: dict[tuple[str, str], int] = {}
    for (unit, origin), movements in sums.items():
        left[unit, origin.kind] = left.get((unit, origin.kind), 0) + movements.change
    in_grants: dict[tuple[str, str], int] = {}
    for grant in state.account.grants.values():
        in_grants[grant.unit, grant.kind] = in_grants.get((grant.unit, grant.kind), 0) + grant.remaining + grant.held
    for unit, figures in state.account.figures.items():
        in_grants[unit, finance.DEBT] = -figures.debt
    rows = left.keys() | in_grants.keys()
    assert {row: left.get(row, 0) for row in rows} == {row: in_grants.get(row, 0) for row in rows}
    once = finance.fold(events, {})
    middle = len(events) // HALF
    first = finance.fold(events[:middle], {})
    second = finance.fold(events[middle:], first.grants)
    both = dict(first.rows)
    for key, movements in second.rows.items():
        both[key] = both.get(key, Movements()).plus(movements)
    assert both == once.rows, "batches may be of any size"
    assert {**first.grants, **second.grants} == once.grants


def _check_usage(events: Sequence[Event]) -> None:
    sources = {
        (event.account, event.data.consumption_id): event for event in events if isinstance(event, ConsumedEvent)
    }
    rows = usage.fold(events, sources)
    by_unit: dict[str, Work] = {}
    for key, work in rows.items():
        by_unit[key.unit] = by_unit.get(key.unit, Work()).plus(work)
        assert work.charged + work.unfunded == work.used
    for unit, work in by_unit.items():
        consumed = [event.data for event in events if isinstance(event.data, Consumed) and event.data.unit == unit]
        back = [event.data for event in events if isinstance(event.data, Refunded) and event.data.unit == unit]
        assert work.used == sum(data.actual for data in consumed)
        assert work.charged == sum(data.charged for data in consumed)
        assert work.refunded == sum(data.usage for data in back)
    assert sum((work.used for work in usage.totals(rows).values()), 0) == sum(work.used for work in rows.values())


def _check_effective(events: Sequence[Event]) -> None:
    """A statement may take a range of an account's events by the instants at which they hold."""
    held = [event.effective_at for event in events]
    assert held == sorted(held)
    for before, after in pairwise(events):
        for unit, figures in after.balance.items():
            was, delta = before.balance.get(unit, ZERO), after.delta.get(unit, ZERO)
            assert worth(figures) - worth(was) == worth(delta)


def _check_accounts(events: Sequence[Event], state: State) -> None:
    rows = accounts.fold(events)
    account = state.account
    assert len(rows) == 1
    assert (rows[0].plan, rows[0].status or "active", rows[0].opened_at) == (
        account.plan,
        account.status,
        account.opened_at,
    )


def _check_alerts(events: Sequence[Event], state: State) -> None:
    """Capacities are counted as the account counts them; no alert comes twice without its opposite; batches may be of any size."""
    known: dict[str, alerts.Watched] = {}
    whole = alerts.fold(known, events, None)
    watched = known[state.account.id]
    assert watched.used == {name: used for name, used in state.account.occupied.items() if used}
    assert watched.limits == state.account.capacity
    told: dict[str, str] = {}
    for raised in whole.raised:
        unit, kind = raised.alert.unit, raised.alert.kind
        if unit is not None:
            allowed = {"recovered": {"low_balance", "exhausted"}, "low_balance": {"", "recovered"}}
            assert told.get(unit, "") in allowed.get(kind, {"", "recovered", "low_balance"})
            told[unit] = kind
    for unit, figures in state.account.figures.items():
        if watched.units.get(unit, alerts.Unit()).level not in {"unknown", "exhausted"}:
            assert figures.available > 0
    pieces: dict[str, alerts.Watched] = {}
    folded = [
        alerts.fold(pieces, events[at : at + HALF], next(iter(events[at + HALF :]), None))
        for at in range(0, len(events), HALF)
    ]
    assert (pieces, [each for piece in folded for each in piece.raised]) == (known, whole.raised)


def _check_holds(events: Sequence[Event], state: State) -> None:
    """What the holds came to is what the account knows of them."""
    sources = {
        (event.account, event.data.reservation_id): event
        for event in events
        if isinstance(event, ReservedEvent) and event.kind == "hold"
    }
    assert holds.needed(events).keys() <= sources.keys()
    folded = holds.fold(events, sources)
    known = [item for item in {**state.known, **state.changed}.values() if isinstance(item, Hold)]
    made = [event.data for event in events if isinstance(event.data, Reserved) and event.kind == "hold"]
    assert sum(row.holds for row in folded.made.values()) == sum(len(data.lines) or 1 for data in made)
    assert sum(row.amount for row in folded.made.values()) == sum(data.amount for data in made)
    settled = [hold for hold in known if hold.state in holds.SETTLED]
    assert sum(row.reserved for row in folded.settled.values()) == sum(hold.amount for hold in settled)
    compared = [hold for hold in settled if all(line.amount for line in hold.lines)]
    if len(compared) == len([hold for hold in settled if hold.amount]):
        assert sum(row.actual for row in folded.settled.values()) == sum(h.charged + h.unfunded for h in compared)
    back = [event.data for event in events if isinstance(event.data, Refunded) and event.kind == "hold_expired"]
    assert sum(row.amount for row in folded.expired.values()) == sum(data.amount for data in back)
    late = [hold for hold in known if hold.state == "settled_late"]
    assert sum(row.settled_late for row in folded.expired.values()) == sum(len(hold.lines) for hold in late)
    endless = {(state.account.id, hold.id): hold.occupies for hold in known if not hold.expires_at}
    assert {key: row.occupies for key, row in folded.endless.items() if row is not None} == {
        key: occupies
        for key, occupies in endless.items()
        if state.hold(key[1]).state == "open"  # type: ignore[union-attr]
    }
    middle = len(events) // HALF
    first, second = holds.fold(events[:middle], sources), holds.fold(events[middle:], sources)
    for name in ("made", "settled", "expired"):
        whole: dict[object, tuple[int, ...]] = getattr(folded, name)
        parts: list[dict[object, tuple[int, ...]]] = [getattr(first, name), getattr(second, name)]
        for key, row in whole.items():
            both = [part[key] for part in parts if key in part]
            assert tuple(row) == tuple(map(sum, zip(*both, strict=True))), "batches may be of any size"
