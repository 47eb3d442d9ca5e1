"""Which catalog was in force when, so that a renewal uses that of its own instant (SEMANTICS.md sections 1 and 7).

A command is judged by the catalog that is in force when it comes. A renewal is decided whenever somebody looks, and
holds from the period's boundary: whoever decides it, however late, must find the same allowance.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from events.catalog import Catalog
from events.instants import Instant


class Activation(NamedTuple):
    """A catalog came into force."""

    at: Instant
    catalog: Catalog


class History:
    """The catalogs that came into force, in that order; it may begin later than the ledger did."""

    __slots__ = ("_entries", "_instants")

    def __init__(self, entries: Iterable[Activation] = ()) -> None:
        self._entries = tuple(entries)
        self._instants = [entry.at for entry in self._entries]

    def at(self, instant: Instant, present: Catalog) -> Catalog:
        """Return the catalog in force at an instant: the oldest known for one before that, else `present` if none is."""
        if not self._entries:
            return present
        return self._entries[max(0, bisect_right(self._instants, instant) - 1)].catalog

    def next_after(self, instant: Instant) -> Instant | None:
        """Return when the next catalog came into force."""
        index = max(1, bisect_right(self._instants, instant))
        return self._instants[index] if index < len(self._instants) else None

    def named(self, version: str) -> Catalog | None:
        """Return the catalog of a version, None when it is not known."""
        return next((entry.catalog for entry in self._entries if entry.catalog.version == version), None)

    def supposing(self, catalog: Catalog, since: Instant) -> History:
        """Return this history as if `catalog` had come into force at an instant, and stayed."""
        return History((*(entry for entry in self._entries if entry.at < since), Activation(since, catalog)))


NO_HISTORY = History()
"""For a ledger that only ever had one catalog."""
