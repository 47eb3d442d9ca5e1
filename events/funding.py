"""Credits that come in: grants, and refunds of consumptions (SEMANTICS.md sections 4 and 6)."""

from __future__ import annotations

from events import commands
from events.account import NO_USAGE, Account
from events.credits import credit
from events.draft import Draft
from events.errors import (
    AccountClosed,
    AlreadyExists,
    ConsumptionNotFound,
    InvalidRequest,
    OperationNotFound,
    RefundExceedsConsumption,
    TooManyGrants,
)
from events.facts import CostBasis, UsageFigures
from events.grants import LIVE_GRANTS_MAX
from events.holds import Consumption, reversal
from events.plans import require_account
from events.resetting import was_given_back
from events.restoring import restore


def grant(draft: Draft, command: commands.Grant) -> None:
    """Give credits to an account; they repay its debt first when they are general and usable at once."""
    account = require_account(draft)
    if account.status == "closed":
        raise AccountClosed(f"account {account.id} is closed", account=account.id)
    unit = command.unit or "credits"
    _check_grant(draft, command, unit)
    starts_at = command.effective_at if command.effective_at and command.effective_at > draft.now else draft.now
    grant_id = command.grant_id or draft.new_id
    if command.grant_id is not None and draft.state.grant(command.grant_id) is not None:
        raise AlreadyExists(f"account {account.id} has a grant {command.grant_id}", grant_id=command.grant_id)
    require_grant_room(account)
    usage = account.usage.get(unit, NO_USAGE)
    credit(
        draft,
        command.kind,
        grant_id=grant_id,
        unit=unit,
        amount=command.amount,
        priority=command.priority,
        starts_at=starts_at,
        expires_at=command.expires_at,
        operations=None if command.operations is None else list(command.operations),
        cost_basis=_cost_basis(command.cost_basis),
        reference=command.reference,
        reason=command.reason,
        usage=UsageFigures(charged=usage.charged, used=usage.used),
    )


def require_grant_room(account: Account) -> None:
    """Refuse one more grant when the account has as many live ones as it may."""
    live = sum(1 for each in account.grants.values() if each.state in {"scheduled", "active"})
    if live >= LIVE_GRANTS_MAX:
        raise TooManyGrants(f"account {account.id} has {live} live grants", limit=LIVE_GRANTS_MAX, used=live)


def _check_grant(draft: Draft, command: commands.Grant, unit: str) -> None:
    if unit not in draft.catalog.units:
        raise InvalidRequest.at("unit", f"the catalog has no unit {unit}")
    if command.expires_at is not None and command.expires_at <= max(command.effective_at or draft.now, draft.now):
        raise InvalidRequest.at("expires_at", "must be after effective_at and after now")
    for operation in command.operations or ():
        if operation not in draft.catalog.operations:
            raise OperationNotFound(f"the catalog has no operation {operation}", operation=operation)


def _cost_basis(cost: commands.Cost | None) -> CostBasis | None:
    return None if cost is None else CostBasis(amount=cost.amount, currency=cost.currency)


def refund(draft: Draft, command: commands.Refund) -> None:
    """Give back a consumption in whole or in part, last drawn first; debt that it made falls before any grant rises."""
    account = require_account(draft)
    consumption = draft.state.consumption(command.consumption_id)
    if consumption is None:
        raise ConsumptionNotFound(
            f"account {account.id} has no consumption {command.consumption_id}", consumption_id=command.consumption_id
        )
    amount = _refundable(consumption, command.amount, given_back=was_given_back(draft.state, consumption))
    completes = consumption.refunded + amount == consumption.charged and not consumption.unfunded_returned
    debt_part, grant_parts = reversal(consumption, amount)
    restore(
        draft,
        "consumption",
        consumption.unit,
        debt_part,
        grant_parts,
        usage=amount + (consumption.unfunded if completes else 0),
        consumption_id=consumption.id,
        reference=consumption.reference,
        reason=command.reason,
    )


def _refundable(consumption: Consumption, asked: int | None, *, given_back: bool) -> int:
    left = 0 if given_back else consumption.charged - consumption.refunded
    amount = left if asked is None else asked
    nothing_left = left == 0 and (given_back or consumption.unfunded == 0 or consumption.unfunded_returned)
    if amount > left or nothing_left or (amount == 0 and left > 0):
        if amount == 0 and left > 0:
            raise InvalidRequest.at("amount", "must be above 0 while something is left to refund")
        raise RefundExceedsConsumption(
            f"{left} of consumption {consumption.id} is left to refund",
            consumption_id=consumption.id,
            charged=consumption.charged,
            refunded=consumption.refunded,
            refundable=left,
        )
    return amount
