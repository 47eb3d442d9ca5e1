"""What a body that names operations comes to: its lines with their prices (SEMANTICS.md section 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from events.catalog import Catalog
from events.commands import Line
from events.errors import InvalidRequest, OperationNotFound
from events.facts import FIGURE_MAX
from events.pricing import FigureTooLarge, PriceRule, UnknownParam, cost

GRACE_SECONDS_DEFAULT = 30


class Priced(Protocol):
    """What asks for a price: one operation, several lines, or a bare amount."""

    @property
    def operation(self) -> str | None:
        """The one operation."""
        ...

    @property
    def quantity(self) -> int | None:
        """How much of `operation`; 1 when not given."""
        ...

    @property
    def params(self) -> dict[str, int | str] | None:
        """The params of `operation`."""
        ...

    @property
    def lines(self) -> Sequence[Line] | None:
        """Several operations."""
        ...


class PricedLine(msgspec.Struct, frozen=True, gc=False):
    """One operation with its quantity, what it costs, and what a hold of it occupies and for how long."""

    operation: str
    quantity: int
    params: dict[str, int | str]
    unit: str
    amount: int
    price: PriceRule | None
    free: bool
    occupies: dict[str, int]
    ttl_seconds: int | None
    grace_seconds: int


class Quote(msgspec.Struct, frozen=True, gc=False):
    """What a body asks for, priced: its lines (none for a bare amount), their sum, and what a hold of all of it needs.

    `free` says that every operation in it is free. `ttl_seconds` is the longest of the lines, if one names any. `is_set`:
    it was asked for as `lines`, be it one, so that it is counted in whole sets.
    """

    lines: Sequence[PricedLine]
    unit: str
    total: int
    free: bool
    occupies: dict[str, int]
    ttl_seconds: int | None
    grace_seconds: int
    is_set: bool = False


def quote(catalog: Catalog, asked: Priced, *, amount: int | None = None, unit: str | None = None) -> Quote:
    """Price what is asked for: one operation, several lines, or a bare `amount` of `unit`."""
    if asked.operation is not None:
        line = price_line(catalog, asked.operation, asked.quantity or 1, asked.params or {})
        return Quote((line,), line.unit, line.amount, line.free, line.occupies, line.ttl_seconds, line.grace_seconds)
    if asked.lines is None:
        unit = unit or "credits"
        if unit not in catalog.units:
            raise InvalidRequest.at("unit", f"the catalog has no unit {unit}")
        return bare_amount(unit, amount or 0)
    return _quote_lines(
        [price_line(catalog, line.operation, line.quantity or 1, line.params or {}) for line in asked.lines]
    )


def bare_amount(unit: str, amount: int) -> Quote:
    """Return what an amount comes to that is for no operation."""
    return Quote(
        lines=(),
        unit=unit,
        total=amount,
        free=False,
        occupies={},
        ttl_seconds=None,
        grace_seconds=GRACE_SECONDS_DEFAULT,
    )


def _quote_lines(lines: Sequence[PricedLine]) -> Quote:
    units = sorted({line.unit for line in lines if not line.free})
    if len(units) > 1:
        raise InvalidRequest.at("lines", f"all lines must be of one unit, these are of {', '.join(units)}")
    total = sum(line.amount for line in lines)
    if total > FIGURE_MAX:
        raise InvalidRequest.at("lines", f"the sum is above {FIGURE_MAX}")
    occupies: dict[str, int] = {}
    for line in lines:
        for name, count in line.occupies.items():
            occupies[name] = occupies.get(name, 0) + count
    return Quote(
        lines=lines,
        unit=units[0] if units else "credits",
        total=total,
        free=not units,
        occupies=occupies,
        ttl_seconds=max((line.ttl_seconds for line in lines if line.ttl_seconds), default=None),
        grace_seconds=max(line.grace_seconds for line in lines),
        is_set=True,
    )


def price_line(catalog: Catalog, name: str, quantity: int, params: dict[str, int | str]) -> PricedLine:
    """Price one operation; raises OperationNotFound, and InvalidRequest for a param that it does not know."""
    operation = catalog.operations.get(name)
    if operation is None:
        raise OperationNotFound(f"the catalog has no operation {name}", operation=name)
    try:
        amount = cost(operation.price, quantity, params)
    except (UnknownParam, FigureTooLarge) as error:
        raise InvalidRequest.at("params", str(error)) from error
    occupies = operation.occupies
    if operation.occupies_each:
        occupies = dict(occupies)
        for capacity, each in operation.occupies_each.items():
            occupies[capacity] = occupies.get(capacity, 0) + each * quantity
    return PricedLine(
        operation=name,
        quantity=quantity,
        params=params,
        unit=operation.unit,
        amount=amount,
        price=None if operation.free else operation.price,
        free=operation.free,
        occupies=occupies,
        ttl_seconds=operation.ttl_seconds,
        grace_seconds=operation.grace_seconds,
    )
