"""Why an event is as it is: the grants that were seen and what each gave, the price by its rule, and what was due.

Everything is found in two states and one line: the account right before the event, the same account after it, and what
the event says. No catalog and no clock are asked, so the answer is the same for ever (CONTRACT.md, explain).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import to_builtins

from events.account import Account, State
from events.evolve import evolve
from events.facts import Consumed, Data, Granted, PlanChanged, Refunded, Reserved
from events.grants import Grant, by_grant, draw_order
from events.holds import Hold
from events.recorded import Event, Line
from projections.balance import balance_view
from projections.items import reservation_view
from projections.priced import price_views
from projections.transactions import transaction_view

View = dict[str, object]

ENDED_SHOWN_MAX = 50
"""Of grants that had ended, or were drained, the latest are shown."""

COUNTERS = (
    *("remaining", "held", "granted", "returned", "consumed", "adjusted", "repaid", "rolled_over", "expired"),
    "revoked",
)

REASONS = {
    "gave": "it gave a part of the amount",
    "scheduled": "it was not usable yet",
    "expired": "it had expired",
    "revoked": "it had been revoked",
    "empty": "nothing was left of it",
    "scope": "its scope does not have the operation",
    "later": "what stands before it in the order covered the amount",
    "unit": "it is of another unit",
}
"""Why a grant gave, or was passed over."""


def explain(before: State, line: Line) -> View:
    """Return why an event is as it is; `before` is its account right before it and is left as it was."""
    event = line.event
    after = before.apart()
    after.account.figures = dict(before.account.figures)  # evolve changes them in place
    evolve(after, event)
    after.settle()
    hold = _hold(before, event.data)
    return {
        "account": event.account,
        "event": transaction_view(line),
        "because": because(before, event),
        "due": _due(before, event),
        "price": price_views(event.data, hold),
        "grants": _grants(before, after, event, hold),
        "reservation": None if hold is None else reservation_view(hold),
        "balance": _balance(before.account, after.account),
        "capacity": _capacity(before.account, after.account),
        "plan": _plan(after.account),
    }


def _hold(state: State, data: Data) -> Hold | None:
    reservation_id: str | None = getattr(data, "reservation_id", None)
    return None if reservation_id is None else state.hold(reservation_id)


def _grants(before: State, after: State, event: Event, hold: Hold | None) -> list[View]:
    """Return the grants that the event saw, in draw order: of a draw all of the unit, else those that it changed."""
    seen = _seen(before)
    drawn = _drawn(event)
    unit: str = getattr(event.data, "unit", "")
    views: list[View] = []
    order = 0
    for grant in sorted(seen.values(), key=draw_order):
        now = _now(after, grant.id) or grant
        if drawn is None:
            if now != grant:
                views.append(_view(grant, grant, now))
            continue
        if grant.unit != unit:
            continue
        order += 1
        reason = "gave" if drawn.get(grant.id) else _passed_over(grant, _operations(event.data, hold))
        views.append({"order": order, **_view(grant, grant, now), "gave": drawn.get(grant.id, 0)} | _because(reason))
    made: str | None = getattr(event.data, "grant_id", None)
    new = None if made is None or before.known.get(("grant", made)) or made in seen else _now(after, made)
    return views if new is None else [*views, _view(new, None, new)]


def _now(state: State, grant_id: str) -> Grant | None:
    """Return a grant that is live or in memory."""
    ended = state.known.get(("grant", grant_id))
    return state.account.grants.get(grant_id) or (ended if isinstance(ended, Grant) else None)


def _because(reason: str) -> View:
    return {"reason": reason, "because": REASONS[reason]}


def _seen(state: State) -> dict[str, Grant]:
    """Return the live grants, and of those in memory that ended the latest."""
    live = state.account.grants
    ended = [item for item in state.known.values() if isinstance(item, Grant) and item.id not in live]
    ended.sort(key=lambda grant: grant.ordinal)
    return {**{grant.id: grant for grant in ended[-ENDED_SHOWN_MAX:]}, **live}


def _drawn(event: Event) -> dict[str, int] | None:
    """Return what was drawn from what is available, by grant; None for an event that draws nothing."""
    data = event.data
    match data:
        case Reserved():
            return by_grant(data.allocation)
        case Consumed():
            fresh = [entry for entry in data.allocation if entry.excess or data.reservation_id is None]
            over = data.actual > data.reserved and event.kind != "direct"
            return by_grant(fresh) if fresh or over or data.reservation_id is None else None
        case Granted():
            return by_grant(data.allocation) if data.grant_id is None else None
        case Refunded() | PlanChanged():
            return None


def _operations(data: Data, hold: Hold | None) -> set[str]:
    """Return the operations that a draw was for."""
    lines: Sequence[object] = getattr(data, "lines", ()) or (() if hold is None else hold.lines)
    named = {getattr(line, "operation", None) for line in lines} | {getattr(data, "operation", None)}
    return {operation for operation in named if isinstance(operation, str)}


def _passed_over(grant: Grant, operations: set[str]) -> str:
    if grant.state != "active":
        return grant.state
    if grant.remaining <= 0:
        return "empty"
    if grant.operations is not None and operations.isdisjoint(grant.operations):
        return "scope"
    return "later"


def _view(grant: Grant, before: Grant | None, after: Grant) -> View:
    """Return a grant with what orders it, and each counter that the event moved."""
    moved = {name: getattr(after, name) - (0 if before is None else getattr(before, name)) for name in COUNTERS}
    return {
        "grant_id": grant.id,
        "kind": grant.kind,
        "unit": grant.unit,
        "state": grant.state,
        "state_after": after.state,
        "draw_key": {
            "priority": grant.priority,
            "expires_at": grant.expires_at,
            "scoped": grant.operations is not None,
            "paid": grant.kind == "purchase",
            "starts_at": grant.starts_at,
            "event": grant.ordinal + 1,
        },
        "operations": None if grant.operations is None else list(grant.operations),
        "remaining": 0 if before is None else before.remaining,
        "held": 0 if before is None else before.held,
        "changes": {name: change for name, change in moved.items() if change},
    }


def _due(before: State, event: Event) -> View | None:
    """Return why the ledger wrote an event by itself, or None for one that a command wrote."""
    if event.command.name != "system":
        return None
    data = event.data
    view: View = {"id": event.command.id, "due_at": event.effective_at, "recorded_at": event.recorded_at}
    if isinstance(data, Refunded) and data.reservation_id is not None:
        hold = before.hold(data.reservation_id)
        if hold is not None:
            view |= {"expires_at": hold.expires_at, "grace_seconds": hold.grace_seconds}
    elif isinstance(data, Granted) and data.grant_id is not None:
        grant = before.grant(data.grant_id)
        if grant is not None:
            view |= {"starts_at": grant.starts_at, "expires_at": grant.expires_at}
    elif isinstance(data, PlanChanged):
        view |= {"period_end": before.account.period_end}
    return view


def _balance(before: Account, after: Account) -> View:
    units = {**before.figures, **after.figures}
    return {
        unit: {
            "before": balance_view(unit, before.figures[unit]) if unit in before.figures else None,
            "after": balance_view(unit, after.figures[unit]) if unit in after.figures else None,
        }
        for unit in units
    }


def _capacity(before: Account, after: Account) -> View:
    """Return what changed of what is occupied; `limit` is that of the plan as the account last recorded it."""
    names = sorted({*before.occupied, *after.occupied})
    return {
        name: {
            "before": before.occupied.get(name, 0),
            "after": after.occupied.get(name, 0),
            "limit": before.capacity.get(name),
        }
        for name in names
        if before.occupied.get(name, 0) != after.occupied.get(name, 0)
    }


def _plan(account: Account) -> View:
    return {
        "plan": account.plan,
        "catalog": account.catalog,
        "status": account.status,
        "period_start": account.period_start,
        "period_end": account.period_end,
        "policies": to_builtins(account.policies),
    }


def because(before: State, event: Event) -> str:
    """Return one sentence that says why an event was written."""
    data = event.data
    who = "the ledger itself" if event.command.name == "system" else f"{event.actor.id} by `{event.command.name}`"
    match data:
        case Reserved():
            what = "set aside for work" if event.kind == "hold" else "set aside beside what was held"
            return f"{data.amount} {data.unit} were {what} ({data.reservation_id}), asked for by {who}"
        case Consumed():
            return _because_consumed(event.kind, data, who)
        case Refunded():
            return _because_refunded(event, data, who)
        case Granted():
            return _because_granted(before, event, data, who)
        case PlanChanged():
            changed = f"from {data.from_ or 'nothing'} to {data.to}" if data.from_ != data.to else f"on {data.to}"
            return f"the account was {event.kind}: {changed}, by {who}, under catalog {data.catalog}"


def _because_consumed(kind: str, data: Consumed, who: str) -> str:
    parts = [f"{data.actual} {data.unit} of work were reported by {who}; {data.charged} were charged"]
    if data.reservation_id is not None and kind != "late":
        parts.append(f"the reservation held {data.reserved}")
    if kind == "late":
        parts.append("the reservation had expired, so the work was booked late")
    if data.debt_added:
        parts.append(f"{data.debt_added} of the charge became debt")
    if data.unfunded:
        parts.append(f"{data.unfunded} nobody paid for")
    return "; ".join(parts)


def _because_refunded(event: Event, data: Refunded, who: str) -> str:
    if event.kind == "hold_expired":
        return f"reservation {data.reservation_id} ran out at {event.effective_at}: {data.amount} {data.unit} came back"
    if event.kind == "release":
        return f"reservation {data.reservation_id} was ended by {who}: {data.amount} {data.unit} came back"
    what = "the period's usage was reset" if event.kind == "usage_reset" else f"{data.consumption_id} was refunded"
    parts = [f"{what} by {who}: {data.amount} {data.unit}, last drawn first"]
    if data.regranted:
        parts.append(f"{data.regranted} are granted anew, because the grants that paid cannot take them back")
    if data.debt_refunded:
        parts.append(f"{data.debt_refunded} lower the debt")
    return "; ".join(parts)


def _because_granted(before: State, event: Event, data: Granted, who: str) -> str:
    source = before.grant(data.grant_id) if data.grant_id is not None else None
    amount = f"{abs(data.amount)} {data.unit}"
    if event.kind == "expired":
        ended = source is not None and source.state == "expired"
        why = "came back to a grant that had expired" if ended else f"were not used before {data.expires_at}"
        return f"{amount} of grant {data.grant_id} {why}"
    if event.kind == "activated":
        return f"grant {data.grant_id} became usable at {data.starts_at}"
    if event.kind == "revoked":
        return f"{amount} of grant {data.grant_id} were revoked, by {who}"
    if event.kind == "adjustment":
        return f"{amount} were {'added' if data.amount > 0 else 'taken'} by {who}: {data.reason}"
    repaid = f"; {data.debt_repaid} of them repaid debt" if data.debt_repaid else ""
    return f"{amount} were granted as {event.kind}, by {who}{repaid}"
