"""The five event types: what can happen to an account, as plain frozen data (SEMANTICS.md section 2).

Everything the ledger ever does to a balance is one of `Granted`, `Reserved`, `Consumed`, `Refunded` or `PlanChanged`,
refined by a kind. The structs here are the `data` of an event, exactly as CONTRACT.md names its fields. They are
self-contained: they say which grants paid how much, with which price and which plan, so that a replay never computes
anything anew and works when the catalog is gone.

A `Fact` is such data with its kind and the balance it leads to, decided but not yet written. `events.recorded` turns a
fact into an event of the log by giving it a position.

Amounts are integers in the unit's smallest step; instants are canonical UTC text (`events.instants`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from events.instants import Instant
from events.pricing import PriceRule
from events.record import Record

FIGURE_MAX = 2**53 - 1
"""The largest figure that any balance, amount or counter may have (SEMANTICS.md section 1)."""


class Figures(Record, frozen=True):
    """The balance of one unit, or the change of it: in events both stand beside each other."""

    available: int
    bonus: int
    debt: int
    reserved: int
    scheduled: int
    scoped: int


class Allocation(Record, frozen=True, kw_only=True):
    """One grant's part of an amount, in the order drawn; `excess` marks what was drawn beyond the hold."""

    amount: int
    excess: bool = False
    grant_id: str
    line: int = 0


class CostBasis(Record, frozen=True):
    """What was paid for a grant: an amount in the currency's smallest step, and the currency's code."""

    amount: int
    currency: str


HoldState = Literal["open", "settled", "released", "expired", "settled_late"]
GrantState = Literal["scheduled", "active", "expired", "revoked"]
Status = Literal["active", "frozen", "closed"]
"""What an account may be (SEMANTICS.md section 7)."""


class HoldFigures(Record, frozen=True, kw_only=True):
    """How a reservation stands after the event, so that its answer can be rebuilt from the event alone."""

    added: list[int] = []
    """What extends added to each line, when the hold has more than one and there was any."""
    amount: int
    charged: int
    expires_at: Instant | None
    held: int
    lines: list[tuple[int, int]] = []
    """Held and charged of each line, when the hold has more than one."""
    occupies: dict[str, int]
    state: HoldState
    unfunded: int


class GrantFigures(Record, frozen=True):
    """How a grant stands after it was revoked, so that the answer can be rebuilt from the event alone."""

    amount: int
    held: int
    kind: str
    remaining: int
    state: GrantState


class UsageFigures(Record, frozen=True):
    """What the present period has seen of a unit when it was granted, so that the answer can tell the quota."""

    charged: int
    used: int


class ReservedLine(Record, frozen=True, kw_only=True):
    """One operation of a hold. The price rule stands here when the hold has several lines, else on the event."""

    amount: int
    operation: str
    params: dict[str, int | str] = {}
    price: PriceRule | None = None
    quantity: int


class ConsumedLine(Record, frozen=True):
    """What one line of a step came to: `amount` is the work done, `charged` the part that was paid."""

    amount: int
    charged: int
    line: int
    operation: str | None = None
    params: dict[str, int | str] = {}
    price: PriceRule | None = None
    quantity: int | None = None


class Policies(Record, frozen=True):
    """The rules of a plan as an account keeps them, so that a plan that left the catalog lives on."""

    clear_bonus: bool
    interval: str
    late_window_hours: int
    low_balance_percent: int
    max_open_holds: int
    overdraft_limit: int
    rank: int
    renewal: Literal["auto", "external"]
    renewal_grace_days: int
    rollover_cap: int
    rollover_share: str
    trial_credits: int
    trial_expires_days: int | None


class Limits(Record, frozen=True):
    """Allowances by unit and capacity limits by name."""

    allowance: dict[str, int] = {}
    capacity: dict[str, int] = {}


class Terms(Record, frozen=True):
    """A plan as an account is on it or will be: its rules, its own limits, and those that override them by name."""

    catalog: str
    limits: Limits
    overrides: Limits
    plan: str
    policies: Policies

    @property
    def allowance(self) -> dict[str, int]:
        """The allowance of a period, by unit."""
        return {**self.limits.allowance, **self.overrides.allowance}

    @property
    def capacity(self) -> dict[str, int]:
        """The capacity limits, by name."""
        return {**self.limits.capacity, **self.overrides.capacity}


class Payment(Record, frozen=True):
    """That a period was paid, and by which payment when that is known."""

    period_start: Instant
    reference: str | None


class Granted(Record, frozen=True, kw_only=True):
    """Credits came to be, became usable, or ended: `amount` is negative for `expired` and `revoked`.

    An `adjustment` with a negative amount is not a grant: its `grant_id` is None, and `allocation` says which grants gave
    how much; what they could not give is `debt_added`.
    """

    allocation: list[Allocation]
    amount: int
    cost_basis: CostBasis | None
    debt_added: int = 0
    debt_repaid: int
    expires_at: Instant | None
    grant: GrantFigures | None = None
    grant_id: str | None
    operations: list[str] | None
    period: Instant | None = None
    """Start of the period whose allowance this is; only on grants of kind `plan`."""
    priority: int
    reason: str | None = None
    reference: str | None = None
    repaid: list[Allocation] = []
    source_grant_id: str | None
    starts_at: Instant
    take_back: Literal["change", "reclaim"] | None = None
    """That a `revoked` event takes back a part of the present period's allowance: at once, or as it was reclaimed."""
    unit: str
    usage: UsageFigures | None = None
    """Only on what a `grant` gave."""


class Reserved(Record, frozen=True, kw_only=True):
    """Credits were set aside and capacity was occupied for work that has not ended.

    Of an `extend`, `amount` and `allocation` are what is held more, `occupies` and `expires_at` are as they are now.
    """

    allocation: list[Allocation]
    amount: int
    expires_at: Instant | None
    grace_seconds: int
    hold: HoldFigures | None = None
    lines: list[ReservedLine]
    metadata: dict[str, str] = {}
    occupied: dict[str, int] | None = None
    """What the hold occupied before, when an `extend` changed that."""
    occupies: dict[str, int]
    overage: Literal["draw", "reject", "cap"]
    price: PriceRule | None
    reference: str | None = None
    reservation_id: str
    unit: str


class Consumed(Record, frozen=True, kw_only=True):
    """Work was done: `actual = charged + unfunded`, and `debt_added` is part of `charged`."""

    actual: int
    allocation: list[Allocation]
    charged: int
    consumption_id: str
    debt_added: int
    hold: HoldFigures | None = None
    lines: list[ConsumedLine] = []
    metadata: dict[str, str] = {}
    operation: str | None
    params: dict[str, int | str] = {}
    """What the step named beside its quantity, and its price was found with; a step that names none has its hold's."""
    period: Instant
    price: PriceRule | None
    quantity: int | None
    reference: str | None = None
    reservation_id: str | None
    reserved: int
    unfunded: int
    unit: str


class Refunded(Record, frozen=True, kw_only=True):
    """Credits came back, from a hold that ended or from a consumption that was undone."""

    allocation: list[Allocation]
    amount: int
    consumption_id: str | None
    debt_refunded: int
    debt_repaid: int
    hold: HoldFigures | None = None
    reason: str | None = None
    reclaimed: list[Allocation] = []
    """What a plan change had reclaimed of that, and is revoked in this very event because the account has debt."""
    reference: str | None = None
    """The reference of the hold or consumption that this undoes."""
    refunded: int = 0
    """All that was refunded of the consumption, this refund included."""
    regranted: int
    repaid: list[Allocation] = []
    reservation_id: str | None
    unit: str
    usage: int


AuditValue = str | int | bool | None | dict[str, int | None]
"""What an audit entry shows of a plan, limits or a status."""


class PlanChanged(Record, frozen=True, kw_only=True):
    """The plan, the period, the limits or the status of the account changed."""

    ahead: dict[str, int] | None = None
    """The allowance that was granted for the next period, when that is the one that was paid."""
    allowance: dict[str, int]
    anchor: Instant
    begins: bool = False
    """That a period begins with this change, which a renewal and an opening always do."""
    capacity: dict[str, int]
    catalog: str
    from_: str | None = msgspec.field(name="from")
    new_value: dict[str, AuditValue]
    overrides: Limits = Limits()
    """The limits that override the plan's own."""
    own: Limits | None = None
    """The plan's own limits, when some are overridden."""
    payment: Payment | None = None
    """Which period counts as paid from here on, and by what."""
    pending: Terms | None = None
    """What the account will be on from the next period."""
    period_end: Instant
    period_start: Instant
    policies: Policies
    previous_value: dict[str, AuditValue]
    reason: str | None = None
    reclaim: dict[str, int]
    reference: str | None = None
    rolled_over: dict[str, int]
    status: Status | None = None
    """The account's status from here on; None: as it was."""
    to: str | None


Data = Granted | Reserved | Consumed | Refunded | PlanChanged

GrantedKind = Literal[
    "plan",
    "trial",
    "promo",
    "purchase",
    "rollover",
    "refund_regrant",
    "adjustment",
    "activated",
    "expired",
    "revoked",
]
ReservedKind = Literal["hold", "extend"]
ConsumedKind = Literal["settle", "partial", "direct", "late"]
RefundedKind = Literal["release", "hold_expired", "consumption", "usage_reset"]
PlanChangedKind = Literal["opened", "changed", "scheduled", "cancelled", "renewed", "limits", "status", "unchanged"]
Kind = GrantedKind | ReservedKind | ConsumedKind | RefundedKind | PlanChangedKind


class Fact(msgspec.Struct, frozen=True, gc=False):
    """Something that is decided and not yet written: data and kind, with the balance after it and the change to it.

    `effective_at` is None when the fact holds from the instant of recording. `system_id` is the natural id of a due
    fact, and None for the facts of a command.
    """

    kind: Kind
    data: Data
    delta: dict[str, Figures]
    balance: dict[str, Figures]
    effective_at: Instant | None = None
    system_id: str | None = None
