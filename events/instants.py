"""Instants: the one form in which a point in time is written, stored, compared and hashed.

A fact, a state and an answer never hold a datetime object. They hold the text `YYYY-MM-DDTHH:MM:SS.ffffffZ` of
SEMANTICS.md section 1: always UTC, always 27 characters, always six digits after the point. Because the width is
fixed and the largest unit stands first, the order of the texts is the order of the times, so `<`, `max` and a
database index need no parsing, and two equal instants are two equal strings in every hash.

Three doors lead in: `instant` for a clock's datetime, `parse` for what a caller sent (RFC 3339 with an offset), and
`plus` for a duration after a known instant. `moment` is the door out, for the few places that need calendar
arithmetic (`periods`). The years 1970 to 9999 are the range; what falls outside is refused with ValueError, never
wrapped and never clamped. `moment` and `plus` trust the type: an `Instant` was made by one of the three doors.

`plus` is on the path of every hold. The commands of one second mostly add the same few durations, and whole seconds
never touch the fraction, so the shifted second is kept in a small bounded cache and the fraction is carried over as
it is.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final, NewType

Instant = NewType("Instant", str)

YEAR_MIN: Final = 1970
YEAR_MAX: Final = 9999
SECONDS_TEXT_LENGTH: Final = len("YYYY-MM-DDTHH:MM:SS")
SHIFTED_SECONDS_CACHED_MAX: Final = 4096

_RFC_3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_OUT_OF_RANGE: Final = f"an instant lies in the years {YEAR_MIN} to {YEAR_MAX}, in UTC"


def instant(moment: datetime) -> Instant:
    """Return the instant of an aware datetime; ValueError for a naive one and outside the years 1970 to 9999."""
    if moment.tzinfo is not UTC:
        moment = _in_utc(moment)
    if moment.year < YEAR_MIN:
        raise ValueError(_OUT_OF_RANGE)
    # The old formatting operator is the fastest of those measured: isoformat asks the time zone for its offset.
    return Instant(
        "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ"  # noqa: UP031 - see above
        % (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond)
    )


def moment(i: Instant) -> datetime:
    """Return the aware UTC datetime of an instant."""
    return datetime.fromisoformat(i)


def parse(text: str) -> Instant:
    """Return the instant that an RFC 3339 text with an offset names; ValueError, with the reason, for anything else.

    At most six digits after the point: a finer time would have to be rounded, and a caller's instant is never
    changed. A leap second (60) is refused. The year is checked as it is written and again in UTC.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError("write the instant as RFC 3339 with an offset, such as 2026-11-01T09:30:00Z")
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    if fraction is not None and len(fraction) > 6:
        raise ValueError("an instant has at most six digits after the point")
    if int(year) < YEAR_MIN:
        raise ValueError(_OUT_OF_RANGE)
    offset = UTC if sign is None else _offset(sign, int(offset_hours), int(offset_minutes))
    microsecond = 0 if fraction is None else int(fraction.ljust(6, "0"))
    try:
        written = datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond, tzinfo=offset
        )
    except ValueError as error:
        raise ValueError(f"not a date and time of the calendar: {error}") from None
    return instant(written)


def plus(i: Instant, *, seconds: int) -> Instant:
    """Return the instant `seconds` later (earlier when negative), exactly; ValueError outside 1970 to 9999."""
    return Instant(_shifted(i[:SECONDS_TEXT_LENGTH], seconds) + i[SECONDS_TEXT_LENGTH:])


@lru_cache(maxsize=SHIFTED_SECONDS_CACHED_MAX)
def _shifted(whole_second: str, seconds: int) -> str:
    """Return the text of a whole second moved by `seconds`."""
    try:
        moved = datetime.fromisoformat(whole_second) + timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(_OUT_OF_RANGE) from None
    if moved.year < YEAR_MIN:
        raise ValueError(_OUT_OF_RANGE)
    return moved.isoformat()


def just_before(i: Instant) -> Instant:
    """Return the last instant before another one."""
    return instant(moment(i) - timedelta(microseconds=1))


def _in_utc(moment: datetime) -> datetime:
    """Return an aware datetime in UTC."""
    if moment.utcoffset() is None:
        raise ValueError("a datetime without a time zone names no instant")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(_OUT_OF_RANGE) from None


def _offset(sign: str, hours: int, minutes: int) -> timezone:
    """Return the time zone of a numeric offset; RFC 3339 allows 23:59 at most."""
    if hours > 23 or minutes > 59:
        raise ValueError("an offset lies between -23:59 and +23:59")
    distance = timedelta(hours=hours, minutes=minutes)
    return timezone(-distance if sign == "-" else distance)
