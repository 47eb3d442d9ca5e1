"""The verifier of one partition: takes its lines one by one and stops at the first that is wrong.

It believes nothing but the bytes of the lines. Each must be an event in canonical form at its place, linked to the one
before it; and what it says must follow from all before it: the replay's balances are those the event tells, and the
identities of SEMANTICS.md section 3 hold after it. What else is kept about the partition (hashes, columns, head,
snapshots) is compared with what the lines come to.

A broken link has two ends. The line behind it tells which one was changed: it vouches for the line before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple, NoReturn

import msgspec

from events.account import Account, Key
from events.facts import Consumed, Reserved
from events.instants import Instant
from events.merkle import Frontier, leaf_hash
from events.partition import partition_of
from events.recorded import GENESIS, Event, decode, encode
from service.auditing.faults import Code, Fault, Faulty
from service.auditing.identities import broken_identity, wrong_balance
from service.auditing.memory import States
from service.auditing.oddities import oddity


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a partition came to: how many events, the hash of the last line, the Merkle root, and the first fault."""

    partition: int
    events: int
    accounts: int
    hash: str
    root: str
    fault: Fault | None = None


class Mark(NamedTuple):
    """What a signed checkpoint says of a partition: its size, and the Merkle root at that size."""

    size: int
    root: bytes


class Verifier:
    """Checks one partition, line by line; `partitions` is how many the ledger has, when that is known."""

    def __init__(
        self, partition: int, states: States, *, partitions: int | None = None, marks: Iterable[Mark] = ()
    ) -> None:
        self.partition = partition
        self.states = states
        self.position = 0
        self.hash = GENESIS
        self._prefix = f"{partition}-"
        self.tree = Frontier()
        self.recorded_at = Instant("")
        self._partitions = partitions
        self._marks = sorted((mark for mark in marks if mark.size), reverse=True)
        self._suspicion: Fault | None = None
        self._suspect_hash = ""
        self._event: Event | None = None
        self.holds_end: dict[str, Instant] = {}
        """When the first of an account's open holds ends; known when all is finished."""

    def result(self, fault: Fault | None) -> Verified:
        """Return what the lines so far came to."""
        return Verified(
            partition=self.partition,
            events=self.position,
            accounts=self.states.accounts,
            hash=self.hash,
            root=self.tree.root().hex(),
            fault=fault,
        )

    @property
    def suspects(self) -> bool:
        """Whether a broken link was met, of which the next line, or the end, says which end was changed."""
        return self._suspicion is not None

    def take(self, line: bytes, digest: bytes | None = None) -> Event:
        """Check the next line; `digest` is its SHA-256, if that is known. Raises Faulty at the first that is wrong."""
        try:
            event = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._settle_suspicion(None)
            self.refuse("not_an_event", oddity(line) or f"the line is no event: {error}")
        if self._suspicion is not None:
            self._settle_suspicion(event.prev_hash)
        position = self.position + 1
        if event.id != self._prefix + str(position) or event.position != position or event.partition != self.partition:
            self._refuse_place(event)
        if encode(event) != line:
            told = oddity(line) or "the line is not the canonical JSON of the event that it holds"
            self.refuse("not_canonical", told, event)
        recorded_at = event.recorded_at
        if recorded_at < self.recorded_at or event.effective_at > recorded_at:
            self._refuse_times(event)
        if event.prev_hash != self.hash:
            self._suspect(event, line)
            return event
        self._replay(event)
        self.position = position
        self.hash = (digest or sha256(line).digest()).hex()
        self.tree.add(leaf_hash(line))
        if self._marks and self.tree.size == self._marks[-1].size:
            self._check_mark(event)
        self.recorded_at = recorded_at
        self._event = event
        return event

    def end(self, vouched: str | None = None) -> None:
        """Say that there are no more lines; `vouched` is the hash of the last one as somebody else knows it."""
        if self._suspicion is not None:
            self._settle_suspicion(vouched)
        if self._marks:
            mark = self._marks[0]
            raise Faulty(
                Fault(
                    code="rolled_back",
                    partition=self.partition,
                    position=self.position + 1,
                    detail=f"the log ends at {self.position}; a signed checkpoint has seen {mark.size} events",
                )
            )

    def refuse(self, code: Code, detail: str, event: Event | None = None, *, position: int | None = None) -> NoReturn:
        """Raise the fault of the event that is next, or of another position."""
        raise Faulty(
            Fault(
                code=code,
                partition=self.partition,
                position=self.position + 1 if position is None else position,
                account=None if event is None else event.account,
                detail=detail,
            )
        )

    def _refuse_place(self, event: Event) -> NoReturn:
        expected = self.position + 1
        if event.id != f"{event.partition}-{event.position}":
            self.refuse(
                "out_of_place", f"the line's id is {event.id}, its place {event.partition}-{event.position}", event
            )
        if event.partition != self.partition:
            self.refuse("out_of_place", f"the line says it is {event.id}, of another partition", event)
        if event.position > expected:
            self.refuse(
                "missing_events",
                f"{self.partition}-{expected} is gone: the line that comes next says it is {event.id}",
                event,
            )
        self.refuse("out_of_place", f"the line says it is {event.id}, which came before", event)

    def _refuse_times(self, event: Event) -> NoReturn:
        if event.recorded_at < self.recorded_at:
            self.refuse(
                "wrong_time", f"recorded_at {event.recorded_at} is before {self.recorded_at} of the line before", event
            )
        self.refuse("wrong_time", f"effective_at {event.effective_at} is after {event.recorded_at}", event)

    def _suspect(self, event: Event, line: bytes) -> None:
        """Remember a broken link; the next line says which of its two ends was changed."""
        self._suspicion = Fault(
            code="broken_chain",
            partition=self.partition,
            position=self.position + 1,
            account=event.account,
            detail=f"its prev_hash is {event.prev_hash}, the line before it has {self.hash}",
        )
        self._suspect_hash = sha256(line).hexdigest()

    def _settle_suspicion(self, vouched: str | None) -> None:
        """Name the end of a broken link that was changed; `vouched` is the hash that the line behind it knows."""
        fault = self._suspicion
        if fault is None:
            return
        if self.position and (vouched is None or vouched == self._suspect_hash):
            said = fault.detail.split(",")[0].removeprefix("its prev_hash is ")
            fault = Fault(
                code="broken_chain",
                partition=self.partition,
                position=self.position,
                account=None if self._event is None else self._event.account,
                detail=f"its hash is {self.hash}, but the next line was written behind one with {said}",
            )
        raise Faulty(fault)

    def _check_mark(self, event: Event) -> None:
        while self._marks and self._marks[-1].size == self.tree.size:
            mark = self._marks.pop()
            if mark.root != self.tree.root():
                self.refuse(
                    "rewritten",
                    f"the first {mark.size} lines have the Merkle root {self.tree.root().hex()}, a signed checkpoint "
                    f"says {mark.root.hex()}: one of them, or its order, was changed with all hashes behind it",
                    event,
                    position=self.position,
                )

    def _replay(self, event: Event) -> None:
        states = self.states
        state = states.get(event.account)
        account = state.account
        if account.events == 0:
            self._check_first(event)
        made = _made(event)
        if made is not None and states.has(state, made):
            self.refuse("impossible", f"account {event.account} has {made[1]} already", event)
        before = account.figures.copy()
        try:
            states.evolve(state, event)
        except (LookupError, ValueError, ArithmeticError, TypeError) as error:
            self.refuse("impossible", str(error), event)
        wrong = wrong_balance(event, before, account.figures)
        if wrong is not None:
            self.refuse("wrong_balance", wrong, event)
        broken = broken_identity(state, event.data)
        if broken is not None:
            self.refuse("broken_identity", broken, event)

    def _check_first(self, event: Event) -> None:
        """Check the first event of an account."""
        if self._partitions is not None and (home := partition_of(event.account, self._partitions)) != self.partition:
            self.refuse("wrong_partition", f"account {event.account} belongs to partition {home}", event)
        if event.kind != "opened":
            self.refuse("impossible", f"account {event.account} was never opened", event)

    def finish(self) -> None:
        """Check what adds up over many items: what open holds hold and occupy; raises Faulty."""
        states = self.states
        states.finish()
        held: dict[str, int] = {}
        occupied: dict[str, dict[str, int]] = {}
        for account, item in states.shelf.open_holds():
            if item.held:
                held[account] = held.get(account, 0) + item.held
            if item.state == "open":
                counts = occupied.setdefault(account, {})
                for name, count in item.occupies.items():
                    counts[name] = counts.get(name, 0) + count
                ends = item.due_at
                if ends is not None and ends < self.holds_end.get(account, ends + "~"):
                    self.holds_end[account] = ends
        for account in states.all_accounts():
            reserved = sum(figures.reserved for figures in account.figures.values())
            counts = {name: count for name, count in occupied.get(account.id, {}).items() if count}
            if reserved != held.get(account.id, 0) or account.occupied != counts:
                raise Faulty(_of_account(self.partition, account, "its open holds hold or occupy something else"))


def _of_account(partition: int, account: Account, detail: str) -> Fault:
    return Fault(
        code="broken_identity", partition=partition, position=account.position, account=account.id, detail=detail
    )


def _made(event: Event) -> Key | None:
    """Return the work that an event makes, which must be new."""
    data = event.data
    if type(data) is Reserved:
        return ("work", data.reservation_id) if event.kind == "hold" else None
    if type(data) is Consumed and data.consumption_id != data.reservation_id:
        return ("work", data.consumption_id)
    return None


def is_same_account(stored: Account, replayed: Account) -> bool:
    """Say whether a stored snapshot is what a replay came to; `due_at` is a bound, which a fold finds less often."""
    changes = {"due_at": None}
    return msgspec.structs.replace(stored, **changes) == msgspec.structs.replace(replayed, **changes)
