"""Events as they stand in the log: a fact with its place, its author and its link in the chain.

An event is one line of RFC 8785 canonical JSON; its hash is the SHA-256 of the line, and the next line of the partition
carries it as `prev_hash` (CONTRACT.md, "Events as stored, exported and hashed"). The line is stored as written and
never encoded again. All our text keys are ASCII and all our numbers are integers, so sorting keys is all that RFC 8785
asks beyond plain JSON; a test holds the encoder against an independent implementation.
"""

from __future__ import annotations

from hashlib import sha256

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
    Record,
    Refunded,
    RefundedKind,
    Reserved,
    ReservedKind,
)
from events.instants import Instant

GENESIS = "0" * 64
"""The `prev_hash` of the first line of a partition."""


class Actor(Record, frozen=True):
    """Who acted: the token's or calling service's name, the transport, and for whom when that was said."""

    id: str
    via: str
    on_behalf_of: str | None = None


class CommandRef(Record, frozen=True):
    """The command that an event belongs to. A due fact has the name `system` and a natural id instead of a key."""

    name: str
    idempotency_key: str | None
    fingerprint: str | None
    id: str | None = None


SYSTEM = Actor(id="system", via="ledger")


class _Envelope(Record, frozen=True):
    id: str
    partition: int
    position: int
    version: int
    account: str
    recorded_at: Instant
    effective_at: Instant
    actor: Actor
    command: CommandRef
    delta: dict[str, Figures]
    balance: dict[str, Figures]
    prev_hash: str


class GrantedEvent(_Envelope, frozen=True, tag_field="type", tag="granted"):
    """A recorded `granted`."""

    kind: GrantedKind
    data: Granted


class ReservedEvent(_Envelope, frozen=True, tag_field="type", tag="reserved"):
    """A recorded `reserved`."""

    kind: ReservedKind
    data: Reserved


class ConsumedEvent(_Envelope, frozen=True, tag_field="type", tag="consumed"):
    """A recorded `consumed`."""

    kind: ConsumedKind
    data: Consumed


class RefundedEvent(_Envelope, frozen=True, tag_field="type", tag="refunded"):
    """A recorded `refunded`."""

    kind: RefundedKind
    data: Refunded


class PlanChangedEvent(_Envelope, frozen=True, tag_field="type", tag="plan_changed"):
    """A recorded `plan_changed`."""

    kind: PlanChangedKind
    data: PlanChanged


Event = GrantedEvent | ReservedEvent | ConsumedEvent | RefundedEvent | PlanChangedEvent

_EVENT_OF: dict[type[Data], type[Event]] = {
    Granted: GrantedEvent,
    Reserved: ReservedEvent,
    Consumed: ConsumedEvent,
    Refunded: RefundedEvent,
    PlanChanged: PlanChangedEvent,
}
TYPE_OF: dict[type[Data], str] = {
    Granted: "granted",
    Reserved: "reserved",
    Consumed: "consumed",
    Refunded: "refunded",
    PlanChanged: "plan_changed",
}
"""The event type of each kind of data."""

_encoder = msgspec.json.Encoder(order="sorted")
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


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
    line = _encoder.encode(event)
    return Line(event, line, sha256(line).hexdigest())


decode = _decoder.decode
"""Return the event that a line of the log stands for; raises msgspec.ValidationError for anything else."""
