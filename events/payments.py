"""Which payment paid which period, for payments of any age (SEMANTICS.md section 7, `renew`).

Each payment is an item twice, found by its reference and by the period that it paid. A payment that was counted before
changes nothing: `AlreadyPaid` says which one it was, so that its first outcome is answered again.
"""

from __future__ import annotations

from events.instants import Instant
from events.record import Record


class Paid(Record, frozen=True, array_like=True, tag="payment"):
    """A payment that was counted: what it paid, and when that was written."""

    id: str
    reference: str | None
    period_start: Instant
    at: Instant


def by_reference(reference: str) -> str:
    """Return the id under which a payment is found by its reference."""
    return f"reference:{reference}"


def by_period(period_start: Instant) -> str:
    """Return the id under which the payment of a period is found."""
    return f"period:{period_start}"
