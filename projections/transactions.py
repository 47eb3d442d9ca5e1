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
    operation: str | None = None
    if isinstance(data, Consumed):
        operation = data.operation
    elif isinstance(data, Reserved) and len(data.lines) == 1:
        operation = data.lines[0].operation
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
        "operation": operation,
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


def is_about(line: Line, *, operation: str | None, reservation: str | None, reference: str | None) -> bool:
    """Say whether a row passes the filters that look inside an event."""
    data = line.event.data
    if reference is not None and getattr(data, "reference", None) != reference:
        return False
    if reservation is not None:
        ids = (getattr(data, "reservation_id", None), getattr(data, "consumption_id", None))
        if not any(item_id == reservation or (item_id or "").startswith(f"{reservation}:") for item_id in ids):
            return False
    if operation is None:
        return True
    if isinstance(data, Reserved | Consumed):
        return any(each.operation == operation for each in data.lines) or (
            isinstance(data, Consumed) and data.operation == operation
        )
    return False
