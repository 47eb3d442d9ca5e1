"""`evolve` and `replay`: how each event changes an account (SEMANTICS.md sections 2 and 3).

`evolve` changes the state it is given, in place; the values inside (grants, holds, figures) are frozen and replaced.
Whoever may still want the old state works on a `fork`. It reads only what the event says: no clock, no catalog. Events
about work are in `evolve_work`; here are grants, plans and the table of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from msgspec.structs import replace

from events import evolve_work
from events.account import ZERO, Ahead, State
from events.bookkeeping import add_debt, allow, known_grant, note_due, put_grant, settle_reclaim, take_repaid
from events.facts import Consumed, Data, Granted, Kind, Payment, PlanChanged, Refunded, Reserved
from events.grants import Grant, by_grant
from events.instants import Instant
from events.payments import Paid, by_period, by_reference
from events.recorded import Event


def _granted(state: State, kind: Kind, data: Granted, at: Instant) -> None:
    if data.grant_id is None:
        _adjusted(state, data)
        return
    if kind == "activated":
        grant = known_grant(state, data.grant_id)
        put_grant(state, replace(grant, state="active"))
        if state.account.allows(grant):
            allow(state.account, grant.unit, grant.remaining)
    elif kind == "revoked":
        _revoked(state, data, data.grant_id)
    elif kind == "expired":
        grant = known_grant(state, data.grant_id)
        lapsed = -data.amount
        remaining = grant.remaining - lapsed
        put_grant(state, replace(grant, state="expired", remaining=remaining, expired=grant.expired + lapsed))
    else:
        account = state.account
        grant = Grant(
            id=data.grant_id,
            kind=cast("object", kind),  # type: ignore[arg-type]  # a `granted` event has a granted kind
            unit=data.unit,
            priority=data.priority,
            starts_at=data.starts_at,
            ordinal=account.events,
            granted=data.amount,
            expires_at=data.expires_at,
            operations=None if data.operations is None else tuple(data.operations),
            cost_basis=data.cost_basis,
            source_grant_id=data.source_grant_id,
            period=(data.period or account.period_start) if kind == "plan" else None,
            state="scheduled" if data.starts_at > at else "active",
            remaining=data.amount,
        )
        for grant_id, part in by_grant(data.allocation).items():
            source = known_grant(state, grant_id)
            put_grant(state, replace(source, remaining=source.remaining - part, rolled_over=source.rolled_over + part))
        put_grant(state, grant)
        if grant.state == "active" and account.allows(grant):
            allow(account, data.unit, data.amount)
        note_due(account, data.starts_at if grant.state == "scheduled" else data.expires_at)
    take_repaid(state, data.unit, data.repaid, data.debt_repaid)


def _adjusted(state: State, data: Granted) -> None:
    """Take what an adjustment takes from the grants that gave it; the rest becomes debt."""
    for grant_id, part in by_grant(data.allocation).items():
        grant = known_grant(state, grant_id)
        put_grant(state, replace(grant, remaining=grant.remaining - part, adjusted=grant.adjusted + part))
    if data.debt_added:
        add_debt(state.account, data.unit, data.debt_added)


def _revoked(state: State, data: Granted, grant_id: str) -> None:
    """Take credits out of a grant; it ends when the event says so."""
    grant, taken = known_grant(state, grant_id), -data.amount
    after = grant.state if data.grant is None else data.grant.state
    put_grant(state, replace(grant, state=after, remaining=grant.remaining - taken, revoked=grant.revoked + taken))
    if data.take_back is not None and grant.state != "scheduled":
        allow(state.account, data.unit, -taken)
    if data.take_back == "reclaim":
        settle_reclaim(state.account, data.unit, taken)


def _plan_changed(state: State, kind: Kind, data: PlanChanged, at: Instant) -> None:
    account = state.account
    if data.status is not None:
        account.status = data.status
    if kind == "opened":
        account.opened_at = at
        account.figures.setdefault("credits", ZERO)
    if kind in {"opened", "renewed"} or data.begins:
        ahead = account.ahead
        account.usage = {}
        account.period_from = account.events
        account.grants_from = account.events if data.period_start == account.period_start else 0
        account.paid = ahead.payment if ahead is not None and ahead.payment.period_start == data.period_start else None
        account.ahead = None
    if data.payment is not None:
        _paid(state, data, data.payment, at)
    if kind in {"status", "unchanged"}:
        return
    account.plan = data.to
    account.policies = data.policies
    account.allowance = data.allowance
    account.capacity = data.capacity
    account.overrides = data.overrides
    account.own = data.own
    account.pending = data.pending
    account.reclaim = data.reclaim
    account.catalog = data.catalog
    account.anchor = data.anchor
    account.period_start = data.period_start
    account.period_end = data.period_end
    for unit in data.allowance:
        account.figures.setdefault(unit, ZERO)
    note_due(account, account.turns_at)


def _paid(state: State, data: PlanChanged, payment: Payment, at: Instant) -> None:
    """Remember a payment, by its reference and, when it is the first one for it, by the period."""
    account = state.account
    start = payment.period_start
    names = [by_reference(payment.reference)] if payment.reference is not None else []
    if data.ahead is not None:
        account.ahead = Ahead(payment, data.ahead)
        names.append(by_period(start))
    elif account.paid is None:
        account.paid = payment
        names.append(by_period(start))
    for name in names:
        state.changed["payment", name] = Paid(id=name, reference=payment.reference, period_start=start, at=at)


_HANDLERS: dict[type[Data], Callable[..., None]] = {
    Granted: _granted,
    Reserved: evolve_work.reserved,
    Consumed: evolve_work.consumed,
    Refunded: evolve_work.refunded,
    PlanChanged: _plan_changed,
}


def apply(state: State, kind: Kind, data: Data, at: Instant, *, system: bool = False) -> None:
    """Change `state` by one fact that holds from `at`; `system` says that it is a due one."""
    _HANDLERS[type(data)](state, kind, data, at)
    if not system:
        state.account.idle = False
    elif kind == "renewed":
        state.account.idle = True
    state.account.events += 1


def evolve(state: State, event: Event) -> State:
    """Change `state` by one recorded event and return it."""
    apply(state, event.kind, event.data, event.effective_at, system=event.command.name == "system")
    state.account.position = event.position
    return state


def replay(account: str, events: Iterable[Event]) -> State:
    """Return the state that all the events of an account lead to."""
    state = State.unknown(account)
    for event in events:
        evolve(state, event)
        state.settle()
    return state
