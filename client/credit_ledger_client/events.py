"""Events, typed: the five things that can happen to an account, as the stream and the log have them.

    match event:
        case ConsumedEvent(data=data):
            print(event.account, data.charged)

Fields that a newer ledger adds are kept. `hash` is the SHA-256 of the line as it is stored, `prev_hash` that of the line
before it in the partition.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter
from pydantic_core import from_json

from credit_ledger_client.answers import View
from credit_ledger_client.errors import HistoryChanged


class Figures(View):
    """The balance of one unit, or the change of it."""

    available: int
    reserved: int
    debt: int
    scheduled: int
    scoped: int
    bonus: int


class Allocation(View):
    """One grant's part of an amount."""

    grant_id: str
    amount: int
    line: int = 0
    excess: bool = False


class Actor(View):
    """Who acted, by which transport, and for whom when that was said."""

    id: str
    via: str
    on_behalf_of: str | None = None


class CommandRef(View):
    """The command that the event belongs to; a due fact is the ledger's own, named `system`."""

    name: str
    idempotency_key: str | None
    fingerprint: str | None


class Granted(View):
    """Credits came to be, became usable, or ended: `amount` is negative for what ended or was taken."""

    grant_id: str | None
    unit: str
    amount: int
    starts_at: datetime
    expires_at: datetime | None
    operations: list[str] | None
    debt_repaid: int
    reference: str | None = None
    reason: str | None = None


class Reserved(View):
    """Credits were set aside and capacity occupied."""

    reservation_id: str
    unit: str
    amount: int
    allocation: list[Allocation]
    occupies: dict[str, int]
    expires_at: datetime | None
    overage: str
    lines: list[dict[str, Any]]
    reference: str | None = None
    metadata: dict[str, str] = {}


class Consumed(View):
    """Work was done: `actual = charged + unfunded`."""

    reservation_id: str | None
    consumption_id: str
    unit: str
    actual: int
    charged: int
    debt_added: int
    unfunded: int
    allocation: list[Allocation]
    operation: str | None
    quantity: int | None
    reference: str | None = None
    metadata: dict[str, str] = {}


class Refunded(View):
    """Credits came back, from a hold that ended or a consumption that was undone."""

    reservation_id: str | None
    consumption_id: str | None
    unit: str
    amount: int
    regranted: int
    usage: int
    debt_refunded: int
    debt_repaid: int
    reference: str | None = None
    reason: str | None = None


class PlanChanged(View):
    """The plan, the period, the limits or the status of the account changed."""

    from_: Annotated[str | None, Field(alias="from")]
    to: str | None
    period_start: datetime
    period_end: datetime
    allowance: dict[str, int]
    capacity: dict[str, int]
    reference: str | None = None
    reason: str | None = None
    status: str | None = None


class _Envelope(View):
    id: str
    partition: int
    position: int
    kind: str
    version: int
    account: str
    recorded_at: datetime
    effective_at: datetime
    actor: Actor
    command: CommandRef
    delta: dict[str, Figures]
    balance: dict[str, Figures]
    prev_hash: str
    hash: str


class GrantedEvent(_Envelope):
    """A recorded `granted`."""

    type: Literal["granted"]
    data: Granted


class ReservedEvent(_Envelope):
    """A recorded `reserved`."""

    type: Literal["reserved"]
    data: Reserved


class ConsumedEvent(_Envelope):
    """A recorded `consumed`."""

    type: Literal["consumed"]
    data: Consumed


class RefundedEvent(_Envelope):
    """A recorded `refunded`."""

    type: Literal["refunded"]
    data: Refunded


class PlanChangedEvent(_Envelope):
    """A recorded `plan_changed`."""

    type: Literal["plan_changed"]
    data: PlanChanged


Event = GrantedEvent | ReservedEvent | ConsumedEvent | RefundedEvent | PlanChangedEvent
"""Anything that happened."""

_events: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
_HASH = len(',"hash":"') + 64 + len('"}}')


class Carried(NamedTuple):
    """An event out of the stream, with the ledger that it is from."""

    event: Event
    source: str


def of_line(line: bytes) -> Event:
    """Return the event of a line of the log, with its hash; raises HistoryChanged for what is no event."""
    try:
        return _events.validate_json(b'%b,"hash":"%b"}' % (line[:-1], sha256(line).hexdigest().encode()))
    except ValueError as error:
        raise HistoryChanged(f"a line of the log is no event: {error}") from error


def of_cloud_event(body: bytes) -> Carried:
    """Return the event of a CloudEvent whose hash was recomputed; raises HistoryChanged for what is no event."""
    try:
        source = str(from_json(body)["source"])
        data = body[body.index(b'"data":') + len(b'"data":') : -1]
    except (ValueError, KeyError, TypeError) as error:
        raise HistoryChanged(f"a message of the stream is no event of a ledger: {error}") from error
    event = of_line(data[: 1 - _HASH] + b"}")
    if data[1 - _HASH :] != b',"hash":"%b"}' % event.hash.encode():
        raise HistoryChanged(f"event {event.id} is not what its hash stands for")
    return Carried(event, source)
