"""How an account changes by work: `reserved`, `consumed` and `refunded` events (SEMANTICS.md sections 5 and 6)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from msgspec.structs import replace

from events.account import Account, State
from events.bookkeeping import (
    add_debt,
    allow,
    create_item,
    known_grant,
    known_hold,
    note_due,
    occupy,
    put_grant,
    settle_reclaim,
    take_repaid,
)
from events.facts import Allocation, Consumed, Kind, Refunded, Reserved, ReservedLine
from events.grants import by_grant
from events.holds import Consumption, HeldLine, Hold, reversal
from events.instants import Instant
from events.spending import DEBT, NO_USAGE, PAYERS_MAX, Payers, Resets, Usage, moved, page_id, resets_id


def reserved(state: State, kind: Kind, data: Reserved, at: Instant) -> None:
    """Set credits aside, or add to what a hold has."""
    account = state.account
    for grant_id, part in by_grant(data.allocation).items():
        grant = known_grant(state, grant_id)
        put_grant(state, replace(grant, remaining=grant.remaining - part, held=grant.held + part))
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
        lines=_held_lines(data),
        created_at=at,
        reference=data.reference,
        metadata=data.metadata,
    )
    create_item(state, hold)
    if data.occupies:
        occupy(account, data.occupies, +1)
    if data.expires_at is not None:
        account.open_holds += 1
        if account.due_at is None or data.expires_at < account.due_at:  # else it cannot be due earlier
            note_due(account, hold.due_at)


def _extended(state: State, data: Reserved) -> None:
    """Let a hold live longer, hold more, and occupy what it is to occupy from here on."""
    hold = known_hold(state, data.reservation_id)
    lines = list(hold.lines)
    for index, parts in _parts_by_line(data.allocation).items():
        line, more = lines[index], sum(part for _, part in parts)
        allocation = _behind(line.allocation, parts)
        lines[index] = replace(
            line, amount=line.amount + more, held=line.held + more, added=line.added + more, allocation=allocation
        )
    occupy(state.account, hold.occupies, -1)
    occupy(state.account, data.occupies, +1)
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


def _held_lines(data: Reserved) -> tuple[HeldLine, ...]:
    if len(data.lines) > 1:
        parts = _parts_by_line(data.allocation)
        return tuple([_held_line(line, parts.get(index, []), data) for index, line in enumerate(data.lines)])
    drawn = [(entry.grant_id, entry.amount) for entry in data.allocation]
    if data.lines:
        return (_held_line(data.lines[0], drawn, data),)
    return (HeldLine(amount=data.amount, held=data.amount, allocation=tuple(drawn)),)


def _held_line(line: ReservedLine, drawn: list[tuple[str, int]], data: Reserved) -> HeldLine:
    return HeldLine(
        amount=line.amount,
        held=line.amount,
        allocation=tuple(drawn),
        operation=line.operation,
        quantity=line.quantity,
        params=line.params,
        price=line.price or data.price,
    )


def split(line: HeldLine, amount: int) -> tuple[Sequence[tuple[str, int]], Sequence[tuple[str, int]]]:
    """Return which parts of a line the first `amount` of what it holds takes, first drawn first, and which are left."""
    if amount >= line.held:
        return line.allocation, ()
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
    return taken, left


def consumed(state: State, kind: Kind, data: Consumed, at: Instant) -> None:
    """Count work that was done, and charge it."""
    account = state.account
    paid = by_grant(data.allocation)
    direct = data.reservation_id is None
    drawn = paid if direct else by_grant([entry for entry in data.allocation if entry.excess])
    for grant_id, amount in paid.items():
        grant = known_grant(state, grant_id)
        fresh = drawn.get(grant_id, 0)
        put_grant(
            state,
            replace(
                grant,
                held=grant.held - amount + fresh,
                remaining=grant.remaining - fresh,
                consumed=grant.consumed + amount,
            ),
        )
    if data.debt_added:
        add_debt(account, data.unit, data.debt_added)
        paid[DEBT] = data.debt_added
    usage = account.usage.get(data.unit, NO_USAGE)
    _use(state, data.unit, moved(usage, used=data.actual, charged=data.charged, parts=paid))
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
    if direct:
        create_item(state, consumption)
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
    hold = known_hold(state, data.reservation_id)
    lines = list(hold.lines)
    taken = _taken_by_line(data.allocation)
    steps = [(each.line, each.charged, each.amount) for each in data.lines]
    for index, charged, done in steps or ((0, data.charged, data.actual),):
        line = lines[index]
        amount = taken.get(index, 0)
        _, left = split(line, amount)
        lines[index] = replace(
            line,
            held=line.held - amount,
            allocation=tuple(left),
            charged=line.charged + charged,
            lapsed=line.lapsed - done if line.lapsed > done else 0,
        )
    final = data.consumption_id == hold.id
    if not final:
        create_item(state, consumption)
    elif kind != "late":
        free_capacity(state.account, hold)
    state.changed["work", hold.id] = replace(
        hold,
        state=hold.state if not final else "settled_late" if kind == "late" else "settled",
        held=lines[0].held if len(lines) == 1 else sum([line.held for line in lines]),
        charged=hold.charged + data.charged,
        unfunded=hold.unfunded + data.unfunded,
        lines=tuple(lines),
        partials=hold.partials if final else hold.partials + 1,
        consumption=consumption if final else hold.consumption,
    )


def _taken_by_line(entries: Iterable[Allocation]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for entry in entries:
        if not entry.excess:
            sums[entry.line] = sums.get(entry.line, 0) + entry.amount
    return sums


def free_capacity(account: Account, hold: Hold) -> None:
    """Give back the capacity of a hold that ends."""
    if hold.occupies:
        occupy(account, hold.occupies, -1)
    if hold.expires_at is not None:
        account.open_holds -= 1


def refunded(state: State, kind: Kind, data: Refunded, _at: Instant) -> None:
    """Give back what a hold held or a consumption charged."""
    if kind == "consumption":
        _refunded_consumption(state, data)
    elif kind == "usage_reset":
        _usage_reset(state, data)
    else:
        hold = known_hold(state, data.reservation_id)
        for grant_id, part in by_grant(data.allocation).items():
            grant = known_grant(state, grant_id)
            put_grant(state, replace(grant, remaining=grant.remaining + part, held=grant.held - part))
        ended = "released" if kind == "release" else "expired"
        if hold.state == "open":
            free_capacity(state.account, hold)
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
        grant = known_grant(state, grant_id)
        put_grant(state, replace(grant, remaining=grant.remaining - part, revoked=grant.revoked + part))
        allow(state.account, data.unit, -part)
        settle_reclaim(state.account, data.unit, part)
    take_repaid(state, data.unit, data.repaid, data.debt_repaid)


def _returned(state: State, data: Refunded) -> None:
    """Carry what was charged back into grants and debt."""
    for grant_id, part in by_grant(data.allocation).items():
        grant = known_grant(state, grant_id)
        put_grant(state, replace(grant, remaining=grant.remaining + part, returned=grant.returned + part))
    if data.debt_refunded:
        add_debt(state.account, data.unit, -data.debt_refunded)


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
