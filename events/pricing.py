"""Prices: what one line costs under a rule, and how much of it a balance can pay for.

SEMANTICS.md section 1 gives the one formula,

    ceil((base + each x quantity + sum(per_1k[p] x n / 1000)) x product(multipliers))

rounded up once, at the end. The figures of a rule are decimal strings, because a binary float has no 0.1 and a
decimal context has a last digit; here they become pairs of integers, digits and a power of ten, so that every sum
and product is exact whatever the length, and the only division is the rounding itself. The decimals are parsed once:
a small bounded cache keeps the few strings that a catalog uses.

A `PriceRule` is all that a price needs. A hold pins the rule with which it was made and an event records it, so a
later catalog changes no price that was promised, and replay needs no catalog at all.

`params` name what a request has beside its quantity. For a `per_1k` param the value is a count: an integer or a
decimal string, not negative. For a multiplier it is the name of one of its values, as the catalog spells it; a
number is not converted to a name. A count left out is 0, a multiplier left out is 1, and whatever the operation does
not know is refused: a typing error must never buy the cheap variant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from events.record import Record

FIGURE_MAX: Final = 2**53 - 1
QUANTITY_MAX: Final = 1_000_000_000
WHOLE_DIGITS_MAX: Final = 18
FRACTION_DIGITS_MAX: Final = 12
DECIMALS_CACHED_MAX: Final = 4096

_DECIMAL: Final = re.compile(rf"(0|[1-9][0-9]{{0,{WHOLE_DIGITS_MAX - 1}}})(?:\.([0-9]{{1,{FRACTION_DIGITS_MAX}}}))?")
_A_COUNT: Final = ("a count: an integer or a decimal string, from 0",)


class PriceRule(Record, frozen=True, kw_only=True):
    """The resolved price rule of one operation as a hold pins it and an event records it."""

    base: str = "0"
    catalog: str
    each: str = "0"
    multipliers: dict[str, dict[str, str]] = {}
    per_1k: dict[str, str] = {}


class UnknownParam(ValueError):
    """The param {param} is not known to the operation with this value; allowed is {allowed}."""

    def __init__(self, param: str, allowed: tuple[str, ...]) -> None:
        """Name the param; `allowed` lists the params when its name is unknown, the values when its value is."""
        self.param = param
        self.allowed = allowed
        super().__init__((self.__doc__ or "").format(param=param, allowed=", ".join(allowed) or "no param"))


class FigureTooLarge(ValueError):
    """A figure of {figure} is above the largest amount, 9007199254740991."""

    def __init__(self, figure: int) -> None:
        """Keep the amount that was computed, in the unit's smallest step."""
        self.figure = figure
        super().__init__((self.__doc__ or "").format(figure=figure))


def cost(rule: PriceRule, quantity: int = 1, params: Mapping[str, int | str] | None = None) -> int:
    """Return the price of one line in the unit's smallest step (SEMANTICS.md section 1).

    Raises UnknownParam, FigureTooLarge, and ValueError for a quantity outside 1 to 10^9.
    """
    if not 1 <= quantity <= QUANTITY_MAX:
        raise ValueError(f"a quantity is an integer from 1 to {QUANTITY_MAX}")
    fixed, each, scale, factor = _terms(rule, params)
    figure = -((-(fixed + each * quantity) * factor) // 10**scale)
    if figure > FIGURE_MAX:
        raise FigureTooLarge(figure)
    return figure


def affordable(rule: PriceRule, available: int, params: Mapping[str, int | str] | None = None) -> int | None:
    """Return the largest quantity, 0 to 10^9, whose cost is at most `available`; None when every quantity costs 0.

    A price that does not depend on the quantity answers 10^9 when it can be paid and 0 when it cannot. The cost is
    the ceiling of a rational, and a ceiling is at most an integer exactly when the rational is; so the answer is one
    exact division, not a search. Raises UnknownParam.
    """
    fixed, each, scale, factor = _terms(rule, params)
    if factor == 0 or (fixed == 0 and each == 0):
        return None
    left = available * 10**scale // factor - fixed
    if left < 0:
        return 0
    return QUANTITY_MAX if each == 0 else min(left // each, QUANTITY_MAX)


def canonical_decimal(text: str) -> str:
    """Return a non-negative decimal string in its one canonical form ("1.50" is "1.5"); ValueError for anything else.

    At most 18 digits before and 12 after the point, no sign, no exponent, no needless leading zero.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(
            f'a decimal is a string such as "0.5", not negative, at most {WHOLE_DIGITS_MAX} digits before '
            f"and {FRACTION_DIGITS_MAX} after the point"
        )
    fraction = (match[2] or "").rstrip("0")
    return f"{match[1]}.{fraction}" if fraction else match[1]


def _terms(rule: PriceRule, params: Mapping[str, int | str] | None) -> tuple[int, int, int, int]:
    """Return `fixed, each, scale, factor`, integers: the price is (fixed + each x quantity) x factor / 10^scale."""
    fixed, fixed_scale = _digits(rule.base)
    each, scale = _digits(rule.each)
    factor, factor_scale = 1, 0
    for param, value in params.items() if params else ():
        if param in rule.per_1k:
            count, count_scale = _count(param, value)
            step, step_scale = _digits(rule.per_1k[param])
            fixed, fixed_scale = _sum(fixed, fixed_scale, count * step, count_scale + step_scale + 3)
        else:
            multiplier, multiplier_scale = _digits(_multiplier(rule, param, value))
            factor *= multiplier
            factor_scale += multiplier_scale
    if fixed_scale < scale:
        fixed *= 10 ** (scale - fixed_scale)
    elif fixed_scale > scale:
        each *= 10 ** (fixed_scale - scale)
        scale = fixed_scale
    return fixed, each, scale + factor_scale, factor


def _sum(left: int, left_scale: int, right: int, right_scale: int) -> tuple[int, int]:
    """Return the exact sum of two decimals, each given as digits and the number of them after the point."""
    scale = max(left_scale, right_scale)
    return left * 10 ** (scale - left_scale) + right * 10 ** (scale - right_scale), scale


def _count(param: str, value: int | str) -> tuple[int, int]:
    """Return the digits and scale of a count that a caller sent; UnknownParam for anything but a count."""
    if isinstance(value, str):
        # The cache of parsed decimals is for the catalog's strings: a caller's count may be any, and is parsed apart.
        if _DECIMAL.fullmatch(value):
            return _split(value)
    elif type(value) is int and 0 <= value <= FIGURE_MAX:
        return value, 0
    raise UnknownParam(param, _A_COUNT)


def _multiplier(rule: PriceRule, param: str, value: int | str) -> str:
    """Return the factor that a named value of a multiplier stands for; UnknownParam when there is none."""
    values = rule.multipliers.get(param)
    if values is None:
        raise UnknownParam(param, tuple(sorted({*rule.per_1k, *rule.multipliers})))
    if not isinstance(value, str) or value not in values:
        raise UnknownParam(param, tuple(sorted(values)))
    return values[value]


def _split(text: str) -> tuple[int, int]:
    """Return a decimal string as an integer and the number of its digits after the point."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction), len(fraction)


@lru_cache(maxsize=DECIMALS_CACHED_MAX)
def _digits(text: str) -> tuple[int, int]:
    """Return the same as `_split`, remembered: for the few strings of the rules in force."""
    return _split(text)
