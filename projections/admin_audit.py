"""The admin's audit list: who changed what by hand, with the value before and after (CONTRACT.md, GET .../audit).

An entry is an event of an admin's command, told as an action; everything in it stands in the event.
"""

from __future__ import annotations

from typing import Literal

from msgspec import to_builtins

from events.account import ZERO
from events.facts import Granted, PlanChanged, Refunded
from events.recorded import Event

Action = Literal[
    "plan_change",
    "credit_grant",
    "limit_change",
    "usage_reset",
    "credit_adjustment",
    "credit_revoke",
    "status_change",
]

_ACTIONS: dict[tuple[str, type], Action] = {
    ("change_plan", PlanChanged): "plan_change",
    ("grant", Granted): "credit_grant",
    ("adjust", Granted): "credit_adjustment",
    ("revoke", Granted): "credit_revoke",
    ("set_status", PlanChanged): "status_change",
    ("reset_usage", Refunded): "usage_reset",
}


def action_of(event: Event) -> Action | None:
    """Return what an admin did with this event, or None when it is no admin's action or only follows from one."""
    action = _ACTIONS.get((event.command.name, type(event.data)))
    if action == "plan_change" and event.kind == "limits":
        return "limit_change"
    if action == "status_change" and event.kind not in {"status", "unchanged"}:
        return None  # the period that begins when a closed account is opened again
    return action


def audit_entry(event: Event) -> dict[str, object]:
    """Return the entry of an event that is an admin's action."""
    data = event.data
    previous, new = _values(event)
    return {
        "id": event.id,
        "account": event.account,
        "action": action_of(event),
        "actor": to_builtins(event.actor),
        "details": _details(event),
        "previous_value": previous,
        "new_value": new,
        "reason": getattr(data, "reason", None),
        "reference": getattr(data, "reference", None),
        "created_at": event.recorded_at,
    }


def _details(event: Event) -> dict[str, object]:
    data = event.data
    details: dict[str, object] = {"kind": event.kind}
    if isinstance(data, PlanChanged):
        return {**details, "plan": data.to, "period_start": data.period_start, "period_end": data.period_end}
    details["unit"] = data.unit
    if isinstance(data, Granted):
        details |= {"amount": data.amount, "grant_id": data.grant_id, "expires_at": data.expires_at}
    if isinstance(data, Refunded):
        details |= {"amount": data.amount, "usage": data.usage, "regranted": data.regranted}
    return details


def _values(event: Event) -> tuple[dict[str, object], dict[str, object]]:
    """Return the values before and after: of a plan change what it names, else what was available."""
    data = event.data
    if isinstance(data, PlanChanged):
        return to_builtins(data.previous_value), to_builtins(data.new_value)
    balance, delta = event.balance.get(data.unit, ZERO), event.delta.get(data.unit, ZERO)
    before: dict[str, object] = {"available": balance.available - delta.available}
    after: dict[str, object] = {"available": balance.available}
    if isinstance(data, Refunded):
        before["used"], after["used"] = data.usage, 0
    return before, after
