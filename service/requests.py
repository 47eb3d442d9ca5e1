"""What enters the ledger and what leaves it: a command with its key and author, and the events it led to."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from events.account import State
from events.commands import Command
from events.facts import Fact
from events.payments import Paid
from events.recorded import Actor, Line


class Request(msgspec.Struct, frozen=True, gc=False):
    """One command of a caller.

    `fingerprint` is the SHA-256 of the canonical command in hex: the same key with another fingerprint is another
    command (SEMANTICS.md section 8). A dry run needs no key.
    """

    command: Command
    key: str
    fingerprint: str
    actor: Actor
    dry_run: bool = False

    @property
    def digest(self) -> bytes:
        """What the log's unique index holds of the key: 16 bytes over account and key."""
        return key_digest(self.command.account, self.key)


def key_digest(account: str, key: str) -> bytes:
    """Return the 16 bytes by which the log finds a key: no account id contains a NUL, so the pair is unambiguous."""
    return sha256(f"{account}\0{key}".encode()).digest()[:16]


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What a command led to: the lines it wrote, and the items that its answer shows.

    `state` holds at least the hold or consumption that the events are about. A free operation has no lines. A dry run
    has `facts` instead of lines. `counted` is a payment that was counted before, whose first outcome is still to be found.
    """

    account: str
    lines: tuple[Line, ...]
    state: State
    replayed: bool = False
    free: bool = False
    facts: tuple[Fact, ...] | None = None
    counted: Paid | None = None

    @property
    def keyless(self) -> bool:
        """Whether nothing was written, so that the key stays free."""
        return self.free or self.counted is not None
