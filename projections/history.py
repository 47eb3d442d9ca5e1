"""History: which events of an account a list may ask for, by terms, so that any page of any list is found at once.

A term says one thing about an event: its kind, its kind together with an operation, the reservation or consumption that
it is about, its reference, or that an admin did it. A filter is a few terms of which an event must have one; an event
passes a query when it passes all filters. The projection keeps the positions of each term, and what it has not seen yet
is looked at in the log itself, by the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from events.facts import (
    Consumed,
    ConsumedKind,
    GrantedKind,
    PlanChangedKind,
    Refunded,
    RefundedKind,
    Reserved,
    ReservedKind,
)
from events.recorded import Event
from projections.admin_audit import action_of

NAME = "history"
VERSION = 1

KINDS: dict[str, tuple[str, ...]] = {
    "granted": get_args(GrantedKind),
    "reserved": get_args(ReservedKind),
    "consumed": get_args(ConsumedKind),
    "refunded": get_args(RefundedKind),
    "plan_changed": get_args(PlanChangedKind),
}
"""The kinds of each type; no kind belongs to two."""

ADMIN = "admin"
"""The term of what an admin did."""


Row = tuple[str, str, int]
"""That an event of an account has a term: the account, the term, and the event's position."""


def terms(event: Event) -> list[str]:
    """Return everything that may be asked for of an event, each term once."""
    data, kind = event.data, f"kind/{event.kind}"
    found = [kind]
    if isinstance(data, Reserved):
        found += [f"{kind}/{line.operation}" for line in data.lines]
        _add_work(found, data.reservation_id)
    elif isinstance(data, Consumed):
        if data.operation is not None:
            found.append(f"{kind}/{data.operation}")
        else:
            found += [f"{kind}/{line.operation}" for line in data.lines if line.operation is not None]
        _add_work(found, data.reservation_id)
        _add_work(found, data.consumption_id)
    elif isinstance(data, Refunded):
        _add_work(found, data.reservation_id)
        _add_work(found, data.consumption_id)
    if data.reference is not None:
        found.append(f"reference/{data.reference}")
    if action_of(event) is not None:
        found.append(ADMIN)
    return list(dict.fromkeys(found))


def _add_work(found: list[str], work_id: str | None) -> None:
    if work_id is None:
        return
    found.append(f"work/{work_id}")
    if ":" in work_id:
        base, _, number = work_id.rpartition(":")
        if base and number.isascii() and number.isdigit():  # the consumption of a partial step
            found.append(f"work/{base}")


def fold(events: Iterable[Event]) -> list[Row]:
    """Return the rows that events add."""
    return [(event.account, term, event.position) for event in events for term in terms(event)]


class Filters:
    """What a list asks for: several filters, each some terms of which an event must have one."""

    def __init__(self, *filters: Sequence[str]) -> None:
        """Take the filters, the one that fewest events pass first."""
        self._filters = [frozenset(each) for each in filters]
        self.first: list[str] | None = sorted(self._filters[0]) if filters else None
        """The terms by which to look, or None when every event passes."""

    def pass_(self, event: Event) -> bool:
        """Say whether an event passes."""
        if not self._filters:
            return True
        has = terms(event)
        return all(not each.isdisjoint(has) for each in self._filters)


def filters_of(
    *,
    type_: str | None = None,
    kind: str | None = None,
    operation: str | None = None,
    reservation: str | None = None,
    reference: str | None = None,
) -> Filters:
    """Return the filters of the transactions list (CONTRACT.md, GET .../transactions)."""
    filters: list[Sequence[str]] = []
    if reservation is not None:
        filters.append([f"work/{reservation}"])
    if reference is not None:
        filters.append([f"reference/{reference}"])
    if type_ is not None or kind is not None or operation is not None:
        kinds = KINDS.get(type_, ()) if type_ is not None else [each for kinds in KINDS.values() for each in kinds]
        wanted = [each for each in kinds if kind is None or each == kind]
        filters.append([f"kind/{each}" if operation is None else f"kind/{each}/{operation}" for each in wanted])
    return Filters(*filters)


def of_kinds(kinds: Iterable[str]) -> Filters:
    """Return the filter that events of some kinds pass."""
    return Filters([f"kind/{kind}" for kind in kinds])
