"""How what was charged comes back, for one consumption or for a whole period (SEMANTICS.md section 6).

Debt that the work made falls first. A grant that is alive gets back what it paid; what an expired one paid is granted
anew; what a revoked one paid is revoked as it comes. Nothing comes back that a downgrade reclaimed.
"""

from __future__ import annotations

from collections.abc import Sequence

from events.account import Key, Missing
from events.credits import credit, less, reclaimable, repayment, revoke, take_back
from events.draft import Draft
from events.facts import Refunded, RefundedKind
from events.grants import Grant, allocations
from events.instants import plus

REGRANT_SECONDS = 7 * 86_400
"""For how long at least a regrant of expired credits can be used."""


def restore(  # noqa: PLR0913 - the event's sides, all named
    draft: Draft,
    kind: RefundedKind,
    unit: str,
    debt_part: int,
    grant_parts: Sequence[tuple[str, int]],
    *,
    usage: int,
    consumption_id: str | None = None,
    reference: str | None = None,
    reason: str | None = None,
) -> None:
    """Give back what grants and debt paid; `usage` is what the period's usage falls by."""
    sources = _sources(draft, grant_parts)
    if kind == "usage_reset":
        sources.sort(key=lambda entry: entry[0].ordinal)
    alive = {source.id: part for source, part in sources if _alive(draft, source)}
    revoked = {source.id: part for source, part in sources if source.state == "revoked"}
    ended = [(source, part) for source, part in sources if source.id not in alive and source.id not in revoked]
    reclaimed = reclaimable(draft, unit, alive)
    debt = draft.figures(unit).debt
    debt_refunded = min(debt_part, debt)
    repaid = repayment(draft, unit, less(alive, reclaimed), debt - debt_refunded)
    in_debt = debt > debt_refunded
    data = Refunded(
        reservation_id=None,
        consumption_id=consumption_id,
        unit=unit,
        amount=debt_part + sum(part for _, part in grant_parts),
        regranted=(debt_part - debt_refunded) + sum(part for _, part in ended),
        usage=usage,
        allocation=allocations([*alive.items(), *revoked.items()]),
        debt_refunded=debt_refunded,
        debt_repaid=sum(entry.amount for entry in repaid),
        repaid=repaid,
        reference=reference,
        reason=reason,
        reclaimed=allocations(reclaimed.items()) if in_debt else [],
    )
    draft.add(kind, data)
    if not in_debt:
        take_back(draft, reclaimed, "reclaim")
    for grant_id in revoked:
        revoke(draft, draft.state.account.grants[grant_id])
    if debt_part > debt_refunded:
        _regrant(draft, unit, debt_part - debt_refunded, None)
    for source, part in ended:
        _regrant(draft, unit, part, source)


def _sources(draft: Draft, parts: Sequence[tuple[str, int]]) -> list[tuple[Grant, int]]:
    """Return the grants that paid; raises Missing with all that are not in memory."""
    found: list[tuple[Grant, int]] = []
    missing: list[Key] = []
    for grant_id, part in parts:
        try:
            source = draft.state.grant(grant_id)
        except Missing as error:
            missing += error.keys
            continue
        if source is None:
            raise LookupError(f"account {draft.state.account.id}: unknown grant {grant_id} paid for a consumption")
        found.append((source, part))
    if missing:
        raise Missing(missing)
    return found


def _alive(draft: Draft, source: Grant) -> bool:
    """Say whether a grant may have credits again; a drained allowance of an earlier period ended with that period."""
    if source.state != "active" or (source.expires_at is not None and source.expires_at <= draft.now):
        return False
    account = draft.state.account
    return source.kind != "plan" or source.id in account.grants or account.allows(source)


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
