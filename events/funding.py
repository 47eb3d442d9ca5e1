"""Credits that come in: grants, and refunds of consumptions (SEMANTICS.md sections 4 and 6)."""

from __future__ import annotations

from events import commands
from events.account import Account
from events.credits import credit, repayment, revoke
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
from events.facts import CostBasis, Refunded
from events.grants import LIVE_GRANTS_MAX, Grant, allocations
from events.holds import Consumption
from events.instants import Instant, plus
from events.plans import require_account

REGRANT_SECONDS = 7 * 86_400
"""For how long at least a regrant of expired credits can be used."""


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
    amount = _refundable(consumption, command.amount)
    completes = consumption.refunded + amount == consumption.charged and not consumption.unfunded_returned
    debt_part, grant_parts = _reversed_parts(consumption, amount)
    debt_refunded = min(debt_part, draft.figures(consumption.unit).debt)
    alive: list[tuple[str, int]] = []
    ended: list[tuple[Grant, int]] = []
    revoked: list[tuple[str, int]] = []
    for grant_id, part in grant_parts:
        source = draft.state.grant(grant_id)
        if source is None:
            raise LookupError(f"account {account.id}: consumption {consumption.id} names unknown grant {grant_id}")
        if _alive(source, draft.now):
            alive.append((grant_id, part))
        elif source.state == "revoked":
            revoked.append((grant_id, part))
        else:
            ended.append((source, part))
    repaid = repayment(draft, consumption.unit, dict(alive), draft.figures(consumption.unit).debt - debt_refunded)
    data = Refunded(
        reservation_id=None,
        consumption_id=consumption.id,
        unit=consumption.unit,
        amount=amount,
        regranted=(debt_part - debt_refunded) + sum(part for _, part in ended),
        usage=amount + (consumption.unfunded if completes else 0),
        allocation=allocations([*alive, *revoked]),
        debt_refunded=debt_refunded,
        debt_repaid=sum(entry.amount for entry in repaid),
        repaid=repaid,
        reference=consumption.reference,
        reason=command.reason,
    )
    draft.add("consumption", data)
    for grant_id, _ in revoked:
        revoke(draft, draft.state.account.grants[grant_id])
    if debt_part > debt_refunded:
        _regrant(draft, consumption.unit, debt_part - debt_refunded, None)
    for source, part in ended:
        _regrant(draft, consumption.unit, part, source)


def _refundable(consumption: Consumption, asked: int | None) -> int:
    left = consumption.charged - consumption.refunded
    amount = left if asked is None else asked
    nothing_left = left == 0 and (consumption.unfunded == 0 or consumption.unfunded_returned)
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


def _reversed_parts(consumption: Consumption, amount: int) -> tuple[int, list[tuple[str, int]]]:
    """Return what the next `amount` of refund reverses: the part that made debt, and the grants' parts.

    The debt was drawn last, so it is reversed first; what was refunded before is passed over.
    """
    passed = consumption.refunded
    debt_left = max(0, consumption.debt_added - passed)
    passed = max(0, passed - consumption.debt_added)
    debt_part = min(debt_left, amount)
    missing = amount - debt_part
    parts: dict[str, int] = {}
    for entry in reversed(consumption.allocation):
        skipped = min(passed, entry.amount)
        passed -= skipped
        part = min(entry.amount - skipped, missing)
        if part:
            parts[entry.grant_id] = parts.get(entry.grant_id, 0) + part
            missing -= part
    return debt_part, list(parts.items())


def _alive(source: Grant, now: Instant) -> bool:
    return source.state == "active" and (source.expires_at is None or source.expires_at > now)


def _regrant(draft: Draft, unit: str, amount: int, source: Grant | None) -> None:
    """Grant anew what can no longer go back to where it came from; what once was debt comes back without an end."""
    earliest = plus(draft.now, seconds=REGRANT_SECONDS)
    credit(
        draft,
        "refund_regrant",
        grant_id=draft.next_id(),
        unit=unit,
        amount=amount,
        expires_at=None if source is None or source.expires_at is None else max(source.expires_at, earliest),
        operations=None if source is None or source.operations is None else list(source.operations),
        cost_basis=None if source is None else source.cost_basis,
        source_grant_id=None if source is None else source.id,
    )
