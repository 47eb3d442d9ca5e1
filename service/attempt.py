"""One attempt of a writer: what was decided at a head, and the batch that writes it.

An attempt is thrown away whole when the head turned out to be another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from events.account import Item, Key, State
from events.decide import Decision
from events.errors import Refusal
from events.facts import Fact
from events.holds import Hold
from events.instants import Instant
from events.recorded import SYSTEM, TYPE_OF, Actor, CommandRef, Line, record
from service.requests import Outcome, Request
from service.snapshots import encode_account, encode_item
from service.store.batches import AccountRow, Batch, EventRow, Head, ItemRow

Caller = TypeVar("Caller")


class Mark(NamedTuple):
    """Where an attempt stood."""

    account: str
    position: int
    hash: str
    state: State | None
    lines: int
    accepted: int
    shown: int
    items: dict[tuple[str, Key], Item]
    created: set[tuple[str, Key]]


class Attempt(Generic[Caller]):
    """The decisions of a batch, in the order in which they go into the log."""

    def __init__(self, partition: int, head: Head, now: Instant, base: Attempt[Caller] | None = None) -> None:
        self.partition = partition
        self.head = head
        self.now = now
        self._position = head.position
        self._hash = head.hash
        self._base = base
        self.states: dict[str, State] = {}
        self.read: dict[str, State] = {}
        """Accounts that were read for this attempt."""
        self.spoiled: set[str] = set()
        """Accounts that are not to be remembered: another attempt that was thrown away left its traces in them."""
        self.refused: list[tuple[Caller, Refusal]] = []
        self._lines: list[Line] = []
        self._keys: list[bytes | None] = []
        self._accepted: list[tuple[Caller, State, int, int]] = []
        self.shown: list[tuple[Caller, Outcome]] = []
        """What writes nothing."""
        self._items: dict[tuple[str, Key], Item] = {}
        self._created: set[tuple[str, Key]] = set()

    def state(self, account: str) -> State | None:
        """Return the account as the decisions made so far leave it, or None when they did not touch it."""
        state = self.states.get(account)
        if state is None and self._base is not None:
            return self._base.states.get(account)
        return state

    @property
    def head_after(self) -> Head:
        """Where the partition ends when all of it is written."""
        return Head(self._position, self._hash, self.now) if self._lines else self.head

    @property
    def writes(self) -> bool:
        """Whether there is anything to append."""
        return bool(self._lines)

    @property
    def judges(self) -> bool:
        """Whether anything was said about an account: all but a free operation is only true on the present head."""
        return bool(self._lines or self.refused) or any(not outcome.free for _, outcome in self.shown)

    def stand_alone(self) -> None:
        """Let go of the attempt that this one was decided on: it is in the log."""
        self._base = None

    def items(self, account: str) -> dict[Key, Item]:
        """Return the items of an account that the decisions changed."""
        return {key: item for (owner, key), item in self._items.items() if owner == account}

    def created(self) -> list[tuple[str, Key]]:
        """Return the items that the batch creates."""
        return list(self._created)

    def accounts(self) -> Iterable[str]:
        """Return the accounts that the decisions touch."""
        return self.states.keys()

    def refuse(self, caller: Caller, refusal: Refusal) -> None:
        """Keep a refusal until it is known to hold."""
        self.refused.append((caller, refusal))

    def show(self, caller: Caller, decision: Decision) -> Outcome:
        """Keep the outcome of a command that writes nothing: a dry run, a free operation, a payment counted before."""
        outcome = self.told(decision)
        self.shown.append((caller, outcome))
        return outcome

    @staticmethod
    def told(decision: Decision) -> Outcome:
        """Return the outcome of a command that writes nothing."""
        facts = tuple(decision.facts) if decision.writes else None
        account = decision.state.account.id
        return Outcome(account, (), decision.state, free=decision.free, facts=facts, counted=decision.counted)

    def accept(self, caller: Caller, decision: Decision, request: Request, digest: bytes | None) -> None:
        """Put a decision's facts behind those before it."""
        state = decision.state
        account = state.account.id
        before = len(self._lines), self._position, self._hash
        try:
            for fact in decision.due:
                system = CommandRef(name="system", idempotency_key=None, fingerprint=None, id=fact.system_id)
                self._record(account, fact, SYSTEM, system, None)
            first = len(self._lines)
            command = CommandRef(
                name=request.command.name, idempotency_key=request.key, fingerprint=request.fingerprint
            )
            for fact in decision.facts:
                self._record(account, fact, request.actor, command, digest)
                digest = None
        except BaseException:  # a command is recorded whole or not at all
            first, self._position, self._hash = before
            del self._lines[first:], self._keys[first:]
            raise
        state.account.position = self._position
        for item_key, item in state.changed.items():
            self._items[account, item_key] = item
        for item_key in state.created:
            self._created.add((account, item_key))
        state.settle()
        self.states[account] = state
        self._accepted.append((caller, state, first, len(self._lines)))

    def mark(self, account: str) -> Mark:
        """Return where the attempt stands, to come back to when decisions about an account turn out not to be."""
        return Mark(
            account,
            self._position,
            self._hash,
            self.states.get(account),
            len(self._lines),
            len(self._accepted),
            len(self.shown),
            dict(self._items),
            set(self._created),
        )

    def reset(self, mark: Mark) -> None:
        """Take back what was accepted and shown since `mark`."""
        self._position, self._hash = mark.position, mark.hash
        if mark.state is None:
            self.states.pop(mark.account, None)
        else:
            self.states[mark.account] = mark.state
        del self._lines[mark.lines :], self._keys[mark.lines :]
        del self._accepted[mark.accepted :], self.shown[mark.shown :]
        self._items, self._created = mark.items, mark.created

    def _record(self, account: str, fact: Fact, actor: Actor, command: CommandRef, key: bytes | None) -> None:
        position = self._position + 1
        line = record(
            fact,
            account=account,
            partition=self.partition,
            position=position,
            prev_hash=self._hash,
            recorded_at=self.now,
            actor=actor,
            command=command,
        )
        self._position, self._hash = position, line.hash
        self._lines.append(line)
        self._keys.append(key)

    def batch(self, absent_keys: list[bytes]) -> Batch:
        """Return what is to be appended."""
        return Batch(
            self.partition,
            self.head,
            self.now,
            events=[
                EventRow(
                    line.event.account,
                    TYPE_OF[type(line.event.data)],
                    line.event.kind,
                    key,
                    line.line,
                    bytes.fromhex(line.hash),
                )
                for line, key in zip(self._lines, self._keys, strict=True)
            ],
            accounts=[
                AccountRow(account, state.account.position, encode_account(state.account), state.account.sweep_at)
                for account, state in self.states.items()
            ],
            items=[
                ItemRow(
                    account,
                    key[0],
                    key[1],
                    item.due_at if isinstance(item, Hold) else None,
                    encode_item(item),
                    (account, key) in self._created,
                )
                for (account, key), item in self._items.items()
            ],
            absent_keys=absent_keys,
        )

    def outcomes(self) -> Iterator[tuple[Caller, Outcome]]:
        """Yield what each accepted command led to."""
        for caller, state, first, last in self._accepted:
            yield caller, Outcome(state.account.id, tuple(self._lines[first:last]), state)
        yield from self.shown
