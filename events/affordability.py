"""A denial that helps: what is missing, how much would pass, and when (FEATURES.md X6, SEMANTICS.md section 5)."""

from __future__ import annotations

from events.draft import Draft
from events.errors import InsufficientCredits
from events.grants import draw
from events.instants import Instant
from events.plans import policies
from events.pricing import affordable
from events.quoting import Quote


def refusal(draft: Draft, asked: Quote, shortfall: int) -> InsufficientCredits:
    """Return the refusal of a cost that the account cannot cover, with the figures that help and the catalog's words."""
    catalog = draft.catalog
    message = catalog.insufficient_credits_message
    refused = InsufficientCredits(
        message,
        unit=asked.unit,
        cost=asked.total,
        available=available(draft, asked),
        shortfall=shortfall,
        max_affordable=max_affordable(draft, asked),
        earliest_affordable_at=earliest_affordable_at(draft, asked),
        upgrade=message,
    )
    refused.status = catalog.insufficient_credits_status  # type: ignore[misc]  # the catalog may choose 429
    refused.code = catalog.insufficient_credits_code  # type: ignore[misc]  # and QUOTA_EXCEEDED with it
    return refused


def _operations(asked: Quote) -> list[str | None]:
    return [line.operation for line in asked.lines] or [None]


def available(draft: Draft, asked: Quote) -> int:
    """Return what may be drawn for it: general credits, and scoped ones that one of the lines may use."""
    operations = _operations(asked)
    grants = draft.state.account.grants.values()
    return sum(grant.remaining for grant in grants if any(grant.usable_for(asked.unit, name) for name in operations))


def max_affordable(draft: Draft, asked: Quote) -> int | None:
    """Return how much would pass: a quantity of an operation, credits of an amount, whole sets of several lines."""
    lines = asked.lines
    if not lines:
        return available(draft, asked)
    if len(lines) == 1:
        price = lines[0].price
        return None if price is None else affordable(price, available(draft, asked), lines[0].params)
    if asked.total == 0:
        return None
    low, high = 0, available(draft, asked) // asked.total
    while low < high:
        middle = (low + high + 1) // 2
        if _covers(draft, asked, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _covers(draft: Draft, asked: Quote, sets: int) -> bool:
    taken: dict[str, int] = {}
    for line in asked.lines:
        grants = draft.state.account.grants.values()
        parts, missing = draw(grants, asked.unit, line.amount * sets, line.operation, taken=taken)
        if missing:
            return False
        for grant_id, part in parts:
            taken[grant_id] = taken.get(grant_id, 0) + part
    return True


def earliest_affordable_at(draft: Draft, asked: Quote) -> Instant | None:
    """Return the first known instant at which the cost would be covered if nothing else happened, or None.

    Known are the starts and ends of the grants that exist, and the next allowance of a plan that renews by itself.
    """
    account = draft.state.account
    grants = list(account.grants.values())
    instants = {grant.starts_at for grant in grants if grant.state == "scheduled"}
    renews = policies(draft).renewal == "auto"
    if renews:
        instants.add(account.period_end)
    operations = _operations(asked)
    debt = draft.figures(asked.unit).debt
    for at in sorted(instants):
        usable = sum(
            grant.remaining
            for grant in grants
            if grant.unit == asked.unit
            and grant.starts_at <= at
            and (grant.expires_at is None or grant.expires_at > at)
            and (grant.operations is None or any(name in grant.operations for name in operations))
        )
        if renews and at >= account.period_end:
            usable += account.allowance.get(asked.unit, 0)
        if usable - debt >= asked.total:
            return at
    return None
