"""What pages of lists, the history and statements look like, as types (see `answers`)."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType, field

from events.facts import Figures
from events.recorded import EventType
from service.openapi.answers import (
    AccountView,
    ActorView,
    Answer,
    At,
    AuditEntry,
    BalanceView,
    CommandView,
    ConsumptionView,
    Cursor,
    GrantView,
    Hash,
    ReservationView,
    Token,
    Tokens,
)


class AccountsAnswer(Answer):
    """A page of accounts."""

    accounts: list[AccountView]
    next_cursor: Cursor
    as_of: Tokens


class ReservationsAnswer(Answer):
    """A page of reservations."""

    reservations: list[ReservationView]
    next_cursor: Cursor
    as_of: Token


class ConsumptionsAnswer(Answer):
    """A page of consumptions."""

    consumptions: list[ConsumptionView]
    next_cursor: Cursor
    as_of: Token


class GrantsAnswer(Answer):
    """A page of grants."""

    grants: list[GrantView]
    next_cursor: Cursor
    as_of: Token


class Transaction(Answer):
    """An event with what moved; `balance` is after it, by unit."""

    id: Token
    type: EventType
    kind: str
    recorded_at: At
    effective_at: At
    unit: str
    amount: int
    delta: dict[str, Figures]
    balance: dict[str, Figures]
    operation: str | None
    reservation_id: str | None
    consumption_id: str | None
    grant_id: str | None
    reference: str | None
    reason: str | None
    metadata: dict[str, str]
    actor: ActorView
    command: CommandView
    hash: Hash


class TransactionsAnswer(Answer):
    """A page of the history."""

    transactions: list[Transaction]
    next_cursor: Cursor
    as_of: Token


class AuditAnswer(Answer):
    """A page of what admins did."""

    entries: list[AuditEntry]
    next_cursor: Cursor
    as_of: Token


class ExplainAnswer(Answer):
    """Why an event is as it is."""

    account: str
    event: Transaction
    because: str
    due: dict[str, Any] | None
    price: list[dict[str, Any]]
    grants: list[dict[str, Any]]
    reservation: ReservationView | None
    balance: dict[str, dict[str, BalanceView | None]]
    capacity: dict[str, dict[str, int | None]]
    plan: dict[str, Any]


class Movement(Answer):
    """A row of a statement; a due fact that is not written yet has no `event`."""

    event: Token | None
    at: At
    recorded_at: At | None
    type: EventType
    kind: str
    amount: int
    delta: BalanceView
    balance: BalanceView
    operation: str | None
    reservation_id: str | None
    consumption_id: str | None
    grant_id: str | None
    reference: str | None
    reason: str | None
    actor: str
    line: str | UnsetType = UNSET
    leaf_index: int | UnsetType = UNSET
    proof: list[str] | UnsetType = UNSET


class ProvenEvent(Answer):
    """An event with its line, and the proof that a checkpoint has it."""

    event: Token
    line: str
    leaf_index: int
    proof: list[str]


class StatementAnswer(Answer):
    """`opening` and the deltas of all `movements` add up to `closing`; signed and proven with `proof`."""

    account: str
    unit: str
    from_: At | None = field(name="from")
    to: At | None
    opening: BalanceView
    movements: list[Movement]
    closing: BalanceView
    next_cursor: Cursor
    as_of: Token
    cursor: Cursor | UnsetType = UNSET
    opening_event: ProvenEvent | UnsetType | None = UNSET
    partition: int | UnsetType = UNSET
    checkpoint: str | UnsetType = UNSET
    note: str | UnsetType = UNSET
