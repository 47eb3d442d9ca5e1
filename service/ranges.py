"""Ranges of time as projections by the hour answer them: whole hours, and what stands beside them in the log.

`from` is included, `to` is not; without them a range is open. The parts of an hour at both ends are folded from the log
itself, so a range is exact to the microsecond; when such a part has too many events, whole hours are asked for.
"""

from __future__ import annotations

from typing import NamedTuple

from events.errors import InvalidRequest
from events.instants import Instant, plus
from projections.usage import hour_of

EDGE_EVENTS_MAX = 20_000
"""How many events are folded for the two ends of a range."""
FIRST = Instant("0000")
LAST = Instant("9999-12-31T23:59:59.999999Z")
HOUR_SECONDS = 3600


class Edge(NamedTuple):
    """A part of an hour."""

    from_: Instant
    to: Instant


class Range(NamedTuple):
    """Whole hours from `first` until `last`, which is excluded, and the parts of hours beside them."""

    first: str
    last: str
    edges: tuple[Edge, ...]


def whole_hours(from_: Instant | None, to: Instant | None) -> Range:
    """Cut a range into whole hours and edges; raises InvalidRequest when it is empty."""
    require_forward(from_, to)
    first = FIRST if from_ is None else _next_hour(from_)
    last = LAST if to is None else Instant(hour_of(to))
    if from_ is not None and to is not None and first > last:
        return Range(first, first, (Edge(from_, to),))
    edges: list[Edge] = []
    if from_ is not None and from_ != first:
        edges.append(Edge(from_, first))
    if to is not None and to != last:
        edges.append(Edge(last, to))
    return Range(first, last, tuple(edges))


def require_forward(from_: Instant | None, to: Instant | None) -> None:
    """Raise InvalidRequest for a range that ends before it begins."""
    if from_ is not None and to is not None and from_ > to:
        raise InvalidRequest.at("to", "is before from")


def too_many() -> InvalidRequest:
    """Return the refusal of a range whose edges have too many events."""
    return InvalidRequest.at("from", f"parts of hours with more than {EDGE_EVENTS_MAX} events: give whole hours")


def hour_after(hour: Instant) -> Instant:
    """Return the instant at which the next hour begins; the last hour that there is ends with the last instant."""
    return LAST if hour_of(hour) == hour_of(LAST) else plus(hour, seconds=HOUR_SECONDS)


def _next_hour(at: Instant) -> Instant:
    hour = Instant(hour_of(at))
    return hour if hour == at else hour_after(hour)
