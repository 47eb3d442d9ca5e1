"""What answers look like, as types: the views are plain dicts, and here is what a reader may rely on.

Nothing is encoded with these types. The OpenAPI document is made from them, and tests hold every answer of a running
service against it, with nothing missing and nothing untold. Amounts are integers in the unit's smallest step, instants
RFC 3339 in UTC; a `token` or `as_of` may be given as `min_token` to a later read.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from events.facts import Figures, GrantState, HoldState, Status
from events.recorded import (
    ConsumedEvent,
    Event,
    EventType,
    GrantedEvent,
    PlanChangedEvent,
    RefundedEvent,
    ReservedEvent,
)
from projections.admin_audit import Action

At = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Token = Annotated[str, Meta(pattern="^[0-9]+-[0-9]+$", description="`<partition>-<position>`")]
Tokens = Annotated[str, Meta(description="A token of each partition, with commas.")]
Decimal = Annotated[str, Meta(pattern="^[0-9]+([.][0-9]+)?$")]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Cursor = Annotated[str, Meta(description="Give it as `cursor` for the next page.")] | None
REF = "#/components/schemas/{name}"
EVENTS: dict[EventType, type[Event]] = {
    "granted": GrantedEvent,
    "reserved": ReservedEvent,
    "consumed": ConsumedEvent,
    "refunded": RefundedEvent,
    "plan_changed": PlanChangedEvent,
}
_EVENT_REFS = {name: REF.format(name=form.__name__) for name, form in EVENTS.items()}
_ONE_EVENT = {
    "anyOf": [{"$ref": ref} for ref in _EVENT_REFS.values()],
    "discriminator": {"propertyName": "type", "mapping": _EVENT_REFS},
}
AnyEvent = Annotated[Any, Meta(extra_json_schema=_ONE_EVENT)]


class Answer(Struct, kw_only=True):
    """Base of all answers: fields without a default are always there."""


class CostBasisView(Answer):
    """What was paid for a grant, and for how many credits where that is added up."""

    amount: int
    currency: str
    credits: int | UnsetType = UNSET


class ActorView(Answer):
    """Who acted."""

    id: str
    via: str
    on_behalf_of: str | UnsetType = UNSET


class CommandView(Answer):
    """The command that an event belongs to."""

    name: str
    idempotency_key: str | None
    fingerprint: str | None
    id: str | UnsetType = UNSET


class BalanceView(Answer):
    """The balance of one unit."""

    unit: str
    available: int
    reserved: int
    scoped: int
    scheduled: int
    bonus: int
    debt: int


class CapacityView(Answer):
    """What is occupied of a capacity; `limit` null is unlimited."""

    used: int
    limit: int | None


class LineView(Answer):
    """A line of a reservation."""

    line: int
    operation: str | None
    quantity: int | None
    amount: int
    held: int
    charged: int


class ReservationView(Answer):
    """A reservation; `amount` is all that was ever held by it."""

    id: str | None
    state: HoldState
    unit: str
    amount: int
    held: int
    charged: int
    unfunded: int
    occupies: dict[str, int]
    expires_at: At | None
    overage: Literal["draw", "reject", "cap"]
    reference: str | None
    metadata: dict[str, str]
    lines: list[LineView]
    created_at: At


class ConsumptionView(Answer):
    """Work that was charged."""

    id: str | None
    reservation_id: str | None
    operation: str | None
    quantity: int | None
    unit: str
    amount: int
    charged: int
    unfunded: int
    debt_added: int
    refunded: int
    reference: str | None
    metadata: dict[str, str]
    created_at: At


class GrantView(Answer):
    """A grant of credits."""

    id: str | None
    kind: str
    unit: str
    amount: int
    remaining: int
    held: int
    state: GrantState | Literal["drained"]
    priority: int
    starts_at: At
    expires_at: At | None
    operations: list[str] | None
    cost_basis: CostBasisView | None
    source_grant_id: str | None


class PendingView(Answer):
    """The change that waits for the next period."""

    plan: str
    effective_at: At
    allowance: dict[str, int]
    capacity: dict[str, int]


class QuotaView(Answer):
    """How much of the period's credits is used; beside a grant, as it leaves it."""

    unit: str
    credits_used: int
    credits_limit: int
    credits_remaining: int
    percentage: Annotated[int, Meta(ge=0, le=100)]


class PlanView(Answer):
    """The plan and its period."""

    plan: str | None
    period_start: At
    period_end: At
    pending: PendingView | None
    allowance: dict[str, int]
    capacity: dict[str, int]
    status: Status | UnsetType = UNSET


class DryEvent(Answer):
    """An event that would be written."""

    id: None
    type: EventType
    kind: str
    delta: dict[str, Figures]
    balance: dict[str, Figures]
    data: dict[str, Any]


class CommandAnswer(Answer):
    """What a command led to."""

    account: str
    replayed: bool
    token: Token
    events: Annotated[list[AnyEvent], Meta(min_length=1)]
    balance: BalanceView
    reservation: ReservationView | UnsetType = UNSET
    consumption: ConsumptionView | UnsetType = UNSET
    grant: GrantView | UnsetType = UNSET
    plan: PlanView | UnsetType = UNSET
    quota: QuotaView | UnsetType = UNSET


class DryAnswer(Answer):
    """What a command would lead to; `token` and new ids are null."""

    account: str
    replayed: bool
    dry_run: bool
    token: None
    events: list[DryEvent]
    balance: BalanceView
    reservation: ReservationView | UnsetType = UNSET
    consumption: ConsumptionView | UnsetType = UNSET
    grant: GrantView | UnsetType = UNSET
    plan: PlanView | UnsetType = UNSET
    quota: QuotaView | UnsetType = UNSET


class FreeAnswer(Answer):
    """A free operation writes nothing."""

    free: bool
    events: Annotated[list[DryEvent], Meta(max_length=0)]


class InProgress(Answer):
    """The command waits to be written."""

    account: str
    idempotency_key: str
    status: Literal["in_progress"]


class QuotaAnswer(QuotaView):
    """How much of the period's credits is used."""

    account: str
    allowance: dict[str, int]
    plan: str | None
    period_start: At
    period_end: At
    pending: PendingView | None
    next_renewal_at: At | None
    capacity: dict[str, CapacityView]
    as_of: At
    token: Token


class BalanceAnswer(BalanceView):
    """The balance of an account."""

    account: str
    plan: str | None
    capacity: dict[str, CapacityView]
    as_of: At
    token: Token


class AuditEntry(Answer):
    """What an admin did."""

    id: Token
    account: str
    action: Action
    actor: ActorView
    details: dict[str, Any]
    previous_value: dict[str, Any]
    new_value: dict[str, Any]
    reason: str | None
    reference: str | None
    created_at: At


class AccountView(Answer):
    """An account with all its balances."""

    account: str
    plan: str | None
    period_start: At
    period_end: At
    pending: PendingView | None
    next_renewal_at: At | None
    status: Status
    balances: dict[str, BalanceView]
    capacity: dict[str, CapacityView]
    opened_at: At
    as_of: At
    token: Token


class AccountAnswer(AccountView):
    """An account, with its quota and last admin entries when they are asked for."""

    quota: QuotaAnswer | UnsetType = UNSET
    audit: list[AuditEntry] | UnsetType = UNSET


class CheckAnswer(Answer):
    """Whether a reserve would pass; `reasons` are the codes that it would be refused with."""

    account: str
    allowed: bool
    unit: str
    cost: int
    available: int
    shortfall: int
    max_affordable: int | None
    reasons: list[str]
    earliest_affordable_at: At | None


class RateView(Answer):
    """The price of a thousand, and how many there were."""

    price: Decimal
    count: Any


class FactorView(Answer):
    """What a multiplier was given, and its factor."""

    value: Any
    factor: Decimal


class BreakdownView(Answer):
    """The price rule and what of it was applied."""

    catalog: str
    base: Decimal
    each: Decimal
    quantity: int
    per_1k: dict[str, RateView]
    multipliers: dict[str, FactorView]


class QuotedLine(Answer):
    """What one operation costs."""

    line: int
    operation: str
    quantity: int
    params: dict[str, int | str]
    free: bool
    cost: int
    occupies: dict[str, int]
    breakdown: BreakdownView | None


class QuoteAnswer(Answer):
    """What operations cost."""

    unit: str
    cost: int
    lines: list[QuotedLine]


class CatalogAnswer(Answer):
    """The catalog in force."""

    version: str
    hash: Hash
    default_plan: str | None
    units: dict[str, dict[str, Any]]
    capacities: list[str]
    plans: dict[str, dict[str, Any]]
    operations: dict[str, dict[str, Any]]
    packs: dict[str, dict[str, Any]]


class Problem(Answer):
    """What went wrong (RFC 9457), with the fields that help."""

    type: Annotated[str, Meta(pattern="^urn:credit-ledger:problem:")]
    title: str
    status: int
    code: str
    detail: str
    errors: list[ProblemPlace] | UnsetType = UNSET


class ProblemPlace(Answer):
    """A field, and what is wrong with it."""

    loc: list[str]
    msg: str


class BatchResult(Answer):
    """The answer of one command with its status, or its problem."""

    status: int
    problem: Problem | UnsetType = UNSET


class BatchAnswer(Answer):
    """The results of a batch, in its order."""

    results: list[BatchResult]
