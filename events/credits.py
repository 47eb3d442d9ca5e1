"""How credits enter grants, come back to them and leave with them, whatever the reason (SEMANTICS.md section 4).

One rule runs through all of it: what makes general credits usable repays debt first, in the same event. And what comes
back to a grant that has ended leaves it again in the same batch, the way its grant ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec.structs import replace

from events.draft import Draft
from events.facts import Allocation, CostBasis, Granted, GrantedKind, GrantFigures, Refunded, UsageFigures
from events.grants import DEFAULT_PRIORITY, Grant, allocations, by_grant, draw, draw_order
from events.holds import Hold
from events.instants import Instant


def credit(  # noqa: PLR0913 - a grant has that many sides, all named
    draft: Draft,
    kind: GrantedKind,
    *,
    grant_id: str,
    unit: str,
    amount: int,
    priority: int | None = None,
    starts_at: Instant | None = None,
    expires_at: Instant | None = None,
    operations: list[str] | None = None,
    cost_basis: CostBasis | None = None,
    source_grant_id: str | None = None,
    reference: str | None = None,
    reason: str | None = None,
    allocation: list[Allocation] | None = None,
    period: Instant | None = None,
    usage: UsageFigures | None = None,
    at: Instant | None = None,
    system: bool = False,
) -> None:
    """Make a new grant; without `starts_at` it is usable at once. `allocation` says of which grants it is made."""
    usable = operations is None and (starts_at is None or starts_at <= draft.now)
    repaid = min(draft.figures(unit).debt, amount) if usable else 0
    data = Granted(
        grant_id=grant_id,
        unit=unit,
        amount=amount,
        priority=DEFAULT_PRIORITY[kind] if priority is None else priority,
        starts_at=starts_at or draft.now,
        expires_at=expires_at,
        operations=operations,
        cost_basis=cost_basis,
        source_grant_id=source_grant_id,
        debt_repaid=repaid,
        allocation=allocation or [],
        repaid=allocations([(grant_id, repaid)]) if repaid else [],
        reference=reference,
        reason=reason,
        period=period,
        usage=usage,
    )
    draft.add(kind, data, effective_at=at, system_id=f"granted:{grant_id}" if system else None)


def activate(draft: Draft, grant: Grant, *, at: Instant) -> None:
    """Let a scheduled grant become usable, at the instant it was made for."""
    repaid = min(draft.figures(grant.unit).debt, grant.remaining) if grant.operations is None else 0
    data = _about(grant, grant.remaining)
    if repaid:
        data = replace(data, debt_repaid=repaid, repaid=allocations([(grant.id, repaid)]))
    draft.add("activated", data, effective_at=at, system_id=f"activated:{grant.id}")


def end(draft: Draft, grant: Grant, *, at: Instant | None = None, system: bool) -> None:
    """Let a grant expire: what is not held is gone, what a hold returns later ends when it comes back."""
    allocation = allocations([(grant.id, grant.remaining)]) if grant.remaining else []
    data = replace(_about(grant, -grant.remaining), allocation=allocation)
    draft.add("expired", data, effective_at=at, system_id=f"expired:{grant.id}" if system else None)


def revoke(
    draft: Draft,
    grant: Grant,
    *,
    at: Instant | None = None,
    system: bool = False,
    take_back: Literal["change", "reclaim"] | None = None,
    reason: str | None = None,
) -> None:
    """Take what is not held out of a grant and end it; what a hold or refund returns later is revoked as it comes."""
    allocation = allocations([(grant.id, grant.remaining)]) if grant.remaining else []
    figures = GrantFigures(kind=grant.kind, amount=grant.granted, remaining=0, held=grant.held, state="revoked")
    data = replace(
        _about(grant, -grant.remaining), allocation=allocation, reason=reason, take_back=take_back, grant=figures
    )
    draft.add("revoked", data, effective_at=at, system_id=f"revoked:{grant.id}" if system else None)


def is_of_this_period(draft: Draft, grant: Grant) -> bool:
    """Say whether a grant is allowance of the present period, so that revoking it is a take-back (section 7)."""
    return draft.state.account.allows(grant)


def end_again(draft: Draft, grant_id: str, *, at: Instant | None = None, system: bool = False) -> None:
    """Let what a hold returned to a grant that has ended leave it again."""
    grant = draft.state.account.grants.get(grant_id)
    if grant is None or not grant.remaining:
        return
    if grant.state == "expired":
        end(draft, grant, at=at, system=system)
    elif grant.state == "revoked":
        take_back = "change" if is_of_this_period(draft, grant) else None
        revoke(draft, grant, at=at, system=system, take_back=take_back)


def take_back(
    draft: Draft,
    parts: Mapping[str, int],
    why: Literal["change", "reclaim"],
    *,
    at: Instant | None = None,
    system: bool = False,
) -> None:
    """Take parts of the allowance, by grant id, out of grants that live on."""
    for grant_id, part in parts.items():
        grant = draft.state.account.grants[grant_id]
        data = replace(_about(grant, -part), allocation=allocations([(grant_id, part)]), take_back=why)
        number = draft.state.account.events
        draft.add("revoked", data, effective_at=at, system_id=f"{why}:{grant_id}:{number}" if system else None)


def reclaimable(draft: Draft, unit: str, returning: Mapping[str, int]) -> dict[str, int]:
    """Return how much of what comes back to which grant is revoked, because a downgrade could not take it back before.

    SEMANTICS.md section 7: only this period's allowance, and before any debt is repaid.
    """
    left = draft.state.account.reclaim.get(unit, 0)
    parts: dict[str, int] = {}
    for grant_id, amount in returning.items():
        if left == 0:
            break
        grant = draft.state.grant(grant_id)
        if grant is not None and grant.state == "active" and is_of_this_period(draft, grant):
            part = min(left, amount)
            parts[grant_id] = part
            left -= part
    return parts


def less(amounts: Mapping[str, int], parts: Mapping[str, int]) -> dict[str, int]:
    """Return what is left of amounts by grant id after parts of them are gone."""
    return {grant_id: amount - parts.get(grant_id, 0) for grant_id, amount in amounts.items()}


def _about(grant: Grant, amount: int) -> Granted:
    """Return the data of an event about a grant that exists."""
    return Granted(
        grant_id=grant.id,
        unit=grant.unit,
        amount=amount,
        priority=grant.priority,
        starts_at=grant.starts_at,
        expires_at=grant.expires_at,
        operations=None if grant.operations is None else list(grant.operations),
        cost_basis=grant.cost_basis,
        source_grant_id=grant.source_grant_id,
        debt_repaid=0,
        allocation=[],
    )


def repayment(draft: Draft, unit: str, returning: Mapping[str, int], debt: int) -> list[Allocation]:
    """Return which of the grants that get `returning` back (grant id to amount) give how much of it to the debt."""
    if debt <= 0:
        return []
    found = [(draft.state.grant(grant_id), amount) for grant_id, amount in returning.items()]
    filled = [replace(grant, remaining=amount) for grant, amount in found if grant is not None]
    parts, _ = draw(sorted(filled, key=draw_order), unit, debt)
    return allocations(parts)


def give_back(
    draft: Draft,
    hold: Hold,
    kind: Literal["release", "hold_expired"],
    *,
    at: Instant | None = None,
    reason: str | None = None,
) -> None:
    """Return all that a hold still holds; what goes to a grant that has ended leaves it in the same batch."""
    entries = [
        Allocation(grant_id=grant_id, amount=amount, line=index)
        for index, line in enumerate(hold.lines)
        for grant_id, amount in line.allocation
    ]
    sums = by_grant(entries)
    reclaimed = reclaimable(draft, hold.unit, sums)
    debt = draft.figures(hold.unit).debt
    repaid = repayment(draft, hold.unit, less(sums, reclaimed), debt)
    system = kind == "hold_expired"
    data = Refunded(
        reservation_id=hold.id,
        consumption_id=None,
        unit=hold.unit,
        amount=hold.held,
        regranted=0,
        usage=0,
        allocation=entries,
        debt_refunded=0,
        debt_repaid=sum(entry.amount for entry in repaid),
        repaid=repaid,
        reference=hold.reference,
        reason=reason,
        reclaimed=allocations(reclaimed.items()) if debt else [],
    )
    draft.add(kind, data, effective_at=at, system_id=f"hold_expired:{hold.id}" if system else None)
    if not debt:
        take_back(draft, reclaimed, "reclaim", at=at, system=system)
    for grant_id in sums:
        end_again(draft, grant_id, at=at, system=system)
