"""The state of an account and how each event changes it: `evolve` and `replay` (SEMANTICS.md sections 2 and 3).

An account is a small snapshot (plan, period, live grants, figures) and its items: holds, consumptions and grants that
ended. The snapshot is always whole; of the items, only those that matter at the moment are in memory. Code that touches
an item that nobody loaded gets `Missing`, which names it, so that the caller can load it and ask again; that keeps the
domain free of I/O and right however much of the past is at hand. A replay starts from nothing, so it knows everything.

`evolve` changes the state it is given, in place; the values inside (grants, holds, figures) are frozen and replaced.
Whoever may still want the old state works on a `fork`. It reads only what the event says: no clock, no catalog.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable
from copy import copy
from typing import Literal, cast

import msgspec
from msgspec.structs import replace

from events.facts import (
    Allocation,
    Consumed,
    Data,
    Figures,
    Granted,
    Kind,
    Limits,
    Payment,
    PlanChanged,
    Policies,
    Refunded,
    Reserved,
    Status,
    Terms,
)
from events.grants import BONUS_KINDS, Grant, by_grant, draw_order
from events.holds import Consumption, HeldLine, Hold, reversal
from events.instants import Instant
from events.payments import Paid, by_period, by_reference
from events.recorded import Event
from events.spending import DEBT, NO_USAGE, PAYERS_MAX, Payers, Resets, Usage, moved, page_id, paid_by, resets_id

ItemKind = Literal["work", "grant", "payment", "payers", "resets"]
"""Holds and consumptions are both `work`: they share their ids, a hold's final consumption having the hold's own."""
Key = tuple[ItemKind, str]
Item = Hold | Consumption | Grant | Paid | Payers | Resets

ZERO = Figures(available=0, reserved=0, debt=0, scheduled=0, scoped=0, bonus=0)


class Ahead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The next period, when it is paid already: its payment, and what was granted for it by unit."""

    payment: Payment
    allowance: dict[str, int] = {}


def _in_draw_order(grants: dict[str, Grant]) -> dict[str, Grant]:
    return dict(sorted(grants.items(), key=lambda entry: draw_order(entry[1])))


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
    """Live grants, in draw order."""
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

    def __post_init__(self) -> None:
        """Put the grants into draw order: a store may have changed the order of an object's keys."""
        if len(self.grants) > 1:
            self.grants = _in_draw_order(self.grants)

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
        self.known.update(self.changed)
        self.changed = {}
        self.created = set()

    def fork(self) -> State:
        """Return a state that can be changed without touching this one."""
        account = copy(self.account)
        account.grants = account.grants.copy()
        account.usage = account.usage.copy()
        account.occupied = account.occupied.copy()
        known = {**self.known, **self.changed} if self.changed else self.known
        return State(account, known, complete=self.complete, holds_due=self.holds_due)

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


def _contribution(grant: Grant) -> tuple[int, int, int, int, int]:
    """Return what a grant adds to available, reserved, scheduled, scoped, bonus."""
    if grant.state == "active":
        if grant.operations is not None:
            return 0, grant.held, 0, grant.remaining, 0
        return grant.remaining, grant.held, 0, 0, grant.remaining if grant.kind in BONUS_KINDS else 0
    return 0, grant.held, grant.remaining if grant.state == "scheduled" else 0, 0, 0


_NOTHING = (0, 0, 0, 0, 0)


def _put(state: State, new: Grant) -> None:
    """Replace a grant and carry the difference into the figures of its unit."""
    account = state.account
    grants = account.grants
    old = grants.get(new.id)
    if old is not None and old.state == new.state == "active" and new.operations is None and new.live:
        _move(account, new, new.remaining - old.remaining, new.held - old.held)
        grants[new.id] = new
        return
    was = _contribution(old) if old is not None else _NOTHING
    now = _contribution(new)
    if was != now:
        f = account.figures.get(new.unit, ZERO)
        account.figures[new.unit] = Figures(
            available=f.available + now[0] - was[0],
            reserved=f.reserved + now[1] - was[1],
            debt=f.debt,
            scheduled=f.scheduled + now[2] - was[2],
            scoped=f.scoped + now[3] - was[3],
            bonus=f.bonus + now[4] - was[4],
        )
    if not new.live:
        grants.pop(new.id, None)
        state.changed["grant", new.id] = new
        return
    if old is None:
        account.grants = _with(grants, new)
    else:
        grants[new.id] = new
    if new.state == "active" and (old is None or old.state != "active"):
        _due(account, new.expires_at)  # new, activated, or filled again by a refund long after it was drained


def _with(grants: dict[str, Grant], new: Grant) -> dict[str, Grant]:
    """Put one more grant at its place in the draw order, in which a grant never moves."""
    entries = list(grants.items())
    entries.insert(bisect(entries, draw_order(new), key=lambda entry: draw_order(entry[1])), (new.id, new))
    return dict(entries)


def _move(account: Account, grant: Grant, remaining: int, held: int) -> None:
    """Carry what a general grant that stays active gained or lost into the figures of its unit, the commonest change."""
    f = account.figures[grant.unit]
    account.figures[grant.unit] = Figures(
        available=f.available + remaining,
        reserved=f.reserved + held,
        debt=f.debt,
        scheduled=f.scheduled,
        scoped=f.scoped,
        bonus=f.bonus + remaining if grant.kind in BONUS_KINDS else f.bonus,
    )


def _add_debt(account: Account, unit: str, amount: int) -> None:
    figures = account.figures.get(unit, ZERO)
    account.figures[unit] = replace(figures, debt=figures.debt + amount)


def _known_grant(state: State, grant_id: str) -> Grant:
    grant = state.grant(grant_id)
    if grant is None:
        raise LookupError(f"account {state.account.id}: the event names grant {grant_id}, which does not exist")
    return grant


def _known_hold(state: State, hold_id: str | None) -> Hold:
    hold = state.hold(hold_id) if hold_id is not None else None
    if hold is None:
        raise LookupError(f"account {state.account.id}: the event names hold {hold_id}, which does not exist")
    return hold


def _repay(state: State, unit: str, repaid: list[Allocation], amount: int) -> None:
    """Take what repaid debt from the grants that gave it."""
    for grant_id, part in by_grant(repaid).items():
        grant = _known_grant(state, grant_id)
        _put(state, replace(grant, remaining=grant.remaining - part, repaid=grant.repaid + part))
    if amount:
        _add_debt(state.account, unit, -amount)


def _create(state: State, item: Hold | Consumption) -> None:
    state.changed["work", item.id] = item
    state.created.add(("work", item.id))


def _occupy(account: Account, occupies: dict[str, int], sign: int) -> None:
    for name, count in occupies.items():
        used = account.occupied.get(name, 0) + sign * count
        if used:
            account.occupied[name] = used
        else:
            account.occupied.pop(name, None)


def _due(account: Account, at: Instant | None) -> None:
    if at is not None and (account.due_at is None or at < account.due_at):
        account.due_at = at


def _granted(state: State, kind: Kind, data: Granted, at: Instant) -> None:
    if data.grant_id is None:
        _adjusted(state, data)
        return
    if kind == "activated":
        grant = _known_grant(state, data.grant_id)
        _put(state, replace(grant, state="active"))
        if state.account.allows(grant):
            _allow(state.account, grant.unit, grant.remaining)
    elif kind == "revoked":
        _revoked(state, data, data.grant_id)
    elif kind == "expired":
        grant = _known_grant(state, data.grant_id)
        lapsed = -data.amount
        remaining = grant.remaining - lapsed
        _put(state, replace(grant, state="expired", remaining=remaining, expired=grant.expired + lapsed))
    else:
        account = state.account
        grant = Grant(
            id=data.grant_id,
            kind=cast("object", kind),  # type: ignore[arg-type]  # a `granted` event has a granted kind
            unit=data.unit,
            priority=data.priority,
            starts_at=data.starts_at,
            ordinal=account.events,
            granted=data.amount,
            expires_at=data.expires_at,
            operations=None if data.operations is None else tuple(data.operations),
            cost_basis=data.cost_basis,
            source_grant_id=data.source_grant_id,
            period=(data.period or account.period_start) if kind == "plan" else None,
            state="scheduled" if data.starts_at > at else "active",
            remaining=data.amount,
        )
        for grant_id, part in by_grant(data.allocation).items():
            source = _known_grant(state, grant_id)
            _put(state, replace(source, remaining=source.remaining - part, rolled_over=source.rolled_over + part))
        _put(state, grant)
        if grant.state == "active" and account.allows(grant):
            _allow(account, data.unit, data.amount)
        _due(account, data.starts_at if grant.state == "scheduled" else data.expires_at)
    _repay(state, data.unit, data.repaid, data.debt_repaid)


def _adjusted(state: State, data: Granted) -> None:
    """Take what an adjustment takes from the grants that gave it; the rest becomes debt."""
    for grant_id, part in by_grant(data.allocation).items():
        grant = _known_grant(state, grant_id)
        _put(state, replace(grant, remaining=grant.remaining - part, adjusted=grant.adjusted + part))
    if data.debt_added:
        _add_debt(state.account, data.unit, data.debt_added)


def _allow(account: Account, unit: str, amount: int) -> None:
    """Count allowance of the present period that was granted, or with a negative amount taken back."""
    usage = account.usage.get(unit, NO_USAGE)
    account.usage[unit] = replace(usage, allowed=usage.allowed + amount)


def _revoked(state: State, data: Granted, grant_id: str) -> None:
    """Take credits out of a grant; it ends when the event says so."""
    grant, taken = _known_grant(state, grant_id), -data.amount
    after = grant.state if data.grant is None else data.grant.state
    _put(state, replace(grant, state=after, remaining=grant.remaining - taken, revoked=grant.revoked + taken))
    if data.take_back is not None and grant.state != "scheduled":
        _allow(state.account, data.unit, -taken)
    if data.take_back == "reclaim":
        _reclaimed(state.account, data.unit, taken)


def _reclaimed(account: Account, unit: str, amount: int) -> None:
    left = account.reclaim.get(unit, 0) - amount
    others = {name: open_ for name, open_ in account.reclaim.items() if name != unit}
    account.reclaim = {**others, unit: left} if left else others


def _reserved(state: State, kind: Kind, data: Reserved, at: Instant) -> None:
    account = state.account
    for grant_id, part in by_grant(data.allocation).items():
        grant = _known_grant(state, grant_id)
        _put(state, replace(grant, remaining=grant.remaining - part, held=grant.held + part))
    if kind == "extend":
        _extended(state, data)
        return
    hold = Hold(
        id=data.reservation_id,
        unit=data.unit,
        state="open",
        amount=data.amount,
        held=data.amount,
        occupies=data.occupies,
        expires_at=data.expires_at,
        grace_seconds=data.grace_seconds,
        overage=data.overage,
        lines=tuple(_held_lines(data)),
        created_at=at,
        reference=data.reference,
        metadata=data.metadata,
    )
    _create(state, hold)
    _occupy(account, data.occupies, +1)
    if data.expires_at is not None:
        account.open_holds += 1
        _due(account, hold.due_at)


def _extended(state: State, data: Reserved) -> None:
    """Let a hold live longer, hold more, and occupy what it is to occupy from here on."""
    hold = _known_hold(state, data.reservation_id)
    lines = list(hold.lines)
    for index, parts in _parts_by_line(data.allocation).items():
        line, more = lines[index], sum(part for _, part in parts)
        allocation = _behind(line.allocation, parts)
        lines[index] = replace(
            line, amount=line.amount + more, held=line.held + more, added=line.added + more, allocation=allocation
        )
    _occupy(state.account, hold.occupies, -1)
    _occupy(state.account, data.occupies, +1)
    state.changed["work", hold.id] = replace(
        hold,
        amount=hold.amount + data.amount,
        held=hold.held + data.amount,
        occupies=data.occupies,
        expires_at=data.expires_at,
        lines=tuple(lines),
    )


def _behind(first: tuple[tuple[str, int], ...], more: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Put what is held more behind what was held; a grant that gave the last part and gives on is one part."""
    if first and first[-1][0] == more[0][0]:
        return (*first[:-1], (more[0][0], first[-1][1] + more[0][1]), *more[1:])
    return (*first, *more)


def _parts_by_line(entries: Iterable[Allocation]) -> dict[int, list[tuple[str, int]]]:
    parts: dict[int, list[tuple[str, int]]] = {}
    for entry in entries:
        parts.setdefault(entry.line, []).append((entry.grant_id, entry.amount))
    return parts


def _held_lines(data: Reserved) -> Iterable[HeldLine]:
    parts = _parts_by_line(data.allocation)
    if not data.lines:
        yield HeldLine(amount=data.amount, held=data.amount, allocation=tuple(parts.get(0, ())))
    for index, line in enumerate(data.lines):
        yield HeldLine(
            amount=line.amount,
            held=line.amount,
            allocation=tuple(parts.get(index, ())),
            operation=line.operation,
            quantity=line.quantity,
            params=line.params,
            price=line.price or data.price,
        )


def take_from_line(line: HeldLine, amount: int) -> tuple[HeldLine, list[tuple[str, int]]]:
    """Take up to `amount` of what a line holds, first drawn first; returns the line after it and the parts taken."""
    if amount >= line.held:
        return replace(line, held=0, allocation=()), list(line.allocation)
    taken: list[tuple[str, int]] = []
    left: list[tuple[str, int]] = []
    missing = amount
    for grant_id, part in line.allocation:
        used = part if part < missing else missing
        missing -= used
        if used:
            taken.append((grant_id, used))
        if part > used:
            left.append((grant_id, part - used))
    return replace(line, held=line.held - amount, allocation=tuple(left)), taken


def _consumed(state: State, kind: Kind, data: Consumed, at: Instant) -> None:
    account = state.account
    from_hold: dict[str, int] = {}
    drawn: dict[str, int] = {}
    for entry in data.allocation:
        source = drawn if entry.excess or data.reservation_id is None else from_hold
        source[entry.grant_id] = source.get(entry.grant_id, 0) + entry.amount
    for grant_id in {**from_hold, **drawn}:
        grant = _known_grant(state, grant_id)
        held, fresh = from_hold.get(grant_id, 0), drawn.get(grant_id, 0)
        _put(
            state,
            replace(
                grant,
                held=grant.held - held,
                remaining=grant.remaining - fresh,
                consumed=grant.consumed + held + fresh,
            ),
        )
    if data.debt_added:
        _add_debt(account, data.unit, data.debt_added)
    usage = account.usage.get(data.unit, NO_USAGE)
    parts = paid_by(data.allocation, data.debt_added)
    _use(state, data.unit, moved(usage, used=data.actual, charged=data.charged, parts=parts))
    consumption = Consumption(
        id=data.consumption_id,
        reservation_id=data.reservation_id,
        unit=data.unit,
        amount=data.actual,
        charged=data.charged,
        unfunded=data.unfunded,
        debt_added=data.debt_added,
        allocation=tuple(data.allocation),
        period=data.period,
        created_at=at,
        ordinal=account.events,
        operation=data.operation,
        quantity=data.quantity,
        reference=data.reference,
        metadata=data.metadata,
    )
    if data.reservation_id is None:
        _create(state, consumption)
    else:
        _step(state, kind, data, consumption)


def _use(state: State, unit: str, usage: Usage) -> None:
    """Keep the usage of a unit; more payers than the snapshot should hold are put aside."""
    account = state.account
    if len(usage.payers) > PAYERS_MAX:
        page = Payers(id=page_id(unit, usage.since or account.period_from, usage.pages), parts=usage.payers)
        state.changed["payers", page.id] = page
        usage = replace(usage, payers={}, pages=usage.pages + 1)
    account.usage[unit] = usage


def _step(state: State, kind: Kind, data: Consumed, consumption: Consumption) -> None:
    """Carry a step's charge into its hold."""
    hold = _known_hold(state, data.reservation_id)
    lines = list(hold.lines)
    for index, amount in _taken_by_line(data.allocation).items():
        lines[index], _ = take_from_line(lines[index], amount)
    for index, charged, done in [(each.line, each.charged, each.amount) for each in data.lines] or [
        (0, data.charged, data.actual)
    ]:
        line = lines[index]
        lines[index] = replace(line, charged=line.charged + charged, lapsed=max(0, line.lapsed - done))
    after = replace(
        hold,
        held=sum(line.held for line in lines) if len(lines) > 1 else lines[0].held,
        charged=hold.charged + data.charged,
        unfunded=hold.unfunded + data.unfunded,
        lines=tuple(lines),
    )
    if data.consumption_id != hold.id:
        after = replace(after, partials=hold.partials + 1)
        _create(state, consumption)
    elif kind == "late":
        after = replace(after, state="settled_late", consumption=consumption)
    else:
        after = replace(after, state="settled", consumption=consumption)
        _free(state.account, hold)
    state.changed["work", hold.id] = after


def _taken_by_line(entries: Iterable[Allocation]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for entry in entries:
        if not entry.excess:
            sums[entry.line] = sums.get(entry.line, 0) + entry.amount
    return sums


def _free(account: Account, hold: Hold) -> None:
    """Give back the capacity of a hold that ends."""
    _occupy(account, hold.occupies, -1)
    if hold.expires_at is not None:
        account.open_holds -= 1


def _refunded(state: State, kind: Kind, data: Refunded, _at: Instant) -> None:
    if kind == "consumption":
        _refunded_consumption(state, data)
    elif kind == "usage_reset":
        _usage_reset(state, data)
    else:
        hold = _known_hold(state, data.reservation_id)
        for grant_id, part in by_grant(data.allocation).items():
            grant = _known_grant(state, grant_id)
            _put(state, replace(grant, remaining=grant.remaining + part, held=grant.held - part))
        ended = "released" if kind == "release" else "expired"
        if hold.state == "open":
            _free(state.account, hold)
        state.changed["work", hold.id] = replace(
            hold,
            state=ended if hold.state == "open" else hold.state,
            held=0,
            lines=tuple(
                replace(line, held=0, allocation=(), lapsed=line.held if kind == "hold_expired" else 0)
                for line in hold.lines
            ),
        )
    for grant_id, part in by_grant(data.reclaimed).items():
        grant = _known_grant(state, grant_id)
        _put(state, replace(grant, remaining=grant.remaining - part, revoked=grant.revoked + part))
        _allow(state.account, data.unit, -part)
        _reclaimed(state.account, data.unit, part)
    _repay(state, data.unit, data.repaid, data.debt_repaid)


def _returned(state: State, data: Refunded) -> None:
    """Carry what was charged back into grants and debt."""
    for grant_id, part in by_grant(data.allocation).items():
        grant = _known_grant(state, grant_id)
        _put(state, replace(grant, remaining=grant.remaining + part, returned=grant.returned + part))
    if data.debt_refunded:
        _add_debt(state.account, data.unit, -data.debt_refunded)


def _usage_reset(state: State, data: Refunded) -> None:
    account = state.account
    _returned(state, data)
    usage = account.usage.get(data.unit, NO_USAGE)
    since = usage.since or account.period_from
    key = resets_id(data.unit, account.period_start)
    before = state.item("resets", key) if account.was_reset else None
    ranges = before.ranges if isinstance(before, Resets) else ()
    state.changed["resets", key] = Resets(id=key, ranges=(*ranges, (since, account.events)))
    account.was_reset = True
    account.usage[data.unit] = Usage(allowed=usage.allowed, since=account.events)


def _refunded_consumption(state: State, data: Refunded) -> None:
    account = state.account
    consumption = state.consumption(cast("str", data.consumption_id))
    if consumption is None:
        raise LookupError(f"account {account.id}: the event names consumption {data.consumption_id}, which is unknown")
    _returned(state, data)
    if account.counts(consumption):
        usage = account.usage.get(data.unit, NO_USAGE)
        debt, parts = reversal(consumption, data.amount)
        payers = {**dict(parts), DEBT: debt}
        _use(state, data.unit, moved(usage, used=data.usage, charged=data.amount, parts=payers, sign=-1))
    after = replace(
        consumption,
        refunded=consumption.refunded + data.amount,
        unfunded_returned=consumption.unfunded_returned or data.usage > data.amount,
    )
    hold = state.hold(consumption.id)
    state.changed["work", after.id] = after if hold is None else replace(hold, consumption=after)


def _plan_changed(state: State, kind: Kind, data: PlanChanged, at: Instant) -> None:
    account = state.account
    if data.status is not None:
        account.status = data.status
    if kind == "opened":
        account.opened_at = at
        account.figures.setdefault("credits", ZERO)
    if kind in {"opened", "renewed"} or data.begins:
        ahead = account.ahead
        account.usage = {}
        account.period_from = account.events
        account.grants_from = account.events if data.period_start == account.period_start else 0
        account.paid = ahead.payment if ahead is not None and ahead.payment.period_start == data.period_start else None
        account.ahead = None
    if data.payment is not None:
        _paid(state, data, data.payment, at)
    if kind in {"status", "unchanged"}:
        return
    account.plan = data.to
    account.policies = data.policies
    account.allowance = data.allowance
    account.capacity = data.capacity
    account.overrides = data.overrides
    account.own = data.own
    account.pending = data.pending
    account.reclaim = data.reclaim
    account.catalog = data.catalog
    account.anchor = data.anchor
    account.period_start = data.period_start
    account.period_end = data.period_end
    for unit in data.allowance:
        account.figures.setdefault(unit, ZERO)
    _due(account, account.turns_at)


def _paid(state: State, data: PlanChanged, payment: Payment, at: Instant) -> None:
    """Remember a payment, by its reference and, when it is the first one for it, by the period."""
    account = state.account
    start = payment.period_start
    names = [by_reference(payment.reference)] if payment.reference is not None else []
    if data.ahead is not None:
        account.ahead = Ahead(payment, data.ahead)
        names.append(by_period(start))
    elif account.paid is None:
        account.paid = payment
        names.append(by_period(start))
    for name in names:
        state.changed["payment", name] = Paid(id=name, reference=payment.reference, period_start=start, at=at)


_HANDLERS: dict[type[Data], Callable[..., None]] = {
    Granted: _granted,
    Reserved: _reserved,
    Consumed: _consumed,
    Refunded: _refunded,
    PlanChanged: _plan_changed,
}


def apply(state: State, kind: Kind, data: Data, at: Instant, *, system: bool = False) -> None:
    """Change `state` by one fact that holds from `at`; `system` says that it is a due one."""
    _HANDLERS[type(data)](state, kind, data, at)
    if not system:
        state.account.idle = False
    elif kind == "renewed":
        state.account.idle = True
    state.account.events += 1


def evolve(state: State, event: Event) -> State:
    """Change `state` by one recorded event and return it."""
    apply(state, event.kind, event.data, event.effective_at, system=event.command.name == "system")
    state.account.position = event.position
    return state


def replay(account: str, events: Iterable[Event]) -> State:
    """Return the state that all the events of an account lead to."""
    state = State.unknown(account)
    for event in events:
        evolve(state, event)
        state.settle()
    return state
