"""Frozen, closed, active again (SEMANTICS.md section 7).

Nothing moves when the status changes: what is open lives to its end, and only what comes later is refused.
"""

from __future__ import annotations

from events.commands import SetStatus
from events.draft import Draft
from events.facts import PlanChanged
from events.plans import require_account


def set_status(draft: Draft, command: SetStatus) -> None:
    """Let the account be active, frozen or closed; the status that it has already is an event that changes nothing."""
    account = require_account(draft)
    if account.policies is None:
        raise LookupError(f"account {account.id} has no plan")
    data = PlanChanged(
        from_=account.plan,
        to=account.plan,
        period_start=account.period_start,
        period_end=account.period_end,
        anchor=account.anchor,
        allowance=account.allowance,
        capacity=account.capacity,
        policies=account.policies,
        catalog=account.catalog,
        rolled_over={},
        reclaim={},
        previous_value={"status": account.status},
        new_value={"status": command.status},
        reason=command.reason,
        status=command.status,
    )
    draft.add("unchanged" if command.status == account.status else "status", data)
