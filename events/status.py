"""Frozen, closed, active again (SEMANTICS.md section 7).

Nothing moves when the status changes: what is open lives to its end, and only what comes later is refused. An account
that was closed missed its renewals, so opening it again starts a period.
"""

from __future__ import annotations

from events.commands import SetStatus
from events.draft import Draft
from events.plans import present_period, record, require_account
from events.renewals import reopen


def set_status(draft: Draft, command: SetStatus) -> None:
    """Let the account be active, frozen or closed; the status that it has already is an event that changes nothing."""
    account = require_account(draft)
    was = account.status
    record(
        draft,
        "unchanged" if command.status == was else "status",
        account.terms,
        present_period(account),
        previous={"status": was},
        new={"status": command.status},
        pending=account.pending,
        reclaim=account.reclaim,
        reason=command.reason,
        status=command.status,
    )
    if was == "closed" and command.status != "closed":
        reopen(draft, reason=command.reason)
