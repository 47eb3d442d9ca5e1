"""The life of a reservation, and direct consumption (SEMANTICS.md section 5).

A reserve prices its lines and draws each from the grants in turn. A step charges what was held first, then follows the
hold's overage for what exceeds it. A direct consumption does both at once and never makes debt.
"""

from __future__ import annotations

from collections.abc import Sequence

from events import affordability, charging
from events.commands import TTL_SECONDS_DEFAULT, TTL_UNSET, Consume, ConsumeDirect, Release, Reserve
from events.credits import give_back
from events.draft import Draft
from events.errors import (
    AlreadyExists,
    CapacityExceeded,
    ExceedsReservation,
    InvalidRequest,
    TooManyHolds,
)
from events.evolve_work import split
from events.facts import FIGURE_MAX, Allocation, Consumed, ConsumedLine, Reserved, ReservedLine
from events.finding import find_hold, require_not_ended
from events.grants import Drawing, allocations, draw
from events.holds import Hold
from events.instants import Instant, plus
from events.late import consume_late
from events.plans import capacity_limits, ensure_open, max_open_holds, overdraft_room, require_active
from events.pricing import PriceRule
from events.quoting import Quote, quote


def reserve(draft: Draft, command: Reserve) -> bool:
    """Set credits aside and occupy capacity; returns True for a free operation, which does nothing."""
    asked = quote(draft.catalog, command, amount=command.amount, unit=command.unit)
    if asked.free:
        return True
    occupies = occupied_by(draft, asked, command.occupies)
    expires_at = _expiry(draft.now, command, asked)
    ensure_open(draft)
    require_active(draft.state.account)
    if command.reservation_id is not None:
        _require_new(draft, command.reservation_id)
    if expires_at is not None:
        require_slot(draft)
    if occupies:
        require_room(draft, occupies)
    allocation = _covered(draft, asked)
    lines, price = _reserved_lines(asked)
    data = Reserved(
        reservation_id=command.reservation_id or draft.new_id,
        unit=asked.unit,
        amount=asked.total,
        allocation=allocation,
        occupies=occupies,
        expires_at=expires_at,
        grace_seconds=asked.grace_seconds,
        overage=command.overage or "draw",
        lines=lines,
        price=price,
        reference=command.reference,
        metadata=command.metadata or {},
    )
    draft.add("hold", data)
    return False


def _reserved_lines(asked: Quote) -> tuple[list[ReservedLine], PriceRule | None]:
    """Return the lines as the event has them; the rule of a single line stands on the event itself."""
    single = len(asked.lines) == 1
    lines = [
        ReservedLine(
            operation=line.operation,
            quantity=line.quantity,
            amount=line.amount,
            params=line.params,
            price=None if single else line.price,
        )
        for line in asked.lines
    ]
    return lines, asked.lines[0].price if single else None


def _expiry(now: Instant, command: Reserve, asked: Quote) -> Instant | None:
    if command.ttl_seconds is None:
        if asked.total:
            raise InvalidRequest.at("ttl_seconds", "may be null only for a hold of no credits")
        return None
    if command.ttl_seconds != TTL_UNSET:
        return plus(now, seconds=command.ttl_seconds)
    return plus(now, seconds=asked.ttl_seconds or TTL_SECONDS_DEFAULT)


def _require_new(draft: Draft, item_id: str) -> None:
    """Refuse an id that a reservation or consumption of the account already has."""
    if draft.state.is_taken(item_id):
        raise AlreadyExists(f"account {draft.state.account.id} already has {item_id}", id=item_id)


def occupied_by(draft: Draft, asked: Quote, added: dict[str, int] | None) -> dict[str, int]:
    """Return what a hold would occupy: what its operations do, and what its body adds."""
    if not added:
        return asked.occupies
    occupies = dict(asked.occupies)
    for name, count in added.items():
        if name not in draft.catalog.capacities:
            raise InvalidRequest.at("occupies", f"the catalog has no capacity {name}")
        occupies[name] = occupies.get(name, 0) + count
    return {name: count for name, count in occupies.items() if count}


def require_slot(draft: Draft) -> None:
    """Refuse one more hold with a TTL when the plan's number of them is open."""
    used, limit = draft.state.account.open_holds, max_open_holds(draft)
    if used >= limit:
        raise TooManyHolds(f"{used} holds are open", used=used, limit=limit)


def require_room(draft: Draft, occupies: dict[str, int]) -> None:
    """Refuse to occupy more of a capacity than the plan allows."""
    limits = capacity_limits(draft)
    for name, count in occupies.items():
        used, limit = draft.state.account.occupied.get(name, 0), limits.get(name)
        if limit is not None and used + count > limit:
            raise CapacityExceeded(
                f"{used} of {limit} {name} are in use, {count} more do not fit",
                capacity=name,
                used=used,
                limit=limit,
                requested=count,
            )
        if used + count > FIGURE_MAX:
            raise InvalidRequest.at("occupies", f"what is occupied of {name} would be above {FIGURE_MAX}")


def _covered(draft: Draft, asked: Quote) -> list[Allocation]:
    """Draw all that is asked for; raises InsufficientCredits with the figures that help."""
    allocation, missing = cover(draft, asked)
    if missing:
        raise affordability.refusal(draft, asked, missing)
    return allocation


def cover(draft: Draft, asked: Quote) -> tuple[list[Allocation], int]:
    """Draw all lines in turn, or without lines the amount; returns the parts and what could not be covered."""
    grants = draft.state.account.grants.values()
    lines = asked.lines
    if len(lines) <= 1:
        parts, missing = draw(grants, asked.unit, asked.total, lines[0].operation if lines else None)
        return allocations(parts), missing
    drawing = Drawing(grants, asked.unit)
    entries: list[Allocation] = []
    missing = 0
    for index, line in enumerate(lines):
        parts, short = drawing.take(line.amount, line.operation)
        missing += short
        entries += allocations(parts, line=index)
    return entries, missing


def release(draft: Draft, command: Release) -> None:
    """End a reservation without a charge."""
    hold = find_hold(draft, command.reservation_id)
    require_not_ended(hold)
    give_back(draft, hold, "release", reason=command.reason)


def consume(draft: Draft, command: Consume) -> None:
    """Charge a step of a reservation; a final one ends it and returns the rest in the same batch.

    What comes after it expired is booked late.
    """
    hold = find_hold(draft, command.reservation_id)
    if hold.state == "expired":
        consume_late(draft, hold, command)
        return
    require_not_ended(hold)
    charges = charging.charges(hold, command, default=hold.held)
    actual = sum([amount for _, amount in charges])
    if actual == 0 and not command.final:
        raise InvalidRequest.at("amount", "must be above 0 unless the step is final")
    held, excess = _split(hold, charges)
    over = sum([amount for _, amount in excess])
    if over and hold.overage == "reject":
        raise ExceedsReservation(
            f"the step is {over} above what reservation {hold.id} holds",
            reservation_id=hold.id,
            held=hold.held,
            requested=actual,
            shortfall=over,
        )
    drawn, debt, unfunded = _fund_excess(draft, hold, excess)
    consumed = charging.consumed_lines(hold, charges, [*held, *drawn], debt)
    data = Consumed(
        reservation_id=hold.id,
        consumption_id=hold.id if command.final else charging.partial_id(draft, hold),
        unit=hold.unit,
        reserved=hold.held,
        actual=actual,
        charged=actual - unfunded,
        debt_added=debt,
        unfunded=unfunded,
        allocation=[*held, *drawn],
        operation=hold.lines[0].operation if len(hold.lines) == 1 else None,
        quantity=charging.quantity(hold, command),
        price=hold.lines[0].price if len(hold.lines) == 1 else None,
        params=command.params or {},
        period=draft.state.account.period_start,
        lines=consumed,
        reference=hold.reference,
    )
    draft.add("settle" if command.final else "partial", data)
    after = draft.state.hold(hold.id)
    if command.final and after is not None and after.held:
        give_back(draft, after, "release")


def _split(
    hold: Hold, charges: Sequence[tuple[int | None, int]]
) -> tuple[list[Allocation], list[tuple[int | None, int]]]:
    """Charge what is held, first drawn first; returns the parts and, for each charge, what exceeds the hold."""
    lines = hold.lines
    entries: list[Allocation] = []
    excess: list[tuple[int | None, int]] = []
    for named, amount in charges:
        missing = amount
        for index in range(len(lines)) if named is None else (named,):
            if missing == 0:
                break
            part = min(missing, lines[index].held)
            if part:
                parts, _ = split(lines[index], part)
                entries += allocations(parts, line=index)
                missing -= part
        if missing:
            excess.append((named, missing))
    return entries, excess


def _fund_excess(
    draft: Draft, hold: Hold, excess: Sequence[tuple[int | None, int]]
) -> tuple[list[Allocation], int, int]:
    """Find credits for what exceeds the hold; returns the parts drawn, the debt made and what stays unfunded."""
    missing = sum([amount for _, amount in excess])
    if missing == 0 or hold.overage == "cap":
        return [], 0, missing
    drawing = Drawing(draft.state.account.grants.values(), hold.unit)
    entries: list[Allocation] = []
    for named, amount in excess:
        operation = None if named is None else hold.lines[named].operation
        parts, short = drawing.take(amount, operation)
        missing -= amount - short
        entries += allocations(parts, line=named or 0, excess=True)
    debt = min(missing, overdraft_room(draft, hold.unit))
    return entries, debt, missing - debt


def consume_direct(draft: Draft, command: ConsumeDirect) -> bool:
    """Check and charge in one step; occupies nothing, and is refused where a hold would find no room."""
    asked = quote(draft.catalog, command, amount=command.amount, unit=command.unit)
    if asked.free:
        return True
    ensure_open(draft)
    account = draft.state.account
    require_active(account)
    if command.consumption_id is not None:
        _require_new(draft, command.consumption_id)
    if asked.occupies:
        require_room(draft, asked.occupies)
    allocation = _covered(draft, asked)
    single = asked.lines[0] if len(asked.lines) == 1 else None
    data = Consumed(
        reservation_id=None,
        consumption_id=command.consumption_id or draft.new_id,
        unit=asked.unit,
        reserved=0,
        actual=asked.total,
        charged=asked.total,
        debt_added=0,
        unfunded=0,
        allocation=allocation,
        operation=single.operation if single else None,
        quantity=single.quantity if single else None,
        price=single.price if single else None,
        params=single.params if single else {},
        period=account.period_start,
        lines=[] if single else _direct_lines(asked),
        reference=command.reference,
        metadata=command.metadata or {},
    )
    draft.add("direct", data)
    return False


def _direct_lines(asked: Quote) -> list[ConsumedLine]:
    return [
        ConsumedLine(
            line=index,
            amount=line.amount,
            charged=line.amount,
            operation=line.operation,
            quantity=line.quantity,
            price=line.price,
            params=line.params,
        )
        for index, line in enumerate(asked.lines)
    ]
