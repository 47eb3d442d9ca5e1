"""What a step of a reservation comes to, line by line, whether it comes in time or late (SEMANTICS.md section 5)."""

from __future__ import annotations

from collections.abc import Sequence

from events.commands import Consume
from events.draft import Draft
from events.errors import InvalidRequest
from events.facts import Allocation, ConsumedLine
from events.holds import Hold
from events.pricing import FigureTooLarge, UnknownParam, cost

Charge = tuple[int | None, int]
"""An amount, and the line that it is charged to; None when the step names none."""


def partial_id(draft: Draft, hold: Hold) -> str:
    """Return the id of the next partial step; a number that a caller took for something else is passed over."""
    number = hold.partials + 1
    while draft.state.is_taken(f"{hold.id}:{number}"):
        number += 1
    return f"{hold.id}:{number}"


def quantity(hold: Hold, command: Consume) -> int | None:
    """Return how much a step did of the one operation that its hold is for."""
    return (
        command.quantity if command.quantity is not None else hold.lines[0].quantity if len(hold.lines) == 1 else None
    )


def charges(hold: Hold, command: Consume, *, default: int) -> list[Charge]:
    """Return what a step charges, as (line or None when none is named, amount); `default` when it names nothing."""
    if command.lines is not None:
        return [
            (charge.line, _line_charge(hold, charge.line, charge.amount, charge.quantity, charge.params))
            for charge in command.lines
        ]
    if command.quantity is not None:
        if len(hold.lines) > 1:
            raise InvalidRequest.at("quantity", "the reservation has several lines; say which with `lines`")
        return [(0, _line_charge(hold, 0, None, command.quantity, command.params))]
    return [(None, default if command.amount is None else command.amount)]


def _line_charge(
    hold: Hold, index: int, amount: int | None, quantity: int | None, params: dict[str, int | str] | None
) -> int:
    if index >= len(hold.lines):
        raise InvalidRequest.at("lines", f"reservation {hold.id} has no line {index}")
    line = hold.lines[index]
    if amount is not None:
        return amount
    if line.price is None:
        raise InvalidRequest.at("quantity", f"line {index} of reservation {hold.id} has no price; give an amount")
    try:
        return cost(line.price, quantity or 1, line.params if params is None else params)
    except (UnknownParam, FigureTooLarge) as error:
        raise InvalidRequest.at("params", str(error)) from error


def consumed_lines(
    hold: Hold, charged_to: Sequence[Charge], entries: Sequence[Allocation], debt: int
) -> list[ConsumedLine]:
    """Say what each line of a hold with several came to; what exceeds the hold and names none is the first one's."""
    if len(hold.lines) == 1:
        return []
    charged: dict[int, int] = {}
    for entry in entries:
        charged[entry.line] = charged.get(entry.line, 0) + entry.amount
    amounts = {line: amount for line, amount in charged_to if line is not None}
    if not amounts:
        amounts = dict(charged)
        over = sum(amount for _, amount in charged_to) - sum(charged.values())
        if over:
            amounts[0] = amounts.get(0, 0) + over
    lines: list[ConsumedLine] = []
    for index, amount in sorted(amounts.items()):
        paid = charged.get(index, 0)
        owed = min(debt, amount - paid)
        debt -= owed
        operation = hold.lines[index].operation
        lines.append(ConsumedLine(line=index, amount=amount, charged=paid + owed, operation=operation))
    return lines
