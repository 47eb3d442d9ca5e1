"""An account's history: each event as a row that can be checked alone, with the balance after it and the change to it."""

from __future__ import annotations

from msgspec import to_builtins

from events.facts import Consumed, PlanChanged, Reserved
from events.recorded import TYPE_OF, Line


def transaction_view(line: Line) -> dict[str, object]:
    """Return one row of the history."""
    event = line.event
    data = event.data
    unit = "credits" if isinstance(data, PlanChanged) else data.unit
    amount = 0 if isinstance(data, PlanChanged) else data.charged if isinstance(data, Consumed) else data.amount
    return {
        "id": event.id,
        "type": TYPE_OF[type(data)],
        "kind": event.kind,
        "recorded_at": event.recorded_at,
        "effective_at": event.effective_at,
        "unit": unit,
        "amount": amount,
        "delta": to_builtins(event.delta),
        "balance": to_builtins(event.balance),
        "operation": operation_of(data),
        "reservation_id": getattr(data, "reservation_id", None),
        "consumption_id": getattr(data, "consumption_id", None),
        "grant_id": getattr(data, "grant_id", None),
        "reference": getattr(data, "reference", None),
        "reason": getattr(data, "reason", None),
        "metadata": getattr(data, "metadata", {}),
        "actor": to_builtins(event.actor),
        "command": to_builtins(event.command),
        "hash": line.hash,
    }


def operation_of(data: object) -> str | None:
    """Return the operation that an event is about; None when it is about several or none."""
    if isinstance(data, Consumed):
        return data.operation
    if isinstance(data, Reserved) and len(data.lines) == 1:
        return data.lines[0].operation
    return None
