"""Work that is reported after its reservation expired (SEMANTICS.md section 5).

Its credits went back when it expired, so what was reserved is drawn again from what is available, line by line, as if
the hold began now; what exceeds the reserved amount follows the hold's overage. Work that was done is never lost: what
nothing pays for is debt, up to the plan's limit, or unfunded. A frozen or closed account books it too.
"""

from __future__ import annotations

from collections.abc import Sequence

from events import charging
from events.charging import Charge
from events.commands import Consume
from events.draft import Draft
from events.errors import ExceedsReservation, InvalidRequest, ReservationExpired
from events.facts import Allocation, Consumed
from events.grants import Drawing, allocations
from events.holds import Hold
from events.plans import overdraft_room, policies


def consume_late(draft: Draft, hold: Hold, command: Consume) -> None:
    """Charge a step of a hold that expired; a final one settles it late, and no other can follow.

    Raises ReservationExpired after the plan's late window, and ExceedsReservation above what had been reserved when the
    hold's overage is `reject`.
    """
    _require_window(draft, hold)
    charges = charging.charges(hold, command, default=hold.lapsed)
    actual = sum(amount for _, amount in charges)
    if actual == 0 and not command.final:
        raise InvalidRequest.at("amount", "must be above 0 unless the step is final")
    reserved, excess = _split(hold, charges)
    over = sum(amount for _, amount in excess)
    if over and hold.overage == "reject":
        raise ExceedsReservation(
            f"the step is {over} above what reservation {hold.id} had reserved",
            reservation_id=hold.id,
            held=hold.held,
            reserved=hold.lapsed,
            requested=actual,
            shortfall=over,
        )
    drawn = _draw(draft, hold, reserved, excess)
    missing = actual - sum(entry.amount for entry in drawn)
    debt = 0 if hold.overage == "cap" else min(missing, overdraft_room(draft, hold.unit))
    single = hold.lines[0] if len(hold.lines) == 1 else None
    data = Consumed(
        reservation_id=hold.id,
        consumption_id=hold.id if command.final else charging.partial_id(draft, hold),
        unit=hold.unit,
        reserved=hold.lapsed,
        actual=actual,
        charged=actual - missing + debt,
        debt_added=debt,
        unfunded=missing - debt,
        allocation=drawn,
        operation=single.operation if single else None,
        quantity=charging.quantity(hold, command),
        price=single.price if single else None,
        params=command.params or {},
        period=draft.state.account.period_start,
        lines=charging.consumed_lines(hold, _by_line([*reserved, *excess]), drawn, debt),
        reference=hold.reference,
    )
    draft.add("late", data)


def _require_window(draft: Draft, hold: Hold) -> None:
    late_until = hold.late_until(policies(draft).late_window_hours)
    if late_until is None or draft.now >= late_until:
        raise ReservationExpired(
            f"reservation {hold.id} expired at {hold.expires_at}, and could be settled until {late_until}",
            reservation_id=hold.id,
            state=hold.state,
            expires_at=hold.expires_at,
            late_until=late_until,
        )


def _split(hold: Hold, charges: Sequence[Charge]) -> tuple[list[tuple[int, int]], list[Charge]]:
    """Return what the charges take of each line's reserved amount, and what of each charge exceeds it."""
    reserved: list[tuple[int, int]] = []
    excess: list[Charge] = []
    for named, amount in charges:
        missing = amount
        for index in range(len(hold.lines)) if named is None else (named,):
            part = min(missing, hold.lines[index].lapsed)
            if part:
                reserved.append((index, part))
                missing -= part
            if missing == 0:
                break
        if missing:
            excess.append((named, missing))
    return reserved, excess


def _draw(draft: Draft, hold: Hold, reserved: Sequence[tuple[int, int]], excess: Sequence[Charge]) -> list[Allocation]:
    """Draw what was reserved for each line's operation, and beyond it, unless the hold is capped, as an excess is."""
    drawing = Drawing(draft.state.account.grants.values(), hold.unit)
    entries: list[Allocation] = []
    for line, amount in [*reserved, *(() if hold.overage == "cap" else excess)]:
        operation = None if line is None else hold.lines[line].operation
        parts, _ = drawing.take(amount, operation)
        entries += allocations(parts, line=line or 0, excess=True)
    return entries


def _by_line(charges: Sequence[Charge]) -> list[Charge]:
    """Return what each line came to; what names none is the first one's."""
    sums: dict[int, int] = {}
    for line, amount in charges:
        sums[line or 0] = sums.get(line or 0, 0) + amount
    return list(sums.items())
