"""Holds and consumptions: the items of an account that outnumber everything else (SEMANTICS.md sections 5 and 6).

They are kept beside the account's snapshot, one row each, so that the snapshot stays small however many there are. The
consumption of a hold's final step is part of the hold and shares its id; partial and direct consumptions stand alone.
"""

from __future__ import annotations

from typing import Literal

from events.facts import Allocation, HoldFigures, Record
from events.instants import Instant, plus
from events.pricing import PriceRule

LATE_WINDOW_HOURS = 72
"""For how long after its expiry a hold can still be settled, unless the plan says otherwise."""


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


class HeldLine(Record, frozen=True, array_like=True):
    """One priced line of a hold: what it holds of which grants, in the order drawn."""

    amount: int
    held: int
    allocation: tuple[tuple[str, int], ...]
    charged: int = 0
    operation: str | None = None
    quantity: int | None = None
    params: dict[str, int | str] = {}
    price: PriceRule | None = None


class Hold(Record, frozen=True, array_like=True, tag="hold"):
    """Credits set aside and capacity occupied. `amount` is all that was ever held by it."""

    id: str
    unit: str
    state: Literal["open", "settled", "released", "expired"]
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

    def figures(self) -> HoldFigures:
        """Return how the hold stands, as its events record it."""
        lines = [(line.held, line.charged) for line in self.lines] if len(self.lines) > 1 else []
        return HoldFigures(
            state=self.state,
            amount=self.amount,
            held=self.held,
            charged=self.charged,
            unfunded=self.unfunded,
            occupies=self.occupies,
            expires_at=self.expires_at,
            lines=lines,
        )
