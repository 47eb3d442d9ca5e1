"""The answer to a command, built from its events (CONTRACT.md, "HTTP, JSON").

The first answer and every replay come from this one function and the same events, so they cannot differ. Of a hold and
a consumption only what never changes is taken from the item; what moves stands in the event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import orjson
from msgspec import to_builtins

from events.account import ZERO, State
from events.facts import (
    Consumed,
    Data,
    Fact,
    Figures,
    Granted,
    GrantFigures,
    HoldFigures,
    Kind,
    PlanChanged,
    Refunded,
    Reserved,
)
from events.recorded import TYPE_OF, Line
from projections.balance import balance_view, pending_view, quota_figures
from projections.items import consumption_view, reservation_view

DRY_RUN_ID = "~"
"""What stands for new ids in a dry run; no id that a caller chooses can begin with it."""


def answer(account: str, lines: Sequence[Line], state: State, *, replayed: bool = False) -> dict[str, object]:
    """Return the answer to a command that wrote `lines`; `state` knows the items that they are about."""
    last = lines[-1].event
    unit = _unit(lines[0].event.data, last.data)
    return {
        "account": account,
        "replayed": replayed,
        "token": last.id,
        "events": [orjson.Fragment(with_hash(line)) for line in lines],
        **_about([(line.event.kind, line.event.data, line.event.delta) for line in lines], state),
        "balance": balance_view(unit, last.balance.get(unit, ZERO)),
        **_quota(last.data, last.balance),
    }


def dry_answer(account: str, facts: Sequence[Fact], state: State) -> dict[str, object]:
    """Return what the answer would be; nothing was written, so nothing has an id."""
    unit = _unit(facts[0].data, facts[-1].data)
    about = _about([(fact.kind, fact.data, fact.delta) for fact in facts], state)
    for view in about.values():
        if "id" in view:
            view["id"] = None
    return {
        "account": account,
        "replayed": False,
        "dry_run": True,
        "token": None,
        "events": [
            {
                "id": None,
                "type": TYPE_OF[type(fact.data)],
                "kind": fact.kind,
                "delta": to_builtins(fact.delta),
                "balance": to_builtins(fact.balance),
                "data": _without_ids(to_builtins(fact.data)),
            }
            for fact in facts
        ],
        **about,
        "balance": balance_view(unit, facts[-1].balance.get(unit, ZERO)),
        **_quota(facts[-1].data, facts[-1].balance),
    }


def _without_ids(value: object) -> object:
    """Return data in which every id that a real command would have got is None."""
    if isinstance(value, list):
        return [_without_ids(entry) for entry in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, object]", value)
    return {key: None if _is_dry_id(key, entry) else _without_ids(entry) for key, entry in fields.items()}


def _is_dry_id(key: str, entry: object) -> bool:
    return key.endswith("_id") and isinstance(entry, str) and entry.startswith(DRY_RUN_ID)


def free_answer() -> dict[str, object]:
    """Return the answer to a free operation, which wrote nothing."""
    return {"free": True, "events": []}


def with_hash(line: Line) -> bytes:
    """Return the event as answers show it: the line as stored, with its hash added."""
    return b'%b,"hash":"%b"}' % (line.line[:-1], line.hash.encode())


def _quota(data: Data, balance: Mapping[str, Figures]) -> dict[str, dict[str, object]]:
    """Return the quota as a `grant` leaves it; nothing for other commands."""
    if not isinstance(data, Granted) or data.usage is None:
        return {}
    return {"quota": {"unit": data.unit, **quota_figures(data.usage, balance.get(data.unit, ZERO))}}


def _unit(first: Data, last: Data) -> str:
    """Return the unit whose balance is shown: the last event's, and of a plan change, whatever it grants, the credits."""
    if isinstance(last, PlanChanged) or (isinstance(first, PlanChanged) and isinstance(last, Granted)):
        return "credits"
    return last.unit


def _about(events: Sequence[tuple[Kind, Data, dict[str, Figures]]], state: State) -> dict[str, dict[str, object]]:
    """Return the reservation, consumption, grant and plan that the events are about, as they leave them."""
    about: dict[str, dict[str, object]] = {}
    for kind, data, delta in events:
        match data:
            case Reserved():
                about["reservation"] = _reservation(state, data.reservation_id, data.hold or _figures(data))
            case Consumed():
                if data.reservation_id is not None:
                    about["reservation"] = _reservation(state, data.reservation_id, data.hold)
                about["consumption"] = _consumption(state, data.consumption_id, 0)
            case Refunded():
                if data.reservation_id is not None:
                    about["reservation"] = _reservation(state, data.reservation_id, data.hold)
                elif data.consumption_id is not None:
                    about["consumption"] = _consumption(state, data.consumption_id, data.refunded)
            case PlanChanged():
                about["plan"] = _plan(data)
            case Granted():
                if not about and data.grant is not None:
                    about["grant"] = _revoked_grant(data, data.grant)
                elif not about and data.grant_id is not None and kind in CALLER_GRANTS:
                    about["grant"] = _grant(kind, data, delta)
    return about


CALLER_GRANTS = frozenset({"promo", "purchase", "trial", "adjustment"})


def _figures(data: Reserved) -> HoldFigures:
    """Return how a hold stands right after it was made."""
    several = len(data.lines) > 1
    return HoldFigures(
        state="open",
        amount=data.amount,
        held=data.amount,
        charged=0,
        unfunded=0,
        occupies=data.occupies,
        expires_at=data.expires_at,
        lines=[(line.amount, 0) for line in data.lines] if several else [],
    )


def _reservation(state: State, reservation_id: str, figures: HoldFigures | None) -> dict[str, object]:
    hold = state.hold(reservation_id)
    if hold is None:
        raise LookupError(f"account {state.account.id}: hold {reservation_id} of an event is unknown")
    return reservation_view(hold, figures)


def _consumption(state: State, consumption_id: str, refunded: int) -> dict[str, object]:
    consumption = state.consumption(consumption_id)
    if consumption is None:
        raise LookupError(f"account {state.account.id}: consumption {consumption_id} of an event is unknown")
    return consumption_view(consumption, refunded)


def _grant(kind: Kind, data: Granted, delta: dict[str, Figures]) -> dict[str, object]:
    scheduled = delta.get(data.unit, ZERO).scheduled > 0
    remaining = data.amount - data.debt_repaid
    state = "scheduled" if scheduled else "active" if remaining else "drained"
    figures = {"kind": kind, "amount": data.amount, "remaining": remaining, "held": 0, "state": state}
    return _grant_view(data, figures)


def _revoked_grant(data: Granted, figures: GrantFigures) -> dict[str, object]:
    return _grant_view(data, to_builtins(figures))


def _grant_view(data: Granted, figures: Mapping[str, object]) -> dict[str, object]:
    return {
        "id": data.grant_id,
        "unit": data.unit,
        **figures,
        "priority": data.priority,
        "starts_at": data.starts_at,
        "expires_at": data.expires_at,
        "operations": data.operations,
        "cost_basis": None if data.cost_basis is None else to_builtins(data.cost_basis),
        "source_grant_id": data.source_grant_id,
    }


def _plan(data: PlanChanged) -> dict[str, object]:
    return {
        "plan": data.to,
        "period_start": data.period_start,
        "period_end": data.period_end,
        "pending": pending_view(data.pending, data.period_end),
        "allowance": data.allowance,
        "capacity": data.capacity,
        **({} if data.status is None else {"status": data.status}),
    }
