"""What is appended to the log, and what may come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from events.instants import Instant


class Head(NamedTuple):
    """Where a partition ends: the position and hash (hex) of its last line, and the latest instant recorded."""

    position: int
    hash: str
    recorded_at: Instant


class EventRow(NamedTuple):
    """One line to append, with the columns that find it again."""

    account: str
    type: str
    kind: str
    key: bytes | None
    line: bytes
    hash: bytes


class AccountRow(NamedTuple):
    """The snapshot of an account after the batch."""

    account: str
    position: int
    state: bytes
    due_at: Instant | None


class ItemRow(NamedTuple):
    """A hold, consumption or ended grant after the batch."""

    account: str
    kind: str
    id: str
    due_at: Instant | None
    state: bytes
    created: bool


@dataclass(slots=True)
class Batch:
    """What is appended at once; `absent_keys` are the keys of refused commands, looked up on the way."""

    partition: int
    head: Head
    recorded_at: Instant
    events: list[EventRow] = field(default_factory=list[EventRow])
    accounts: list[AccountRow] = field(default_factory=list[AccountRow])
    items: list[ItemRow] = field(default_factory=list[ItemRow])
    absent_keys: list[bytes] = field(default_factory=list[bytes])


@dataclass(frozen=True, slots=True)
class Written:
    """The batch is in the log; `known` are those of its absent keys that the log has after all."""

    known: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Stale:
    """The head is another one; nothing was written by this call."""


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """Some keys of the batch are in the log already; nothing was written."""

    keys: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class KnownItems:
    """An item that the batch creates exists already; nothing was written."""


Appended = Written | Stale | KnownKeys | KnownItems
"""What an append may lead to."""
