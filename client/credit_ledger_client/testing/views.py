"""What the double answers, in the form of the ledger's own answers; a test compares the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, cast

from msgspec import to_builtins

from events.account import NO_USAGE, ZERO, Account, State
from events.catalog import Catalog
from events.checking import Verdict
from events.facts import Consumed, Figures, Granted, HoldFigures, PlanChanged, Refunded, Reserved, Terms
from events.grants import Grant
from events.holds import Consumption, Hold
from events.instants import Instant
from events.quoting import Quote
from events.recorded import TYPE_OF, Line

View = dict[str, Any]
_GRANTED_BY_CALLERS = frozenset({"promo", "purchase", "trial", "adjustment"})


def answer(account: str, lines: Sequence[Line], state: State) -> View:
    """Return the answer to a command that wrote these lines."""
    first, last = lines[0].event, lines[-1].event
    if isinstance(last.data, PlanChanged) or (isinstance(first.data, PlanChanged) and isinstance(last.data, Granted)):
        unit = "credits"
    else:
        unit = last.data.unit
    return {
        "account": account,
        "replayed": False,
        "token": last.id,
        "events": [{**cast("View", to_builtins(line.event)), "hash": line.hash} for line in lines],
        **_about(lines, state),
        "balance": balance(unit, last.balance.get(unit, ZERO)),
    }


def tried(written: View, made_up: str) -> View:
    """Return the answer of a dry run, made from that of the real one; ids that begin with `made_up` are None."""
    view: View = {**written, "dry_run": True, "token": None}
    for name in ("reservation", "consumption", "grant"):
        if name in view:
            view[name] = {**view[name], "id": None}
    kept = ("type", "kind", "delta", "balance")
    events = cast("list[View]", written["events"])
    view["events"] = [
        {"id": None, **{name: event[name] for name in kept}, "data": _without(event["data"], made_up)}
        for event in events
    ]
    return view


def _without(value: object, made_up: str) -> object:
    """Return data in which every id that a real command would have got is None."""
    if isinstance(value, list):
        return [_without(entry, made_up) for entry in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, object]", value)
    return {
        name: None
        if name.endswith("_id") and isinstance(entry, str) and entry.startswith(made_up)
        else _without(entry, made_up)
        for name, entry in fields.items()
    }


def _about(lines: Sequence[Line], state: State) -> View:
    about: View = {}
    for line in lines:
        kind, data = line.event.kind, line.event.data
        match data:
            case Reserved():
                about["reservation"] = _reservation(state, data.reservation_id, data.hold)
            case Consumed():
                if data.reservation_id is not None:
                    about["reservation"] = _reservation(state, data.reservation_id, data.hold)
                about["consumption"] = _consumption(state, data.consumption_id)
            case Refunded():
                if data.reservation_id is not None:
                    about["reservation"] = _reservation(state, data.reservation_id, data.hold)
                elif data.consumption_id is not None:
                    about["consumption"] = _consumption(state, data.consumption_id)
            case PlanChanged():
                about["plan"] = plan(data)
            case Granted():
                if not about and data.grant is not None:
                    about["grant"] = _granted(data, to_builtins(data.grant))
                elif not about and data.grant_id is not None and kind in _GRANTED_BY_CALLERS:
                    about["grant"] = _granted(data, _figures_of_new(kind, data, line.event.delta))
    return about


def _reservation(state: State, hold_id: str, figures: HoldFigures | None) -> View:
    hold = state.hold(hold_id)
    if hold is None:
        raise LookupError(hold_id)
    return reservation(hold, figures)


def _consumption(state: State, consumption_id: str) -> View:
    found = state.consumption(consumption_id)
    if found is None:
        raise LookupError(consumption_id)
    return consumption(found)


def reservation(hold: Hold, figures: HoldFigures | None = None) -> View:
    """Return a reservation."""
    now = figures or hold.figures()
    several = len(hold.lines) > 1
    return {
        "id": hold.id,
        "state": now.state,
        "unit": hold.unit,
        "amount": now.amount,
        "held": now.held,
        "charged": now.charged,
        "unfunded": now.unfunded,
        "occupies": now.occupies,
        "expires_at": now.expires_at,
        "overage": hold.overage,
        "reference": hold.reference,
        "metadata": hold.metadata,
        "lines": [
            {
                "line": index,
                "operation": line.operation,
                "quantity": line.quantity,
                "amount": line.amount if several else now.amount,
                "held": line.held if several else now.held,
                "charged": line.charged if several else now.charged,
            }
            for index, line in enumerate(hold.lines)
        ],
        "created_at": hold.created_at,
    }


def consumption(found: Consumption) -> View:
    """Return a consumption."""
    names = ("id", "reservation_id", "operation", "quantity", "unit", "amount", "charged", "unfunded", "debt_added")
    more = ("refunded", "reference", "metadata", "created_at")
    return {name: getattr(found, name) for name in (*names, *more)}


def _figures_of_new(kind: str, data: Granted, delta: Mapping[str, Figures]) -> View:
    remaining = data.amount - data.debt_repaid
    scheduled = delta.get(data.unit, ZERO).scheduled > 0
    state = "scheduled" if scheduled else "active" if remaining else "drained"
    return {"kind": kind, "amount": data.amount, "remaining": remaining, "held": 0, "state": state}


def _granted(data: Granted, figures: View) -> View:
    return {
        "id": data.grant_id,
        "unit": data.unit,
        **figures,
        "priority": data.priority,
        "starts_at": data.starts_at,
        "expires_at": data.expires_at,
        "operations": data.operations,
        "cost_basis": to_builtins(data.cost_basis),
        "source_grant_id": data.source_grant_id,
    }


def grant(found: Grant) -> View:
    """Return a grant of a list."""
    drained = found.state == "active" and not found.live
    return {
        "id": found.id,
        "kind": found.kind,
        "unit": found.unit,
        "amount": found.granted,
        "remaining": found.remaining,
        "held": found.held,
        "state": "drained" if drained else found.state,
        "priority": found.priority,
        "starts_at": found.starts_at,
        "expires_at": found.expires_at,
        "operations": None if found.operations is None else list(found.operations),
        "cost_basis": to_builtins(found.cost_basis),
        "source_grant_id": found.source_grant_id,
    }


def plan(data: PlanChanged) -> View:
    """Return the plan as an event left it."""
    return {
        "plan": data.to,
        "period_start": data.period_start,
        "period_end": data.period_end,
        "pending": _pending(data.pending, data.period_end),
        "allowance": data.allowance,
        "capacity": data.capacity,
        **({} if data.status is None else {"status": data.status}),
    }


def _pending(pending: Terms | None, at: Instant) -> View | None:
    if pending is None:
        return None
    return {
        "plan": pending.plan,
        "effective_at": at,
        "allowance": pending.allowance,
        "capacity": pending.capacity,
    }


def balance(unit: str, figures: Figures) -> View:
    """Return the balance of one unit."""
    names = ("available", "reserved", "scoped", "scheduled", "bonus", "debt")
    return {"unit": unit, **{name: getattr(figures, name) for name in names}}


def _rooms(account: Account, limits: Mapping[str, int]) -> View:
    names = dict.fromkeys([*limits, *account.occupied])
    return {name: {"used": account.occupied.get(name, 0), "limit": limits.get(name)} for name in names}


def _next_renewal_at(account: Account, as_of: Instant) -> Instant | None:
    return None if account.status == "closed" or account.period_end <= as_of else account.period_end


def figures(
    name: Literal["balance", "quota", "account"],
    account: Account,
    unit: str,
    limits: Mapping[str, int],
    as_of: Instant,
    token: str,
) -> View:
    """Return the answer of one of the queries about an account's figures."""
    common = {"account": account.id, "plan": account.plan, "capacity": _rooms(account, limits)}
    common |= {"as_of": as_of, "token": token}
    now = account.figures.get(unit, ZERO)
    if name == "balance":
        return {**common, **balance(unit, now)}
    period = {
        "period_start": account.period_start,
        "period_end": account.period_end,
        "pending": _pending(account.pending, account.period_end),
        "next_renewal_at": _next_renewal_at(account, as_of),
    }
    if name == "account":
        balances = {each: balance(each, found) for each, found in account.figures.items()}
        return {
            **common,
            **period,
            "status": account.status,
            "balances": balances,
            "opened_at": account.opened_at,
        }
    usage = account.usage.get(unit, NO_USAGE)
    limit = usage.charged + now.reserved + now.available
    return {
        **common,
        **period,
        "unit": unit,
        "credits_used": usage.used,
        "credits_limit": limit,
        "credits_remaining": now.available,
        "percentage": min(100, 100 * usage.used // limit) if limit > 0 else 0,
        "allowance": account.allowance,
    }


def verdict(account: str, found: Verdict) -> View:
    """Return the answer of a check."""
    return {"account": account, **asdict(found), "reasons": list(found.reasons)}


def quote(asked: Quote) -> View:
    """Return what lines cost, without the breakdown."""
    lines = [
        {
            "line": index,
            "operation": line.operation,
            "quantity": line.quantity,
            "params": line.params,
            "free": line.free,
            "cost": line.amount,
            "occupies": line.occupies,
        }
        for index, line in enumerate(asked.lines)
    ]
    return {"unit": asked.unit, "cost": asked.total, "lines": lines}


def catalog(found: Catalog) -> View:
    """Return the catalog."""
    return {
        "version": found.version,
        "hash": found.hash,
        "default_plan": found.default_plan,
        "units": {name: asdict(unit) for name, unit in found.units.items()},
        "capacities": sorted(found.capacities),
        "plans": {name: asdict(each) for name, each in found.plans.items()},
        "operations": {
            name: {
                "name": name,
                "title": each.title,
                "description": each.description,
                "free": each.free,
                "unit": each.unit,
                "base": each.price.base,
                "each": each.price.each,
                "per_1k": each.price.per_1k,
                "multipliers": each.price.multipliers,
                "occupies": each.occupies,
                "occupies_each": each.occupies_each,
                "ttl_seconds": each.ttl_seconds,
                "grace_seconds": each.grace_seconds,
            }
            for name, each in found.operations.items()
        },
        "packs": {name: asdict(pack) for name, pack in found.packs.items()},
    }


def transaction(line: Line) -> View:
    """Return one row of an account's history."""
    event, data = line.event, line.event.data
    amount = 0 if isinstance(data, PlanChanged) else data.charged if isinstance(data, Consumed) else data.amount
    operation = data.operation if isinstance(data, Consumed) else None
    if isinstance(data, Reserved) and len(data.lines) == 1:
        operation = data.lines[0].operation
    named = ("reservation_id", "consumption_id", "grant_id", "reference", "reason")
    return {
        "id": event.id,
        "type": TYPE_OF[type(data)],
        "kind": event.kind,
        "recorded_at": event.recorded_at,
        "effective_at": event.effective_at,
        "unit": "credits" if isinstance(data, PlanChanged) else data.unit,
        "amount": amount,
        "delta": to_builtins(event.delta),
        "balance": to_builtins(event.balance),
        "operation": operation,
        **{name: getattr(data, name, None) for name in named},
        "metadata": getattr(data, "metadata", {}),
        "actor": to_builtins(event.actor),
        "command": to_builtins(event.command),
        "hash": line.hash,
    }
