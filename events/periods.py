"""Periods: the grid of an account's billing periods, computed from its anchor and never stepped.

SEMANTICS.md section 7: period n is `anchor + n x interval` counted from the anchor, clamped to the month's end, half
open. Counting from the anchor matters: 31 January plus one month is 28 February, plus two is 31 March; stepping from
the clamped 28 February would stay on the 28th for good. So a boundary is always computed from the anchor and its
number, and a number from the anchor and an instant, both without a loop, however many periods lie between.

An interval is written as the catalog writes it: `month`, `year`, or a fixed length, `30d` and `90s` (days of 86,400
seconds, UTC knows no others). A fixed length is at most ten years, so that the end of a period is always a date.

The grid goes on before its anchor with negative numbers: `period_at` is total, and answers a negative number for an
instant before the anchor instead of an error, because "before the first period" is an ordinary answer to a caller's
`period_start`.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from events.instants import Instant, instant, moment

DAY_SECONDS: Final = 86_400
FIXED_INTERVAL_SECONDS_MAX: Final = 3_653 * DAY_SECONDS

_FIXED: Final = re.compile(r"([1-9][0-9]{0,9})([ds])")


class Interval(NamedTuple):
    """The length of a period: whole calendar months, or a fixed number of seconds; the other one is 0."""

    months: int
    seconds: int


@lru_cache(maxsize=256)
def parse_interval(text: str) -> Interval:
    """Return the interval that `month`, `year`, `30d` or `90s` names; ValueError for anything else."""
    if text == "month":
        return Interval(months=1, seconds=0)
    if text == "year":
        return Interval(months=12, seconds=0)
    match = _FIXED.fullmatch(text)
    if match is None:
        raise ValueError('an interval is "month", "year", days such as "30d" or seconds such as "90s"')
    seconds = int(match[1]) * (DAY_SECONDS if match[2] == "d" else 1)
    if seconds > FIXED_INTERVAL_SECONDS_MAX:
        raise ValueError(f'an interval is at most ten years, "{FIXED_INTERVAL_SECONDS_MAX // DAY_SECONDS}d"')
    return Interval(months=0, seconds=seconds)


def boundary(anchor: Instant, interval: str, n: int) -> Instant:
    """Return the start of period `n`, which is the end of period `n - 1`.

    ValueError when it lies outside the years 1970 to 9999 or the interval is not one (SEMANTICS.md section 7).
    """
    try:
        return instant(_boundary(moment(anchor), parse_interval(interval), n))
    except OverflowError:
        raise ValueError(f"period {n} from {anchor} by {interval} is not a date") from None


def period_at(anchor: Instant, interval: str, at: Instant) -> int:
    """Return the number of the half-open period that contains `at`; negative before the anchor."""
    length = parse_interval(interval)
    start, inside = moment(anchor), moment(at)
    if length.seconds:
        return (inside - start) // timedelta(seconds=length.seconds)
    n = _months_between(start, inside) // length.months
    # That boundary lies in the month of `at` or before it; only in that month can it be still to come.
    return n if _boundary(start, length, n) <= inside else n - 1


def _boundary(anchor: datetime, length: Interval, n: int) -> datetime:
    """Return `anchor + n x length`, with the day clamped to the end of its month."""
    if length.seconds:
        return anchor + timedelta(seconds=n * length.seconds)
    years, month_index = divmod(anchor.year * 12 + anchor.month - 1 + n * length.months, 12)
    if not 1 <= years <= 9999:
        raise OverflowError(years)
    month = month_index + 1
    return anchor.replace(year=years, month=month, day=min(anchor.day, monthrange(years, month)[1]))


def _months_between(start: datetime, end: datetime) -> int:
    """Return the number of calendar months from the month of `start` to the month of `end`."""
    return (end.year - start.year) * 12 + end.month - start.month
