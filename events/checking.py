"""`check`: would a reserve pass now, and what would help if not (CONTRACT.md, FEATURES.md A1, D3, X6).

It asks the same questions as `reserve`, on the same state, and collects every answer instead of stopping at the first.
An unknown account is answered as if it were opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from events import affordability, steps
from events.draft import Draft
from events.errors import Refusal
from events.instants import Instant
from events.plans import ensure_open, require_active
from events.quoting import Priced, quote


class Asked(Priced, Protocol):
    """What is to be checked: what a reserve would name."""

    @property
    def amount(self) -> int | None:
        """Credits of `unit`."""
        ...

    @property
    def unit(self) -> str | None:
        """The unit of `amount`."""
        ...

    @property
    def capacity(self) -> dict[str, int] | None:
        """What is to be occupied beside what the operations occupy."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a reserve would pass; `reasons` are the codes that it would be refused with."""

    allowed: bool
    unit: str
    cost: int
    available: int
    shortfall: int
    max_affordable: int | None
    reasons: tuple[str, ...]
    earliest_affordable_at: Instant | None


def check(draft: Draft, asked: Asked) -> Verdict:
    """Judge what a reserve would; raises Refusal only for what makes no sense to ask."""
    priced = quote(draft.catalog, asked, amount=asked.amount, unit=asked.unit)
    if not priced.free or draft.catalog.default_plan is not None:
        ensure_open(draft)
    if priced.free:
        return Verdict(
            allowed=True,
            unit=priced.unit,
            cost=0,
            available=affordability.available(draft, priced),
            shortfall=0,
            max_affordable=None,
            reasons=(),
            earliest_affordable_at=draft.now,
        )
    occupies = steps.occupied_by(draft, priced, asked.capacity)
    guards: tuple[Callable[[], None], ...] = (
        lambda: require_active(draft.state.account),
        lambda: steps.require_slot(draft),
        lambda: steps.require_room(draft, occupies),
    )
    reasons: list[str] = []
    for guard in guards:
        try:
            guard()
        except Refusal as refusal:
            reasons.append(refusal.code)
    _, missing = steps.cover(draft, priced)
    if missing:
        reasons.append(draft.catalog.insufficient_credits_code)
    return Verdict(
        allowed=not reasons,
        unit=priced.unit,
        cost=priced.total,
        available=affordability.available(draft, priced),
        shortfall=missing,
        max_affordable=affordability.max_affordable(draft, priced),
        reasons=tuple(reasons),
        earliest_affordable_at=affordability.earliest_affordable_at(draft, priced) if missing else draft.now,
    )
