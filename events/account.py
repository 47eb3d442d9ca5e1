"""The state of an account: its snapshot, and the items of it that are in memory (SEMANTICS.md sections 2 and 3).

An account is a small snapshot (plan, period, live grants, figures) and its items: holds, consumptions and grants that
ended. The snapshot is always whole; of the items, only those that matter at the moment are in memory. Code that touches
an item that nobody loaded gets `Missing`, which names it, so that the caller can load it and ask again; that keeps the
domain free of I/O and right however much of the past is at hand. A replay starts from nothing, so it knows everything.

How events change it stands in `evolve`; the values inside (grants, holds, figures) are frozen and replaced.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

import msgspec

from events.facts import (
    Figures,
    Limits,
    Payment,
    Policies,
    Status,
    Terms,
)
from events.grants import Grant
from events.holds import Consumption, Hold
from events.instants import Instant
from events.payments import Paid
from events.spending import NO_USAGE, Payers, Resets, Usage

ItemKind = Literal["work", "grant", "payment", "payers", "resets"]
"""Holds and consumptions are both `work`: they share their ids, a hold's final consumption having the hold's own."""
Key = tuple[ItemKind, str]
Item = Hold | Consumption | Grant | Paid | Payers | Resets

ZERO = Figures(available=0, reserved=0, debt=0, scheduled=0, scoped=0, bonus=0)


class Ahead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The next period, when it is paid already: its payment, and what was granted for it by unit."""

    payment: Payment
    allowance: dict[str, int] = {}


class Account(msgspec.Struct, array_like=True, gc=False):
    """The snapshot of an account, as it is stored beside the log and as decisions read it."""

    id: str
    events: int = 0
    """How many events the account has."""
    position: int = 0
    """The position of its latest event in its partition, once recorded."""
    status: Status = "active"
    plan: str | None = None
    policies: Policies | None = None
    allowance: dict[str, int] = {}
    capacity: dict[str, int] = {}
    catalog: str = ""
    anchor: Instant = cast("Instant", "")
    period_start: Instant = cast("Instant", "")
    period_end: Instant = cast("Instant", "")
    opened_at: Instant = cast("Instant", "")
    grants: dict[str, Grant] = {}
    """Live grants, in draw order, in which a snapshot keeps them."""
    figures: dict[str, Figures] = {}
    usage: dict[str, Usage] = {}
    occupied: dict[str, int] = {}
    open_holds: int = 0
    """Open holds with a TTL."""
    due_at: Instant | None = None
    """No fact is due before this instant."""
    overrides: Limits = Limits()
    """What overrides the plan's own limits, until the next change of plan."""
    own: Limits | None = None
    """The plan's own limits, when some are overridden."""
    pending: Terms | None = None
    """What the account will be on from the next period."""
    reclaim: dict[str, int] = {}
    """What a downgrade at once could not take back yet, by unit."""
    period_from: int = 0
    """How many events the account had when the period began."""
    grants_from: int = 0
    """Allowance granted before this many events is of a period that began at the same instant as this one."""
    paid: Payment | None = None
    """What paid the present period; None when it began by itself."""
    ahead: Ahead | None = None
    idle: bool = False
    """Whether no command came since the last renewal that happened by itself."""
    was_reset: bool = False
    """Whether a usage was ever reset, so that a consumption may have been given back by that."""

    def copy(self) -> Account:
        """Return an account whose grants, usage and occupied capacities can be changed without touching this one's."""
        account = cast("Account", self.__copy__())  # type: ignore[attr-defined]  # every struct has it
        account.grants = self.grants.copy()
        account.usage = self.usage.copy()
        account.occupied = self.occupied.copy()
        return account

    @property
    def turns_at(self) -> Instant | None:
        """When the next period begins by itself, or None when it waits for a payment (SEMANTICS.md section 7).

        What begins by itself is a period of a plan that renews so, one that a pending change brings to such a plan, and
        one that is paid already.
        """
        if self.policies is None or self.status == "closed":
            return None
        if self.policies.renewal == "auto" or self.ahead is not None:
            return self.period_end
        pending = self.pending is not None and self.pending.policies.renewal == "auto"
        return self.period_end if pending else None

    @property
    def sweep_at(self) -> Instant | None:
        """When a sweeper should look at the account; one that is idle is renewed by its next command instead."""
        if self.idle and self.due_at is not None and self.due_at >= self.period_end:
            return None
        return self.due_at

    @property
    def terms(self) -> Terms:
        """The plan that the account is on, as its last change recorded it."""
        if self.plan is None or self.policies is None:
            raise LookupError(f"account {self.id} has no plan")
        own = self.own or Limits(allowance=self.allowance, capacity=self.capacity)
        return Terms(plan=self.plan, policies=self.policies, limits=own, overrides=self.overrides, catalog=self.catalog)

    def allows(self, grant: Grant) -> bool:
        """Say whether a grant is allowance of the present period."""
        return grant.kind == "plan" and grant.period == self.period_start and grant.ordinal >= self.grants_from

    def counts(self, consumption: Consumption) -> bool:
        """Say whether the present period's usage includes a consumption."""
        usage = self.usage.get(consumption.unit, NO_USAGE)
        return consumption.ordinal >= (usage.since or self.period_from)


class Missing(Exception):
    """The decision needs items that are not in memory: `keys`, or with `due` all open holds that ended until then."""

    def __init__(self, keys: Iterable[Key] = (), *, due: Instant | None = None) -> None:
        super().__init__(keys, due)
        self.keys = tuple(keys)
        self.due = due


class State(msgspec.Struct, gc=False):
    """An account in memory: its snapshot, the items that are known, and those that changed since the last fork.

    In `known`, None says that there is no such item; `created` names the changed ones that are new. `complete` says
    that every item there is is known. `holds_due` is (until, next): all open holds that end until `until` are known,
    and no other ends before `next`.
    """

    account: Account
    known: dict[Key, Item | None] = {}
    changed: dict[Key, Item] = {}
    created: set[Key] = set()
    complete: bool = False
    holds_due: tuple[Instant, Instant | None] | None = None

    @classmethod
    def unknown(cls, account: str) -> State:
        """Return the state of an account that has no events."""
        return cls(Account(account), complete=True)

    @property
    def exists(self) -> bool:
        """Whether the account has been opened."""
        return self.account.events > 0

    def settle(self) -> None:
        """Let what changed be known; the fork that another decision makes starts from there."""
        if self.changed:
            self.known.update(self.changed)
            self.changed = {}
        if self.created:
            self.created = set()

    def forget_all_but(self, known: dict[Key, Item | None]) -> None:
        """Go on with these items; all others are missing from now on."""
        self.known = known
        self.complete = False
        self.holds_due = None

    def fork(self) -> State:
        """Return a state that can be changed without touching this one."""
        known = {**self.known, **self.changed} if self.changed else self.known
        return State(self.account.copy(), known, complete=self.complete, holds_due=self.holds_due)

    def apart(self) -> State:
        """Return a state to try things on: what becomes known in it is not known here."""
        apart = self.fork()
        apart.known = dict(apart.known)
        return apart

    def item(self, kind: ItemKind, item_id: str) -> Item | None:
        """Return the item, or None when there is none; raises Missing when that is not known."""
        key: Key = (kind, item_id)
        found = self.changed.get(key)
        if found is not None:
            return found
        try:
            return self.known[key]
        except KeyError:
            if self.complete:
                return None
            raise Missing([key]) from None

    def hold(self, hold_id: str) -> Hold | None:
        """Return the hold of this id."""
        work = self.item("work", hold_id)
        return work if isinstance(work, Hold) else None

    def consumption(self, consumption_id: str) -> Consumption | None:
        """Return the consumption of this id, which may be the final step of a hold."""
        work = self.item("work", consumption_id)
        if isinstance(work, Hold):
            return work.consumption
        return work if isinstance(work, Consumption) else None

    def is_taken(self, work_id: str) -> bool:
        """Say whether a hold or consumption of this id is known; one that is not in memory is found by the append."""
        key: Key = ("work", work_id)
        return key in self.changed or self.known.get(key) is not None

    def grant(self, grant_id: str) -> Grant | None:
        """Return the grant of this id, live or ended."""
        live = self.account.grants.get(grant_id)
        if live is not None:
            return live
        ended = self.item("grant", grant_id)
        return ended if isinstance(ended, Grant) else None

    def open_holds(self) -> list[Hold]:
        """Return the open holds in memory that have an end."""
        changed = self.changed
        found = [item for item in changed.values() if isinstance(item, Hold) and item.due_at is not None]
        # There may be very many, most of them slots: nothing is copied, and no instant is computed.
        for key, item in self.known.items():
            if isinstance(item, Hold) and item.state == "open" and item.expires_at is not None and key not in changed:
                found.append(item)
        return found
