"""Credits that an admin takes: a grant revoked, a balance adjusted (SEMANTICS.md section 4).

Neither touches what a hold has: a revoked grant loses that as it comes back, an adjustment leaves it alone.
"""

from __future__ import annotations

from events import affordability
from events.commands import Adjust, Revoke
from events.credits import credit, is_of_this_period, revoke
from events.draft import Draft
from events.errors import GrantNotFound, InvalidRequest
from events.facts import Granted
from events.funding import require_grant_room
from events.grants import DEFAULT_PRIORITY, allocations, draw
from events.plans import require_account, require_not_closed
from events.quoting import bare_amount


def revoke_grant(draft: Draft, command: Revoke) -> None:
    """Take the part of a grant that is not held and end it; raises GrantNotFound.

    A grant that is drained or has ended already gives 0; from then on it is revoked, so that nothing returns to it. An
    allowance of the present period is taken back (SEMANTICS.md section 7).
    """
    account = require_account(draft)
    require_not_closed(account)
    grant = draft.state.grant(command.grant_id)
    if grant is None:
        raise GrantNotFound(f"account {account.id} has no grant {command.grant_id}", grant_id=command.grant_id)
    take_back = "change" if is_of_this_period(draft, grant) else None
    revoke(draft, grant, take_back=take_back, reason=command.reason)


def adjust(draft: Draft, command: Adjust) -> None:
    """Add credits as a grant without an end, or take some from general grants in the order of drawing.

    What a negative amount does not find is refused (InsufficientCredits), left (`clamp`) or owed (`debt`, not limited).
    """
    account = require_account(draft)
    require_not_closed(account)
    unit = command.unit or "credits"
    if unit not in draft.catalog.units:
        raise InvalidRequest.at("unit", f"the catalog has no unit {unit}")
    if command.amount > 0:
        require_grant_room(account)
        credit(
            draft,
            "adjustment",
            grant_id=draft.new_id,
            unit=unit,
            amount=command.amount,
            reference=command.reference,
            reason=command.reason,
        )
    else:
        _take(draft, command, unit, -command.amount)


def _take(draft: Draft, command: Adjust, unit: str, amount: int) -> None:
    parts, missing = draw(draft.state.account.grants.values(), unit, amount)
    if missing and command.insufficient in {None, "reject"}:
        raise affordability.refusal(draft, bare_amount(unit, amount), missing)
    owed = missing if command.insufficient == "debt" else 0
    data = Granted(
        grant_id=None,
        unit=unit,
        amount=missing - owed - amount,
        priority=DEFAULT_PRIORITY["adjustment"],
        starts_at=draft.now,
        expires_at=None,
        operations=None,
        cost_basis=None,
        source_grant_id=None,
        debt_repaid=0,
        allocation=allocations(parts),
        reference=command.reference,
        reason=command.reason,
        debt_added=owed,
    )
    draft.add("adjustment", data)
