"""A statement: what moved in an account from one instant to another, row by row, from the opening to the closing balance.

Facts count at the instant at which they hold, which never goes back inside an account; so a range is a part of its
events without a gap, behind which may come due facts that nobody has written yet.
"""

from __future__ import annotations

from collections.abc import Mapping

from events.account import ZERO
from events.facts import Consumed, Fact, Figures, PlanChanged
from events.recorded import TYPE_OF, Event
from projections.balance import balance_view
from projections.transactions import operation_of


def movement_of(event: Event, unit: str) -> dict[str, object]:
    """Return the row of an event."""
    actor = event.actor.id
    view = _view(event.kind, event.data, event.delta, event.balance, unit)
    return {"event": event.id, "at": event.effective_at, "recorded_at": event.recorded_at, **view, "actor": actor}


def movement_of_due(fact: Fact, unit: str) -> dict[str, object]:
    """Return the row of a due fact that is not written yet."""
    view = _view(fact.kind, fact.data, fact.delta, fact.balance, unit)
    return {"event": None, "at": fact.effective_at, "recorded_at": None, **view, "actor": "system"}


def concerns(data: object, delta: Mapping[str, Figures], unit: str) -> bool:
    """Say whether something that happened belongs into the statement of a unit."""
    return getattr(data, "unit", unit) == unit or delta.get(unit, ZERO) != ZERO


def _view(
    kind: str, data: object, delta: Mapping[str, Figures], balance: Mapping[str, Figures], unit: str
) -> dict[str, object]:
    amount = 0
    if isinstance(data, Consumed):
        amount = data.charged
    elif not isinstance(data, PlanChanged):
        amount = int(getattr(data, "amount", 0))
    return {
        "type": TYPE_OF[type(data)],  # type: ignore[index]  # the data of an event or a fact
        "kind": kind,
        "amount": amount,
        "delta": balance_view(unit, delta.get(unit, ZERO)),
        "balance": balance_view(unit, balance.get(unit, ZERO)),
        "operation": operation_of(data),
        "reservation_id": getattr(data, "reservation_id", None),
        "consumption_id": getattr(data, "consumption_id", None),
        "grant_id": getattr(data, "grant_id", None),
        "reference": getattr(data, "reference", None),
        "reason": getattr(data, "reason", None),
    }
