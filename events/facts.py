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

FIGURE_MAX = 2**53 - 1
"""The largest figure that any balance, amount or counter may have (SEMANTICS.md section 1)."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False):
    """Base of all stored data: immutable, no unknown fields; fields without a default are always written."""


class Figures(Record, frozen=True):
    """The balance of one unit, or the change of it: in events both stand beside each other."""

    available: int
    reserved: int
    debt: int
    scheduled: int
    scoped: int
    bonus: int


class Allocation(Record, frozen=True):
    """One grant's part of an amount, in the order drawn; `excess` marks what was drawn beyond the hold."""

    grant_id: str
    amount: int
    line: int = 0
    excess: bool = False


class CostBasis(Record, frozen=True):
    """What was paid for a grant: an amount in the currency's smallest step, and the currency's code."""

    amount: int
    currency: str


HoldState = Literal["open", "settled", "released", "expired", "settled_late"]
GrantState = Literal["scheduled", "active", "expired", "revoked"]
Status = Literal["active", "frozen", "closed"]
"""What an account may be (SEMANTICS.md section 7)."""


class HoldFigures(Record, frozen=True):
    """How a reservation stands after the event, so that its answer can be rebuilt from the event alone."""

    state: HoldState
    amount: int
    held: int
    charged: int
    unfunded: int
    occupies: dict[str, int]
    expires_at: Instant | None
    lines: list[tuple[int, int]] = []
    """Held and charged of each line, when the hold has more than one."""
    added: list[int] = []
    """What extends added to each line, when the hold has more than one and there was any."""


class GrantFigures(Record, frozen=True):
    """How a grant stands after it was revoked, so that the answer can be rebuilt from the event alone."""

    kind: str
    amount: int
    remaining: int
    held: int
    state: GrantState


class ReservedLine(Record, frozen=True):
    """One operation of a hold. The price rule stands here when the hold has several lines, else on the event."""

    operation: str
    quantity: int
    amount: int
    params: dict[str, int | str] = {}
    price: PriceRule | None = None


class ConsumedLine(Record, frozen=True):
    """What one line of a step came to: `amount` is the work done, `charged` the part that was paid."""

    line: int
    amount: int
    charged: int
    operation: str | None = None
    quantity: int | None = None
    price: PriceRule | None = None
    params: dict[str, int | str] = {}


class Policies(Record, frozen=True):
    """The rules of a plan as an account keeps them, so that a plan that left the catalog lives on."""

    rank: int
    interval: str
    renewal: Literal["auto", "external"]
    trial_credits: int
    trial_expires_days: int | None
    rollover_share: str
    rollover_cap: int
    clear_bonus: bool
    overdraft_limit: int
    max_open_holds: int
    low_balance_percent: int
    renewal_grace_days: int
    late_window_hours: int


class Limits(Record, frozen=True):
    """Allowances by unit and capacity limits by name."""

    allowance: dict[str, int] = {}
    capacity: dict[str, int] = {}


class Terms(Record, frozen=True):
    """A plan as an account is on it or will be: its rules, its own limits, and those that override them by name."""

    plan: str
    policies: Policies
    limits: Limits
    overrides: Limits
    catalog: str

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

    reference: str | None
    period_start: Instant


class Granted(Record, frozen=True):
    """Credits came to be, became usable, or ended: `amount` is negative for `expired` and `revoked`.

    An `adjustment` with a negative amount is not a grant: its `grant_id` is None, and `allocation` says which grants gave
    how much; what they could not give is `debt_added`.
    """

    grant_id: str | None
    unit: str
    amount: int
    priority: int
    starts_at: Instant
    expires_at: Instant | None
    operations: list[str] | None
    cost_basis: CostBasis | None
    source_grant_id: str | None
    debt_repaid: int
    allocation: list[Allocation]
    repaid: list[Allocation] = []
    reference: str | None = None
    reason: str | None = None
    debt_added: int = 0
    period: Instant | None = None
    """Start of the period whose allowance this is; only on grants of kind `plan`."""
    take_back: Literal["change", "reclaim"] | None = None
    """That a `revoked` event takes back a part of the present period's allowance: at once, or as it was reclaimed."""
    grant: GrantFigures | None = None


class Reserved(Record, frozen=True):
    """Credits were set aside and capacity was occupied for work that has not ended.

    Of an `extend`, `amount` and `allocation` are what is held more, `occupies` and `expires_at` are as they are now.
    """

    reservation_id: str
    unit: str
    amount: int
    allocation: list[Allocation]
    occupies: dict[str, int]
    expires_at: Instant | None
    grace_seconds: int
    overage: Literal["draw", "reject", "cap"]
    lines: list[ReservedLine]
    price: PriceRule | None
    reference: str | None = None
    metadata: dict[str, str] = {}
    hold: HoldFigures | None = None
    occupied: dict[str, int] | None = None
    """What the hold occupied before, when an `extend` changed that."""


class Consumed(Record, frozen=True):
    """Work was done: `actual = charged + unfunded`, and `debt_added` is part of `charged`."""

    reservation_id: str | None
    consumption_id: str
    unit: str
    reserved: int
    actual: int
    charged: int
    debt_added: int
    unfunded: int
    allocation: list[Allocation]
    operation: str | None
    quantity: int | None
    price: PriceRule | None
    period: Instant
    lines: list[ConsumedLine] = []
    reference: str | None = None
    metadata: dict[str, str] = {}
    params: dict[str, int | str] = {}
    """What the step named beside its quantity, and its price was found with; a step that names none has its hold's."""
    hold: HoldFigures | None = None


class Refunded(Record, frozen=True):
    """Credits came back, from a hold that ended or from a consumption that was undone."""

    reservation_id: str | None
    consumption_id: str | None
    unit: str
    amount: int
    regranted: int
    usage: int
    allocation: list[Allocation]
    debt_refunded: int
    debt_repaid: int
    repaid: list[Allocation] = []
    reference: str | None = None
    """The reference of the hold or consumption that this undoes."""
    reason: str | None = None
    refunded: int = 0
    """All that was refunded of the consumption, this refund included."""
    reclaimed: list[Allocation] = []
    """What a plan change had reclaimed of that, and is revoked in this very event because the account has debt."""
    hold: HoldFigures | None = None


AuditValue = str | int | bool | None | dict[str, int | None]
"""What an audit entry shows of a plan, limits or a status."""


class PlanChanged(Record, frozen=True):
    """The plan, the period, the limits or the status of the account changed."""

    from_: str | None = msgspec.field(name="from")
    to: str | None
    period_start: Instant
    period_end: Instant
    anchor: Instant
    allowance: dict[str, int]
    capacity: dict[str, int]
    policies: Policies
    catalog: str
    rolled_over: dict[str, int]
    reclaim: dict[str, int]
    previous_value: dict[str, AuditValue]
    new_value: dict[str, AuditValue]
    reference: str | None = None
    reason: str | None = None
    status: Status | None = None
    """The account's status from here on; None: as it was."""
    begins: bool = False
    """That a period begins with this change, which a renewal and an opening always do."""
    overrides: Limits = Limits()
    """The limits that override the plan's own."""
    own: Limits | None = None
    """The plan's own limits, when some are overridden."""
    pending: Terms | None = None
    """What the account will be on from the next period."""
    payment: Payment | None = None
    """Which period counts as paid from here on, and by what."""
    ahead: dict[str, int] | None = None
    """The allowance that was granted for the next period, when that is the one that was paid."""


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
