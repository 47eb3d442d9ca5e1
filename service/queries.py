"""What can be asked: one frozen dataclass for each query, validated as strictly as commands are.

The fields of a query string and those of a NATS body are the same; only `account` stands in the path over HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import ConfigDict, Field, TypeAdapter

from events.commands import Amount, Id, Lines, Name, Occupies, Params, Quantity, When
from events.facts import (
    ConsumedKind,
    GrantedKind,
    GrantState,
    HoldState,
    PlanChangedKind,
    RefundedKind,
    ReservedKind,
)

Token = Annotated[str, Field(pattern=r"\A[0-9]{1,4}-[0-9]{1,18}\z")]
Tokens = Annotated[str, Field(pattern=r"\A[0-9]{1,4}-[0-9]{1,18}(,[0-9]{1,4}-[0-9]{1,18}){0,1023}\z")]
"""A token of each of several partitions."""
Bucket = Literal["hour", "day", "month"]
GroupBy = Annotated[str, Field(pattern=r"\A((operation|actor)(,(operation|actor))?)?\z")]
Limit = Annotated[int, Field(ge=1, le=500)]
Days = Annotated[int, Field(ge=1, le=366)]
Cursor = Annotated[str, Field(min_length=1, max_length=200)]
Order = Literal["asc", "desc"]
Text = Annotated[str, Field(min_length=1, max_length=200)]


def _check_ask(operation: object, quantity: object, params: object, amount: object, lines: object) -> None:
    if sum(form is not None for form in (operation, amount, lines)) != 1:
        raise ValueError("give exactly one of operation, amount, lines")
    if operation is None and (quantity is not None or params is not None):
        raise ValueError("quantity and params go with operation")


@dataclass(frozen=True, kw_only=True)
class _Strict:
    """What every query is."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, kw_only=True)
class _OfAccount(_Strict):
    account: Id
    min_token: Token | None = None


@dataclass(frozen=True, kw_only=True)
class _InRange(_Strict):
    from_: Annotated[When | None, Field(alias="from")] = None
    to: When | None = None


@dataclass(frozen=True, kw_only=True)
class _OfAll(_InRange):
    unit: Name | None = None
    min_token: Tokens | None = None


@dataclass(frozen=True, kw_only=True)
class _Page(_Strict):
    order: Order = "desc"
    limit: Limit = 50
    cursor: Cursor | None = None


@dataclass(frozen=True, kw_only=True)
class BalanceQuery(_OfAccount):
    """The balance of one unit, now or at a past instant."""

    unit: Name | None = None
    at: When | None = None


@dataclass(frozen=True, kw_only=True)
class AccountQuery(_OfAccount):
    """An account with all its balances."""

    include: Annotated[str, Field(pattern=r"\A((quota|audit)(,(quota|audit))*)?\z")] | None = None


@dataclass(frozen=True, kw_only=True)
class QuotaQuery(_OfAccount):
    """How much of the period's credits is used."""

    unit: Name | None = None


@dataclass(frozen=True, kw_only=True)
class CheckQuery(_OfAccount):
    """Whether a reserve would pass, and what would help if not."""

    operation: Name | None = None
    quantity: Quantity | None = None
    params: Params | None = None
    amount: Amount | None = None
    unit: Name | None = None
    lines: Lines | None = None
    capacity: Occupies | None = None

    def __post_init__(self) -> None:
        amount = 0 if self.amount is None and self._is_of_capacity else self.amount
        _check_ask(self.operation, self.quantity, self.params, amount, self.lines)

    @property
    def _is_of_capacity(self) -> bool:
        """Whether only room is asked for, as for a hold of no credits."""
        return self.capacity is not None and self.operation is None and self.lines is None


@dataclass(frozen=True, kw_only=True)
class QuoteQuery(_Strict):
    """What operations would cost, for nobody in particular."""

    operation: Name | None = None
    quantity: Quantity | None = None
    params: Params | None = None
    lines: Lines | None = None

    def __post_init__(self) -> None:
        _check_ask(self.operation, self.quantity, self.params, None, self.lines)


@dataclass(frozen=True, kw_only=True)
class OutcomeQuery(_OfAccount):
    """What a key led to."""

    idempotency_key: Annotated[str, Field(pattern=r"\A[\x20-\x7e]{1,200}\z")]
    submitted_seconds_ago: Annotated[int, Field(ge=0, le=604_800)] | None = None
    """Of a durable command: then what it was refused with is looked for as well."""


@dataclass(frozen=True, kw_only=True)
class ReservationsQuery(_OfAccount, _Page):
    """A page of an account's reservations."""

    state: HoldState | None = None


@dataclass(frozen=True, kw_only=True)
class ConsumptionsQuery(_OfAccount, _Page):
    """A page of an account's consumptions."""


@dataclass(frozen=True, kw_only=True)
class GrantsQuery(_OfAccount, _Page):
    """A page of an account's grants; one without credits that goes on is `drained`."""

    state: Literal[GrantState, "drained"] | None = None


@dataclass(frozen=True, kw_only=True)
class TransactionsQuery(_OfAccount, _InRange, _Page):
    """A page of an account's events."""

    type: Literal["granted", "reserved", "consumed", "refunded", "plan_changed"] | None = None
    kind: Literal[GrantedKind, ReservedKind, ConsumedKind, RefundedKind, PlanChangedKind] | None = None
    operation: Name | None = None
    reservation: Id | None = None
    reference: Text | None = None


@dataclass(frozen=True, kw_only=True)
class ExplainQuery(_OfAccount):
    """Why an event of an account is as it is."""

    event: Token


@dataclass(frozen=True, kw_only=True)
class AuditQuery(_OfAccount, _InRange, _Page):
    """A page of what admins did to an account."""


@dataclass(frozen=True, kw_only=True)
class StatementQuery(_OfAccount, _InRange):
    """What moved in an account from one instant to another, with the balance before and after; signed and proven on demand."""

    unit: Name | None = None
    limit: Limit = 500
    cursor: Cursor | None = None
    proof: bool = False


@dataclass(frozen=True, kw_only=True)
class UsageQuery(_OfAccount, _InRange):
    """The work of an account by time, and by operation and actor when that is asked for."""

    unit: Name | None = None
    bucket: Bucket = "day"
    group_by: GroupBy | None = None


@dataclass(frozen=True, kw_only=True)
class UsageOfAllQuery(_OfAll):
    """The work of all accounts by time, and by operation and actor when that is asked for."""

    bucket: Bucket = "day"
    group_by: GroupBy | None = None


@dataclass(frozen=True, kw_only=True)
class FinanceQuery(_OfAll):
    """Where the credits of all accounts came from and went, from one instant to another."""


@dataclass(frozen=True, kw_only=True)
class AccountsQuery(_Page):
    """A page of the list of accounts."""

    plan: Name | None = None
    prefix: Id | None = None
    min_token: Tokens | None = None


@dataclass(frozen=True, kw_only=True)
class ForecastQuery(_OfAccount):
    """When an account runs out and what expires unused, at the pace of its last days."""

    unit: Name | None = None
    days: Days = 90
    pace_days: Days = 30


@dataclass(frozen=True, kw_only=True)
class ReserveHintsQuery(_OfAll):
    """How what was settled compares with what was reserved, by operation."""


@dataclass(frozen=True, kw_only=True)
class HoldLeaksQuery(_OfAll):
    """Holds that expired unsettled, and open holds without an end that are older than `age_seconds`."""

    age_seconds: Annotated[int, Field(ge=0, le=10**9)] = 86_400
    limit: Limit = 50


@dataclass(frozen=True, kw_only=True)
class CatalogQuery(_Strict):
    """The catalog in force."""


Query = (
    BalanceQuery
    | AccountQuery
    | QuotaQuery
    | CheckQuery
    | QuoteQuery
    | OutcomeQuery
    | ReservationsQuery
    | ConsumptionsQuery
    | GrantsQuery
    | TransactionsQuery
    | ExplainQuery
    | AuditQuery
    | StatementQuery
    | UsageQuery
    | UsageOfAllQuery
    | FinanceQuery
    | AccountsQuery
    | ForecastQuery
    | ReserveHintsQuery
    | HoldLeaksQuery
    | CatalogQuery
)

QUERIES: dict[str, type[Query]] = {
    "balance": BalanceQuery,
    "account": AccountQuery,
    "quota": QuotaQuery,
    "check": CheckQuery,
    "quote": QuoteQuery,
    "outcome": OutcomeQuery,
    "reservations": ReservationsQuery,
    "consumptions": ConsumptionsQuery,
    "grants": GrantsQuery,
    "transactions": TransactionsQuery,
    "explain": ExplainQuery,
    "audit": AuditQuery,
    "statement": StatementQuery,
    "usage": UsageQuery,
    "usage_of_all": UsageOfAllQuery,
    "finance_summary": FinanceQuery,
    "accounts": AccountsQuery,
    "forecast": ForecastQuery,
    "reserve_hints": ReserveHintsQuery,
    "hold_leaks": HoldLeaksQuery,
    "catalog": CatalogQuery,
}

_ADAPTERS: dict[type[Query], TypeAdapter[Any]] = {form: TypeAdapter(form) for form in set(QUERIES.values())}


def parse_query(name: str, fields: dict[str, object]) -> Query:
    """Return the query `name` with these fields; raises pydantic.ValidationError, and KeyError for an unknown name."""
    return _ADAPTERS[QUERIES[name]].validate_json(orjson.dumps(fields))
