"""The optional fields of each command and query, as keyword arguments of the facade (CONTRACT.md, "HTTP, JSON").

What is None is left out, but for a `ttl_seconds` that is given: None asks for a hold without an end. An instant is an
aware datetime, or RFC 3339 text with an offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict

Instant = datetime | str
Params = Mapping[str, int | str]
"""Counts as integers or decimal strings, and the names of multipliers' values."""


class Line(TypedDict, total=False):
    """One operation of several."""

    operation: str
    quantity: int | None
    params: Params | None


class LineCharge(TypedDict, total=False):
    """What a step charges to one line of a hold: `line` is its index."""

    line: int
    amount: int | None
    quantity: int | None
    params: Params | None


class Cost(TypedDict):
    """What was paid for a grant, in the currency's smallest step."""

    amount: int
    currency: str


class Sending(TypedDict, total=False):
    """What every command takes beside its own fields.

    `key` is the idempotency key; without one a new one is made. `within` is how many seconds the call may take in all.
    The ledger refuses the command after `deadline`.
    """

    key: str
    within: float
    deadline: Instant | None
    dry_run: bool


class Priced(TypedDict, total=False):
    """What is to be paid for: an operation, or one of these."""

    params: Params | None
    amount: int | None
    unit: str | None
    lines: Sequence[Line] | None


class Held(Priced, total=False):
    """What a hold of it is like; without `ttl_seconds` it is the operation's, and None is a hold without an end."""

    occupies: Mapping[str, int] | None
    reservation_id: str | None
    ttl_seconds: int | None
    overage: Literal["draw", "reject", "cap"] | None
    reference: str | None
    metadata: Mapping[str, str] | None


class ReserveFields(Held, Sending, total=False):
    """The fields of `reserve`."""


class Charge(TypedDict, total=False):
    """What a step of a hold charges: at most one of them; none is all that is still held."""

    amount: int | None
    quantity: int | None
    params: Params | None
    lines: Sequence[LineCharge] | None


class SettleFields(Charge, Sending, total=False):
    """The fields of a `consume` on a reservation."""

    final: bool


class ConsumeFields(Priced, Sending, total=False):
    """The fields of a direct `consume`."""

    consumption_id: str | None
    reference: str | None
    metadata: Mapping[str, str] | None


class ReleaseFields(Sending, total=False):
    """The fields of `release`."""

    reason: str | None


class ExtendFields(Sending, total=False):
    """The fields of `extend`."""

    ttl_seconds: int | None
    amount: int | None
    occupies: Mapping[str, int] | None


class RefundFields(Sending, total=False):
    """The fields of `refund`."""

    amount: int | None
    reason: str | None


class GrantFields(Sending, total=False):
    """The fields of `grant`."""

    kind: Literal["promo", "purchase", "trial"] | None
    unit: str | None
    priority: int | None
    effective_at: Instant | None
    expires_at: Instant | None
    operations: Sequence[str] | None
    reason: str | None
    reference: str | None
    cost_basis: Cost | None
    grant_id: str | None


class AdjustFields(Sending, total=False):
    """The fields of `adjust`."""

    unit: str | None
    insufficient: Literal["reject", "clamp", "debt"] | None
    reference: str | None


class ChangePlanFields(Sending, total=False):
    """The fields of `change_plan`; a limit of None is the plan's own again."""

    when: Literal["now", "next_period"] | None
    mode: Literal["carry_usage", "reset"] | None
    allowance: Mapping[str, int | None] | None
    capacity: Mapping[str, int | None] | None
    reference: str | None
    reason: str | None


class RenewFields(Sending, total=False):
    """The fields of `renew`."""

    period_start: Instant | None


class ResetUsageFields(Sending, total=False):
    """The fields of `reset_usage`."""

    unit: str | None


class Fresh(TypedDict, total=False):
    """What every read takes: the token that it is to include, and how many seconds the call may take in all."""

    min_token: str | None
    within: float


class BalanceFields(Fresh, total=False):
    """The fields of `balance`; `at` is a past instant."""

    unit: str | None
    at: Instant | None


class QuotaFields(Fresh, total=False):
    """The fields of `quota`."""

    unit: str | None


class CheckFields(Priced, Fresh, total=False):
    """The fields of `check`."""

    capacity: Mapping[str, int] | None


class PageFields(Fresh, total=False):
    """The fields of a list."""

    order: Literal["asc", "desc"] | None
    limit: int | None
    cursor: str | None


class ItemFields(PageFields, total=False):
    """The fields of a list of items."""

    state: str | None


class RangeFields(PageFields, total=False):
    """The fields of a list over time; `since` inclusive, `until` exclusive."""

    since: Instant | None
    until: Instant | None


class TransactionsFields(RangeFields, total=False):
    """The fields of `transactions`."""

    type: str | None
    kind: str | None
    operation: str | None
    reservation: str | None
    reference: str | None


class UsageFields(Fresh, total=False):
    """The fields of `usage`; `group_by` names operation, actor, or both with a comma."""

    unit: str | None
    since: Instant | None
    until: Instant | None
    bucket: Literal["hour", "day", "month"] | None
    group_by: str | None


class FinanceFields(Fresh, total=False):
    """The fields of `finance_summary`."""

    unit: str | None
    since: Instant | None
    until: Instant | None


class StatementFields(Fresh, total=False):
    """The fields of `statement`."""

    unit: str | None
    since: Instant | None
    until: Instant | None
    limit: int | None
    cursor: str | None


class AccountsFields(PageFields, total=False):
    """The fields of the list of accounts."""

    plan: str | None
    prefix: str | None


_INSTANTS = frozenset({"at", "deadline", "effective_at", "expires_at", "period_start", "since", "until"})
_RENAMED = {"since": "from", "until": "to"}
SENDING = frozenset({"key", "within", "dry_run"})


def wire(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields as they are sent: without those that are None or are no fields of the body.

    Raises ValueError for a datetime without a time zone, which names no instant.
    """
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name in SENDING or (value is None and name != "ttl_seconds"):
            continue
        fields[_RENAMED.get(name, name)] = instant(value) if value and name in _INSTANTS else value
    if isinstance(fields.get("lines"), list | tuple):
        fields["lines"] = [
            {name: value for name, value in line.items() if value is not None} for line in fields["lines"]
        ]
    return fields


def instant(value: Instant) -> str:
    """Return an instant as RFC 3339 text in UTC; raises ValueError for a datetime without a time zone."""
    if isinstance(value, str):
        return value
    if value.utcoffset() is None:
        raise ValueError("a datetime without a time zone names no instant: use datetime.now(UTC)")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
