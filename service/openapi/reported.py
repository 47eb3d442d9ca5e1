"""What sums and reports look like, as types (see `answers`)."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType, field

from service.openapi.answers import Answer, At, BalanceView, CostBasisView, Decimal, Token, Tokens


class WorkView(Answer):
    """Work added up; `net` is `used - refunded`."""

    count: int
    used: int
    charged: int
    unfunded: int
    refunded: int
    net: int


class UsageGroup(WorkView):
    """Work by what it was grouped by."""

    operation: str | UnsetType | None = UNSET
    actor: str | UnsetType | None = UNSET


class UsagePoint(UsageGroup, kw_only=True):
    """Work of a span of time."""

    start: At


class UsageOfAllAnswer(Answer):
    """Work by time, and by operation and actor when that is asked for; `net` is `used - refunded`."""

    unit: str
    from_: At | None = field(name="from")
    to: At | None
    bucket: Literal["hour", "day", "month"]
    group_by: list[Literal["operation", "actor"]]
    series: list[UsagePoint]
    groups: list[UsageGroup]
    totals: WorkView
    as_of: Tokens


class UsageAnswer(UsageOfAllAnswer):
    """The work of an account."""

    account: str


class FinanceRow(Answer):
    """Movements of grants of one kind and cost basis."""

    kind: str
    cost_basis: CostBasisView | None
    opening: int
    granted: int
    consumed: int
    refunded: int
    expired: int
    revoked: int
    closing: int


class FinanceAnswer(Answer):
    """opening + granted - consumed + refunded - expired - revoked = closing, in total and in each row."""

    unit: str
    from_: At | None = field(name="from")
    to: At | None
    opening: int
    granted: int
    consumed: int
    refunded: int
    expired: int
    revoked: int
    closing: int
    debt: int
    unfunded: int
    rows: list[FinanceRow]
    as_of: Tokens


class OperationPace(Answer):
    """The work of one operation."""

    operation: str | None
    used: int
    per_day: Decimal


class PaceView(Answer):
    """The work of the last days, by which the forecast goes on."""

    from_: At = field(name="from")
    to: At
    used: int
    per_day: Decimal
    operations: list[OperationPace]


class ExpiringView(Answer):
    """What will end unused; `grant_id` is null for a grant that does not exist yet."""

    grant_id: str | None
    kind: str | None
    at: At
    amount: int


class ForecastAnswer(BalanceView):
    """What is to be expected until `until`; `run_out_at` is null when nothing runs out by then."""

    account: str
    plan: str | None
    pace: PaceView
    run_out_at: At | None
    next_renewal_at: At | None
    expiring: list[ExpiringView]
    until: At
    as_of: At
    token: Token


class PercentilesView(Answer):
    """What so many of a hundred came to at most, in percent."""

    p10: int
    p50: int
    p90: int
    p95: int
    p99: int


class HintView(Answer):
    """What holds of an operation came to, in percent of what was reserved; `suggested_percent` would cover 95 of 100."""

    operation: str | None
    holds: int
    reserved: int
    settled: int
    settled_percent: int
    above: int
    percentiles: PercentilesView
    suggested_percent: int


class ReserveHintsAnswer(Answer):
    """How what was settled compares with what was reserved."""

    unit: str
    from_: At | None = field(name="from")
    to: At | None
    operations: list[HintView]
    as_of: Tokens


class ExpiredView(Answer):
    """Holds that expired, those of them that were settled late, the credits that came back, and how long they were held."""

    expired: int
    settled_late: int
    unsettled: int
    amount: int
    seconds: int


class LeakView(ExpiredView):
    """What expired of an operation and actor, beside what was made."""

    operation: str | None
    actor: str
    made: int
    made_amount: int


class AccountLeakView(ExpiredView):
    """What expired in an account."""

    account: str


class EndlessView(Answer):
    """An open hold without an end."""

    account: str
    reservation_id: str
    operation: str | None
    actor: str
    occupies: dict[str, int]
    created_at: At
    age_seconds: int


class HoldLeaksAnswer(Answer):
    """Holds that expired unsettled, and the oldest that have no end."""

    unit: str
    from_: At | None = field(name="from")
    to: At | None
    operations: list[LeakView]
    accounts: list[AccountLeakView]
    without_end: list[EndlessView]
    as_of: Tokens
