"""What the ledger answers, typed. Fields that a newer ledger adds are kept, so a client need not follow every release.

Amounts are integers in the unit's smallest step; instants are aware datetimes in UTC. A token names a place in the log;
given as `min_token`, a read waits until it includes it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Balance(View):
    """The balance of one unit."""

    unit: str
    available: int
    reserved: int
    scoped: int
    scheduled: int
    bonus: int
    debt: int


class Room(View):
    """What is occupied of a capacity, and the plan's limit (None: unlimited)."""

    used: int
    limit: int | None


class HeldLine(View):
    """One line of a reservation."""

    line: int
    operation: str | None = None
    quantity: int | None = None
    amount: int
    held: int
    charged: int


class Reservation(View):
    """A hold; `amount` is all that was ever held by it. The id is None in a dry run."""

    id: str | None
    state: str
    unit: str
    amount: int
    held: int
    charged: int
    unfunded: int
    occupies: dict[str, int]
    expires_at: datetime | None
    overage: str
    reference: str | None
    metadata: dict[str, str]
    lines: list[HeldLine]
    created_at: datetime


class Consumption(View):
    """Work that was charged: `amount = charged + unfunded`, and `debt_added` is part of `charged`."""

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
    created_at: datetime


class Grant(View):
    """A bucket of credits."""

    id: str | None
    unit: str
    kind: str
    amount: int
    remaining: int
    held: int
    state: str
    priority: int
    starts_at: datetime
    expires_at: datetime | None
    operations: list[str] | None
    source_grant_id: str | None


class Pending(View):
    """A change of plan that waits for the next period."""

    plan: str
    effective_at: datetime
    allowance: dict[str, int]
    capacity: dict[str, int]


class Plan(View):
    """The plan of an account as a command left it."""

    plan: str | None
    period_start: datetime
    period_end: datetime
    pending: Pending | None
    allowance: dict[str, int]
    capacity: dict[str, int]


class QuotaLeft(View):
    """How much of the period's credits is used, as a grant left it."""

    unit: str
    credits_used: int
    credits_limit: int
    credits_remaining: int
    percentage: int


class Answer(View):
    """What a command led to. Of a free operation only `free` and `events`, which is empty, say something."""

    account: str = ""
    replayed: bool = False
    dry_run: bool = False
    free: bool = False
    token: str | None = None
    events: list[dict[str, Any]] = []
    reservation: Reservation | None = None
    consumption: Consumption | None = None
    grant: Grant | None = None
    plan: Plan | None = None
    balance: Balance | None = None
    quota: QuotaLeft | None = None


class AccountBalance(Balance):
    """The balance of an account at an instant."""

    account: str
    plan: str | None
    capacity: dict[str, Room]
    as_of: datetime
    token: str


class Quota(View):
    """How much of the period's credits is used."""

    account: str
    unit: str
    credits_used: int
    credits_limit: int
    credits_remaining: int
    percentage: int
    allowance: dict[str, int]
    plan: str | None
    period_start: datetime
    period_end: datetime
    pending: Pending | None
    next_renewal_at: datetime | None
    capacity: dict[str, Room]
    as_of: datetime
    token: str


class Account(View):
    """An account; with `include=` also its quota and its last audit entries."""

    account: str
    plan: str | None
    period_start: datetime
    period_end: datetime
    pending: Pending | None
    next_renewal_at: datetime | None
    status: str
    balances: dict[str, Balance]
    capacity: dict[str, Room]
    opened_at: datetime
    as_of: datetime
    token: str
    quota: Quota | None = None
    audit: list[dict[str, Any]] | None = None


class Verdict(View):
    """Whether a reserve would pass; `reasons` are the codes that it would be refused with."""

    account: str
    allowed: bool
    unit: str
    cost: int
    available: int
    shortfall: int
    max_affordable: int | None
    reasons: list[str]
    earliest_affordable_at: datetime | None


class QuotedLine(View):
    """What one line costs, with its breakdown."""

    line: int
    operation: str
    quantity: int
    free: bool
    cost: int


class Quote(View):
    """What operations cost."""

    unit: str
    cost: int
    lines: list[QuotedLine]


class Page(View):
    """A page of a list: its entries as the ledger names them, and where the next page begins."""

    as_of: str | None = None
    next_cursor: str | None = None


class Reservations(Page):
    """A page of reservations."""

    reservations: list[Reservation]


class Consumptions(Page):
    """A page of consumptions."""

    consumptions: list[Consumption]


class Grants(Page):
    """A page of grants."""

    grants: list[Grant]


class Transactions(Page):
    """A page of events as an account's history shows them."""

    transactions: list[dict[str, Any]]


class Audit(Page):
    """A page of what admins did."""

    entries: list[dict[str, Any]]


class Usage(View):
    """Work by time, and by operation and actor when that is asked for."""

    series: list[dict[str, Any]]
    totals: dict[str, Any] | list[dict[str, Any]]


class Statement(Page):
    """What moved in an account, with the balance before and after."""

    opening: dict[str, Any]
    movements: list[dict[str, Any]]
    closing: dict[str, Any]


class Accounts(Page):
    """A page of the list of accounts."""

    accounts: list[Account]


class Catalog(View):
    """The catalog in force."""

    version: str
    hash: str
    default_plan: str | None
    units: dict[str, Any]
    capacities: list[str]
    plans: dict[str, dict[str, Any]]
    operations: dict[str, dict[str, Any]]
    packs: dict[str, dict[str, Any]]
