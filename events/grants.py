"""Grants, and the one function that draws from them (SEMANTICS.md section 4).

A grant is a bucket of credits of one unit. Its counters always satisfy

    granted + returned = consumed + adjusted + repaid + rolled_over + expired + revoked + remaining + held

An account keeps its grants in draw order, so drawing is a walk from the front. Every purpose (holds, direct consumption,
excess over a hold, repayment of debt) draws with `draw`, and so in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from events.facts import Allocation, CostBasis, GrantedKind, GrantState
from events.instants import Instant
from events.record import Record

LIVE_GRANTS_MAX = 256
"""How many scheduled or active grants an account may have."""

DEFAULT_PRIORITY: dict[str, int] = {
    "rollover": 10,
    "refund_regrant": 10,
    "plan": 20,
    "trial": 30,
    "promo": 30,
    "adjustment": 40,
    "purchase": 50,
}
BONUS_KINDS = frozenset({"trial", "promo", "rollover", "refund_regrant", "adjustment"})
"""Kinds whose general credits count as `bonus`."""

_NEVER = "~"  # sorts after every instant


class Grant(Record, frozen=True, array_like=True, tag="grant"):
    """One bucket of credits. `remaining` may be drawn, `held` belongs to holds that have not ended."""

    id: str
    kind: GrantedKind
    unit: str
    priority: int
    starts_at: Instant
    ordinal: int
    """How many events the account had before this grant: the last tie-breaker of the draw order."""
    granted: int
    expires_at: Instant | None = None
    operations: tuple[str, ...] | None = None
    cost_basis: CostBasis | None = None
    source_grant_id: str | None = None
    period: Instant | None = None
    """Start of the period whose allowance this is; only on grants of kind `plan`."""
    state: GrantState = "active"
    remaining: int = 0
    held: int = 0
    returned: int = 0
    consumed: int = 0
    adjusted: int = 0
    repaid: int = 0
    rolled_over: int = 0
    expired: int = 0
    revoked: int = 0

    def usable_for(self, unit: str, operation: str | None) -> bool:
        """Say whether `operation` may draw from this grant; without an operation only general grants may be drawn."""
        if self.state != "active" or self.unit != unit:
            return False
        return self.operations is None or (operation is not None and operation in self.operations)

    @property
    def live(self) -> bool:
        """Whether the grant counts against the limit of live grants and must be kept in the account's snapshot."""
        return self.remaining > 0 or self.held > 0 or self.state == "scheduled"


def draw_order(grant: Grant) -> tuple[int, str, bool, bool, str, int]:
    """Return the sort key of the total order in which grants are drawn (SEMANTICS.md section 4)."""
    return (
        grant.priority,
        grant.expires_at or _NEVER,
        grant.operations is None,
        grant.kind == "purchase",
        grant.starts_at,
        grant.ordinal,
    )


def draw(
    grants: Iterable[Grant],
    unit: str,
    amount: int,
    operation: str | None = None,
    *,
    taken: Mapping[str, int] | None = None,
) -> tuple[list[tuple[str, int]], int]:
    """Take up to `amount` of `unit` from `grants`, which stand in draw order.

    `taken` says what is already spoken for by grant id (negative: what is about to come back to it). Returns the parts
    as (grant id, amount) in the order drawn, and what could not be covered.
    """
    parts: list[tuple[str, int]] = []
    missing = amount
    if missing <= 0:
        return parts, 0
    for grant in grants:
        if not grant.usable_for(unit, operation):
            continue
        left = grant.remaining - taken.get(grant.id, 0) if taken else grant.remaining
        if left <= 0:
            continue
        part = left if left < missing else missing
        parts.append((grant.id, part))
        missing -= part
        if missing == 0:
            break
    return parts, missing


class Drawing:
    """Several draws from the same grants, each of which finds what those before it left, however many there are."""

    def __init__(self, grants: Iterable[Grant], unit: str, *, taken: Mapping[str, int] | None = None) -> None:
        """Begin with grants in draw order; `taken` says what is spoken for of them, by grant id."""
        self._grants = tuple(grants)
        self._unit = unit
        self._taken = dict(taken or {})
        self._usable: dict[str | None, deque[Grant]] = {}

    def take(self, amount: int, operation: str | None = None) -> tuple[list[tuple[str, int]], int]:
        """Draw the next amount for an operation; returns the same as `draw`."""
        usable = self._usable.get(operation)
        if usable is None:
            usable = deque(grant for grant in self._grants if grant.usable_for(self._unit, operation))
            self._usable[operation] = usable
        while usable and usable[0].remaining <= self._taken.get(usable[0].id, 0):
            usable.popleft()  # so that no later draw passes over what an earlier one emptied
        parts, missing = draw(usable, self._unit, amount, operation, taken=self._taken)
        for grant_id, part in parts:
            self._taken[grant_id] = self._taken.get(grant_id, 0) + part
        return parts, missing


def allocations(parts: Iterable[tuple[str, int]], *, line: int = 0, excess: bool = False) -> list[Allocation]:
    """Return drawn parts as they stand in an event."""
    return [Allocation(grant_id=grant_id, amount=amount, line=line, excess=excess) for grant_id, amount in parts]


def by_grant(entries: Iterable[Allocation]) -> dict[str, int]:
    """Return the sum of `entries` for each grant, in the order in which the grants first appear."""
    sums: dict[str, int] = {}
    for entry in entries:
        sums[entry.grant_id] = sums.get(entry.grant_id, 0) + entry.amount
    return sums
