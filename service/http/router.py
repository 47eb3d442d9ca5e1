"""The way from a path to what serves it: a tree of segments, walked once for each request.

The path is cut at its slashes before anything is decoded, so an encoded slash is a character of an id, for which the
ledger then answers. A segment that is no UTF-8 names nothing and is not found. There is one tree for all methods:
that a path exists decides between "no such page" and "not with this method".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from urllib.parse import unquote

Target = TypeVar("Target")


class Place(Generic[Target]):
    """One path of the table: what stands there, by method, and the segments that go on from it."""

    __slots__ = ("field", "literals", "targets", "variable")

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}
        self.literals: dict[str, Place[Target]] = {}
        self.variable: Place[Target] | None = None
        self.field = ""

    @property
    def methods(self) -> str:
        """The methods that the path takes, as the header `Allow` has them."""
        implied = ["HEAD", "OPTIONS"] if "GET" in self.targets else ["OPTIONS"]
        return ", ".join([*self.targets, *implied])


class Router(Generic[Target]):
    """Finds places by path; `{name}` in a pattern stands for one segment, which becomes the field `name`."""

    def __init__(self) -> None:
        self._root: Place[Target] = Place()

    def add(self, method: str, pattern: str, target: Target) -> None:
        """Put a target at a method and a pattern; raises ValueError when something stands there."""
        place = self._root
        for segment in pattern.split("/")[1:]:
            place = _variable(place, segment[1:-1]) if segment.startswith("{") else _literal(place, segment)
        if method in place.targets:
            raise ValueError(f"{method} {pattern} stands twice")
        place.targets[method] = target

    def find(self, raw_path: str) -> tuple[Place[Target], dict[str, str]] | None:
        """Return the place of a path as it was sent, and the fields that stand in it; None when there is none."""
        place = self._root
        fields: dict[str, str] = {}
        for segment in _segments(raw_path):
            onward = place.literals.get(segment)
            if onward is None:
                onward = place.variable
                if onward is None or not segment:
                    return None
                value = _decoded(segment)
                if value is None:
                    return None
                fields[place.field] = value
            place = onward
        return (place, fields) if place.targets else None


def _segments(raw_path: str) -> Iterator[str]:
    segments = iter(raw_path.split("/"))
    next(segments)  # what stands before the first slash
    return segments


def _decoded(segment: str) -> str | None:
    """Return a segment's text, or None for what is no percent-encoded UTF-8."""
    if not segment.isascii():
        return None
    if "%" not in segment:
        return segment
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return None


def _literal(place: Place[Target], segment: str) -> Place[Target]:
    return place.literals.setdefault(segment, Place())


def _variable(place: Place[Target], field: str) -> Place[Target]:
    """Return the place behind a variable segment, whose name must be the same in all patterns that share it."""
    if place.variable is None:
        place.variable, place.field = Place(), field
    if place.field != field:
        raise ValueError(f"one segment is called {place.field} and {field}")
    return place.variable
