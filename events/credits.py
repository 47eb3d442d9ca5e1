"""How credits enter grants, come back to them and leave with them, whatever the reason (SEMANTICS.md section 4).

One rule runs through all of it: what makes general credits usable repays debt first, in the same event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec.structs import replace

from events.draft import Draft
from events.facts import Allocation, CostBasis, Granted, GrantedKind, Refunded
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
) -> None:
    """Make a new grant; without `starts_at` it is usable at once."""
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
        allocation=[],
        repaid=allocations([(grant_id, repaid)]) if repaid else [],
        reference=reference,
        reason=reason,
    )
    draft.add(kind, data)


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
    """Return all that a hold still holds; what goes to an expired grant expires in the same batch."""
    entries = [
        Allocation(grant_id=grant_id, amount=amount, line=index)
        for index, line in enumerate(hold.lines)
        for grant_id, amount in line.allocation
    ]
    sums = by_grant(entries)
    repaid = repayment(draft, hold.unit, sums, draft.figures(hold.unit).debt)
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
    )
    draft.add(kind, data, effective_at=at, system_id=f"hold_expired:{hold.id}" if system else None)
    for grant_id in sums:
        grant = draft.state.account.grants.get(grant_id)
        if grant is not None and grant.state == "expired" and grant.remaining:
            end(draft, grant, at=at, system=system)
