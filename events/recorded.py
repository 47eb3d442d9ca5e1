"""Events as they stand in the log: a fact with its place, its author and its link in the chain.

An event is one line of RFC 8785 canonical JSON; its hash is the SHA-256 of the line, and the next line of the partition
carries it as `prev_hash` (CONTRACT.md, "Events as stored, exported and hashed"). The line is stored as written and
never encoded again. All our text keys are ASCII and all our numbers are integers, so sorting keys is all that RFC 8785
asks beyond plain JSON; a test holds the encoder against an independent implementation.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Generic, Literal, TypeVar

import msgspec

from events.facts import (
    Consumed,
    ConsumedKind,
    Data,
    Fact,
    Figures,
    Granted,
    GrantedKind,
    PlanChanged,
    PlanChangedKind,
    Refunded,
    RefundedKind,
    Reserved,
    ReservedKind,
)
from events.instants import Instant
from events.record import Record

GENESIS = "0" * 64
"""The `prev_hash` of the first line of a partition."""


class Actor(Record, frozen=True, kw_only=True):
    """Who acted: the token's or calling service's name, the transport, and for whom when that was said."""

    id: str
    on_behalf_of: str | None = None
    via: str


class CommandRef(Record, frozen=True, kw_only=True):
    """The command that an event belongs to. A due fact has the name `system` and a natural id instead of a key."""

    fingerprint: str | None
    id: str | None = None
    idempotency_key: str | None
    name: str


SYSTEM = Actor(id="system", via="ledger")


EventType = Literal["granted", "reserved", "consumed", "refunded", "plan_changed"]

Type = TypeVar("Type")
KindOf = TypeVar("KindOf")
DataOf = TypeVar("DataOf")


class _Envelope(Record, Generic[Type, KindOf, DataOf], frozen=True):
    account: str
    actor: Actor
    balance: dict[str, Figures]
    command: CommandRef
    data: DataOf
    delta: dict[str, Figures]
    effective_at: Instant
    id: str
    kind: KindOf
    partition: int
    position: int
    prev_hash: str
    recorded_at: Instant
    type: Type
    version: int


class GrantedEvent(_Envelope[Literal["granted"], GrantedKind, Granted], frozen=True):
    """A recorded `granted`."""


class ReservedEvent(_Envelope[Literal["reserved"], ReservedKind, Reserved], frozen=True):
    """A recorded `reserved`."""


class ConsumedEvent(_Envelope[Literal["consumed"], ConsumedKind, Consumed], frozen=True):
    """A recorded `consumed`."""


class RefundedEvent(_Envelope[Literal["refunded"], RefundedKind, Refunded], frozen=True):
    """A recorded `refunded`."""


class PlanChangedEvent(_Envelope[Literal["plan_changed"], PlanChangedKind, PlanChanged], frozen=True):
    """A recorded `plan_changed`."""


Event = GrantedEvent | ReservedEvent | ConsumedEvent | RefundedEvent | PlanChangedEvent

_EVENT_OF: dict[type[Data], type[Event]] = {
    Granted: GrantedEvent,
    Reserved: ReservedEvent,
    Consumed: ConsumedEvent,
    Refunded: RefundedEvent,
    PlanChanged: PlanChangedEvent,
}
TYPE_OF: dict[type[Data], EventType] = {
    Granted: "granted",
    Reserved: "reserved",
    Consumed: "consumed",
    Refunded: "refunded",
    PlanChanged: "plan_changed",
}
"""The event type of each kind of data."""

encode = msgspec.json.Encoder(order="deterministic").encode
"""Return the line of an event; only the keys of its objects are left to be sorted (`events.record`)."""


class _Typed(msgspec.Struct):
    type: EventType


_decode_type = msgspec.json.Decoder(_Typed).decode
_decode_as = {TYPE_OF[data]: msgspec.json.Decoder[Event](event).decode for data, event in _EVENT_OF.items()}
_ENDS = slice(-22, -14)
"""The last 8 bytes before `","version":1}`, which ends a line in canonical form; they tell its type."""
_decode_by_end = {f'"type":"{name}'.encode()[-8:]: decode for name, decode in _decode_as.items()}


def decode(line: bytes) -> Event:
    """Return the event that a line of the log stands for; raises msgspec.ValidationError for anything else."""
    decode_it = _decode_by_end.get(line[_ENDS])
    return _decode_as[_decode_type(line).type](line) if decode_it is None else decode_it(line)


class Line(msgspec.Struct, frozen=True, gc=False):
    """An event with the bytes that stand for it in the log and their hash (64 lower-case hex digits)."""

    event: Event
    line: bytes
    hash: str


def record(
    fact: Fact,
    *,
    account: str,
    partition: int,
    position: int,
    prev_hash: str,
    recorded_at: Instant,
    actor: Actor,
    command: CommandRef,
) -> Line:
    """Return the line that puts `fact` at `position` of `partition`, right behind the line of hash `prev_hash`."""
    event = _EVENT_OF[type(fact.data)](
        id=f"{partition}-{position}",
        partition=partition,
        position=position,
        type=TYPE_OF[type(fact.data)],  # type: ignore[arg-type]  # looked up by the data's type, as the event
        kind=fact.kind,  # type: ignore[arg-type]  # the kind belongs to the data's type, which decide guarantees
        version=1,
        account=account,
        recorded_at=recorded_at,
        effective_at=fact.effective_at or recorded_at,
        actor=actor,
        command=command,
        delta=fact.delta,
        balance=fact.balance,
        data=fact.data,  # type: ignore[arg-type]  # looked up by its type one line above
        prev_hash=prev_hash,
    )
    line = encode(event)
    return Line(event, line, sha256(line).hexdigest())
