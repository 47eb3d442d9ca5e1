"""A denial that helps: what is missing, how much would pass, and when (FEATURES.md X6, SEMANTICS.md section 5)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import groupby
from typing import Literal

from msgspec.structs import replace

from events.draft import Draft
from events.errors import InsufficientCredits
from events.grants import DEFAULT_PRIORITY, Drawing, Grant, draw_order
from events.instants import Instant
from events.plans import policies
from events.pricing import affordable
from events.quoting import Quote
from events.renewals import ends_with_period, next_turn, rollovers


def refusal(draft: Draft, asked: Quote, shortfall: int) -> InsufficientCredits:
    """Return the refusal of a cost that the account cannot cover, with the figures that help and the catalog's words."""
    return _refusal(
        draft,
        unit=asked.unit,
        cost=asked.total,
        available=available(draft, asked),
        shortfall=shortfall,
        max_affordable=max_affordable(draft, asked),
        earliest_affordable_at=earliest_affordable_at(draft, asked),
    )


def refusal_of_more(
    draft: Draft, unit: str, amount: int, shortfall: int, operations: Collection[str | None]
) -> InsufficientCredits:
    """Return the refusal of an amount that any of some operations may pay for, which is how an extend draws."""

    def of_use(grants: Iterable[Grant]) -> list[Grant]:
        return [grant for grant in grants if any(grant.usable_for(unit, name) for name in operations)]

    def covers(grants: Iterable[Grant], spoken_for: Mapping[str, int]) -> bool:
        return sum(grant.remaining - spoken_for.get(grant.id, 0) for grant in of_use(grants)) >= amount

    there = sum(grant.remaining for grant in of_use(draft.state.account.grants.values()))
    return _refusal(
        draft,
        unit=unit,
        cost=amount,
        available=there,
        shortfall=shortfall,
        max_affordable=there,
        earliest_affordable_at=_earliest(draft, unit, amount, covers),
    )


def _refusal(draft: Draft, **fields: object) -> InsufficientCredits:
    catalog = draft.catalog
    message = catalog.insufficient_credits_message
    refused = InsufficientCredits(message, **fields, upgrade=message)
    refused.status = catalog.insufficient_credits_status  # type: ignore[misc]  # the catalog may choose 429
    refused.code = catalog.insufficient_credits_code  # type: ignore[misc]  # and QUOTA_EXCEEDED with it
    return refused


def _operations(asked: Quote) -> list[str | None]:
    return [line.operation for line in asked.lines] or [None]


def available(draft: Draft, asked: Quote) -> int:
    """Return what may be drawn for it: general credits, and scoped ones that one of the lines may use."""
    operations = set(_operations(asked))
    grants = draft.state.account.grants.values()
    return sum(grant.remaining for grant in grants if any(grant.usable_for(asked.unit, name) for name in operations))


def max_affordable(draft: Draft, asked: Quote) -> int | None:
    """Return how much would pass: a quantity of an operation, credits of an amount, whole sets of lines, None at cost 0."""
    if asked.total == 0:
        return None
    lines = asked.lines
    if not lines:
        return available(draft, asked)
    if not asked.is_set:
        price = lines[0].price
        return None if price is None else affordable(price, available(draft, asked), lines[0].params)
    low, high = 0, available(draft, asked) // asked.total
    grants = draft.state.account.grants.values()
    runs = _runs(asked)
    while low < high:
        middle = (low + high + 1) // 2
        if _covers(grants, asked.unit, runs, {}, sets=middle):
            low = middle
        else:
            high = middle - 1
    return low


def _runs(asked: Quote) -> list[tuple[str | None, int]]:
    """Return what is to be drawn, as (operation, amount); lines of one operation that follow each other are one."""
    runs: list[tuple[str | None, int]] = []
    for operation, lines in groupby(asked.lines, lambda line: line.operation):
        runs.append((operation, sum(line.amount for line in lines)))
    return runs or [(None, asked.total)]


def _covers(
    grants: Iterable[Grant],
    unit: str,
    runs: Iterable[tuple[str | None, int]],
    spoken_for: Mapping[str, int],
    *,
    sets: int = 1,
) -> bool:
    """Say whether grants in draw order cover it that many times, beside what is spoken for of them by id."""
    drawing = Drawing(grants, unit, taken=spoken_for)
    return not any(drawing.take(amount * sets, operation)[1] for operation, amount in runs)


def earliest_affordable_at(draft: Draft, asked: Quote) -> Instant | None:
    """Return the first known instant at which the cost would be covered if nothing else happened, or None.

    Known are the starts and ends of the grants that exist, and the next period when it begins by itself. What starts
    repays debt first.
    """
    runs, operations = _runs(asked), set(_operations(asked))

    def covers(grants: Iterable[Grant], spoken_for: Mapping[str, int]) -> bool:
        useful = [grant for grant in grants if any(grant.usable_for(asked.unit, name) for name in operations)]
        there = sum(grant.remaining - spoken_for.get(grant.id, 0) for grant in useful)
        return there >= asked.total and _covers(useful, asked.unit, runs, spoken_for)

    return _earliest(draft, asked.unit, asked.total, covers)


def _earliest(
    draft: Draft, unit: str, amount: int, covers: Callable[[Iterable[Grant], Mapping[str, int]], bool]
) -> Instant | None:
    """Return the first instant at which what is usable then, less what repaid debt of it, `covers` an amount."""
    own = [grant for grant in draft.state.account.grants.values() if grant.unit == unit]
    grants = _as_the_period_ends(draft, own)
    coming = [grant for grant in grants if grant.state == "scheduled"] + _next_allowance(draft, unit)
    debt = draft.figures(unit).debt
    repaid: dict[str, int] = {}
    there = sum(grant.remaining for grant in grants if grant.state == "active")
    in_order = sorted(
        (replace(grant, state="active") for grant in {grant.id: grant for grant in (*grants, *coming)}.values()),
        key=draw_order,
    )
    for at, starting in groupby(
        sorted(coming, key=lambda grant: (grant.starts_at, grant.id)), lambda each: each.starts_at
    ):
        for grant in starting:
            if grant.operations is None:
                repaid[grant.id] = min(debt, grant.remaining)
                debt -= repaid[grant.id]
            there += grant.remaining - repaid.get(grant.id, 0)
        if there < amount:
            continue  # whatever of it may be used
        usable = [
            grant for grant in in_order if grant.starts_at <= at and (grant.expires_at is None or grant.expires_at > at)
        ]
        if covers(usable, repaid):
            return at
    return None


def _as_the_period_ends(draft: Draft, grants: list[Grant]) -> list[Grant]:
    """Return the grants with the end that the next renewal brings to some of them, if it comes by itself."""
    turns_at = draft.state.account.turns_at
    if turns_at is None:
        return grants
    clears = policies(draft).clear_bonus
    return [
        replace(grant, expires_at=min(grant.expires_at or turns_at, turns_at))
        if grant.starts_at < turns_at and ends_with_period(replace(grant, state="active"), turns_at, clear_bonus=clears)
        else grant
        for grant in grants
    ]


def _next_allowance(draft: Draft, unit: str) -> list[Grant]:
    """Return what the next period will bring, if it begins by itself: what rolls over, and what was not granted ahead."""
    account = draft.state.account
    if account.turns_at is None:
        return []
    to = next_turn(draft)
    amounts = {"rollover": sum(part for _, part in rollovers(draft).get(unit, ()))}
    granted = account.ahead.allowance.get(unit, 0) if account.ahead is not None else 0
    amounts["plan"] = max(0, to.terms.allowance.get(unit, 0) - granted)
    kinds: tuple[Literal["rollover", "plan"], ...] = ("rollover", "plan")
    return [
        Grant(
            id=f"~{kind}",
            kind=kind,
            unit=unit,
            priority=DEFAULT_PRIORITY[kind],
            starts_at=to.period.start,
            expires_at=to.period.end,
            ordinal=account.events,
            granted=amounts[kind],
            remaining=amounts[kind],
        )
        for kind in kinds
        if amounts[kind]
    ]
