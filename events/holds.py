"""Holds and consumptions: the items of an account that outnumber everything else (SEMANTICS.md sections 5 and 6).

They are kept beside the account's snapshot, one row each, so that the snapshot stays small however many there are. The
consumption of a hold's final step is part of the hold and shares its id; partial and direct consumptions stand alone.
"""

from __future__ import annotations

from typing import Literal

from events.facts import Allocation, HoldFigures, HoldState
from events.instants import Instant, plus
from events.pricing import PriceRule
from events.record import Record


class Consumption(Record, frozen=True, array_like=True, tag="consumption"):
    """Work that was charged. `amount = charged + unfunded`; `debt_added` is part of `charged`."""

    id: str
    reservation_id: str | None
    unit: str
    amount: int
    charged: int
    unfunded: int
    debt_added: int
    allocation: tuple[Allocation, ...]
    period: Instant
    created_at: Instant
    operation: str | None = None
    quantity: int | None = None
    refunded: int = 0
    """What was given back of `charged`: from the debt first, then the allocation from its end."""
    unfunded_returned: bool = False
    """Whether the unfunded part was taken off the usage, which the completing refund does."""
    reference: str | None = None
    metadata: dict[str, str] = {}
    ordinal: int = 0
    """How many events the account had before this consumption."""


def reversal(consumption: Consumption, amount: int) -> tuple[int, list[tuple[str, int]]]:
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


class HeldLine(Record, frozen=True, array_like=True):
    """One priced line of a hold: what it holds of which grants, in the order drawn."""

    amount: int
    held: int
    allocation: tuple[tuple[str, int], ...]
    charged: int = 0
    added: int = 0
    """What extends added to `amount`."""
    lapsed: int = 0
    """What it held when the hold expired, less what was done of it since."""
    operation: str | None = None
    quantity: int | None = None
    params: dict[str, int | str] = {}
    price: PriceRule | None = None


class Hold(Record, frozen=True, array_like=True, tag="hold"):
    """Credits set aside and capacity occupied. `amount` is all that was ever held by it."""

    id: str
    unit: str
    state: HoldState
    amount: int
    held: int
    occupies: dict[str, int]
    expires_at: Instant | None
    grace_seconds: int
    overage: Literal["draw", "reject", "cap"]
    lines: tuple[HeldLine, ...]
    created_at: Instant
    charged: int = 0
    unfunded: int = 0
    partials: int = 0
    """How many partial steps there were."""
    reference: str | None = None
    metadata: dict[str, str] = {}
    consumption: Consumption | None = None

    @property
    def due_at(self) -> Instant | None:
        """The instant at which an open hold expires for good: its end plus the grace."""
        if self.state != "open" or self.expires_at is None:
            return None
        return plus(self.expires_at, seconds=self.grace_seconds) if self.grace_seconds else self.expires_at

    def late_until(self, window_hours: int) -> Instant | None:
        """Return the instant from which work is no longer booked late, which follows the grace; None without an end."""
        if self.expires_at is None:
            return None
        return plus(self.expires_at, seconds=self.grace_seconds + window_hours * 3600)

    @property
    def lapsed(self) -> int:
        """What it held when it expired, less what was done of it since."""
        return sum(line.lapsed for line in self.lines)

    def figures(self) -> HoldFigures:
        """Return how the hold stands, as its events record it."""
        several = len(self.lines) > 1
        lines = [(line.held, line.charged) for line in self.lines] if several else []
        added = [line.added for line in self.lines] if several and any(line.added for line in self.lines) else []
        return HoldFigures(
            state=self.state,
            amount=self.amount,
            held=self.held,
            charged=self.charged,
            unfunded=self.unfunded,
            occupies=self.occupies,
            expires_at=self.expires_at,
            lines=lines,
            added=added,
        )
