"""Prices broken down: how the rule that an event recorded comes to the amount (SEMANTICS.md section 1)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal, localcontext

from events.facts import Consumed, Data, Reserved
from events.holds import Hold
from events.pricing import PriceRule

View = dict[str, object]
Params = Mapping[str, int | str]

_EXACT = Context(prec=400)
"""More digits than any sum and product of the figures of a rule can have."""


def price_views(data: Data, hold: Hold | None) -> list[View]:
    """Return the price of each priced line of an event; nothing for one that was not priced."""
    views: list[View] = []
    if isinstance(data, Reserved):
        for index, line in enumerate(data.lines):
            rule = line.price or data.price
            if rule is not None:
                views.append(price_view(index, line.operation, line.quantity, line.params, rule, line.amount))
    elif isinstance(data, Consumed):
        if data.price is not None:
            params = data.params or (hold.lines[0].params if hold is not None else {})
            views.append(price_view(0, data.operation, data.quantity, params, data.price, data.actual))
        for line in data.lines:
            rule = line.price or (hold.lines[line.line].price if hold is not None else None)
            if rule is not None:
                params = line.params or (hold.lines[line.line].params if hold is not None else {})
                views.append(price_view(line.line, line.operation, line.quantity, params, rule, line.amount))
    return views


def price_view(
    index: int, operation: str | None, quantity: int | None, params: Params, rule: PriceRule, amount: int
) -> View:
    """Return `ceil((base + each x quantity + sum(per_1k x n / 1000)) x product(multipliers))`, term by term.

    `by_rule` is False when the caller named the amount, so that the rule was not asked.
    """
    with localcontext(_EXACT):
        base, each = Decimal(rule.base), Decimal(rule.each) * (quantity or 1)
        counts: dict[str, View] = {}
        total = base + each
        for name, rate in rule.per_1k.items():
            part = Decimal(rate) * Decimal(str(params.get(name, 0))) / 1000
            total += part
            counts[name] = {"price": rate, "count": params.get(name, 0), "amount": _text(part)}
        factor = Decimal(1)
        multipliers: dict[str, View] = {}
        for name, factors in rule.multipliers.items():
            value = params.get(name)
            chosen = factors.get(str(value), "1")
            factor *= Decimal(chosen)
            multipliers[name] = {"value": value, "factor": chosen}
        exact = total * factor
        rounded = int(exact.to_integral_value(ROUND_CEILING))
    return {
        "line": index,
        "operation": operation,
        "quantity": quantity,
        "catalog": rule.catalog,
        "base": rule.base,
        "each": rule.each,
        "each_total": _text(each),
        "per_1k": counts,
        "sum": _text(total),
        "multipliers": multipliers,
        "factor": _text(factor),
        "exact": _text(exact),
        "price": rounded,
        "amount": amount,
        "by_rule": rounded == amount,
    }


def _text(figure: Decimal) -> str:
    """Return a decimal without an exponent and without needless zeros."""
    text = format(figure, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
