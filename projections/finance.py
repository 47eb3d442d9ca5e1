"""Finance: how many credits there are, where they came from and where they went, by kind of grant and cost basis.

Every row keeps the same account of the credits of its kind

    opening + granted - consumed + refunded - expired - revoked = closing

and so does their sum. `granted` is net of what adjustments took and of what was rolled over into another grant. Debt is
a row of its own, below zero: work that no grant paid is consumed from it, and what repays debt is consumed from the grant
that gave it instead. Facts count at the instant at which they hold. Holds move nothing: what is held still belongs to its
grant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from events.facts import Allocation, Consumed, Granted, PlanChanged, Refunded, Reserved
from events.recorded import Event
from projections.usage import hour_of

NAME = "finance"
VERSION = 1
DEBT = "debt"


class Origin(NamedTuple):
    """Of which kind a grant is, and what was paid for it: `currency:amount:credits`, or ''."""

    kind: str
    basis: str


class Key(NamedTuple):
    """What a row is about; `at` is the hour, or of a `late` fact its instant."""

    at: str
    late: bool
    unit: str
    kind: str
    basis: str


class Movements(NamedTuple):
    """What moved, in the unit's smallest step."""

    granted: int = 0
    consumed: int = 0
    refunded: int = 0
    expired: int = 0
    revoked: int = 0
    unfunded: int = 0

    def plus(self, other: Movements) -> Movements:
        """Return both together."""
        return Movements(
            self.granted + other.granted,
            self.consumed + other.consumed,
            self.refunded + other.refunded,
            self.expired + other.expired,
            self.revoked + other.revoked,
            self.unfunded + other.unfunded,
        )

    @property
    def change(self) -> int:
        """By how much the credits became more."""
        return self.granted - self.consumed + self.refunded - self.expired - self.revoked


_GRANTED, _CONSUMED, _REFUNDED, _EXPIRED, _REVOKED, _UNFUNDED = range(len(Movements._fields))
OF_DEBT = Origin(DEBT, "")
Origins = dict[tuple[str, str], Origin]
"""The origin of grants by account and id."""


class Fold(NamedTuple):
    """What events add to each row, and the grants that are new."""

    rows: dict[Key, Movements]
    grants: Origins


def needed(events: Iterable[Event]) -> dict[tuple[str, str], None]:
    """Return the grants that events speak of, by account and id, each once."""
    found: dict[tuple[str, str], None] = {}
    for event in events:
        data, account = event.data, event.account
        if isinstance(data, Reserved | PlanChanged):
            continue
        for entry in data.allocation:
            found[account, entry.grant_id] = None
        if isinstance(data, Consumed):
            continue
        for entry in (*data.repaid, *_reclaimed(data)):
            found[account, entry.grant_id] = None
        if isinstance(data, Granted):
            for grant_id in (data.grant_id, data.source_grant_id):
                if grant_id is not None:
                    found[account, grant_id] = None
    return found


def fold(events: Iterable[Event], known: Mapping[tuple[str, str], Origin]) -> Fold:
    """Return what events add; `known` has the origin of every grant that they speak of and do not make."""
    tally = _Tally(dict(known))
    for event in events:
        tally.enter(event)
    return Fold({key: Movements(*sums) for key, sums in tally.sums.items()}, tally.made)


def _reclaimed(data: Granted | Refunded) -> list[Allocation]:
    return getattr(data, "reclaimed", [])


def is_late(event: Event) -> bool:
    """Say whether a fact was written in a later hour than the one in which it holds."""
    return hour_of(event.effective_at) != hour_of(event.recorded_at)


class _Tally:
    """The rows in the making."""

    def __init__(self, origins: Origins) -> None:
        self.sums: dict[Key, list[int]] = {}
        self.made: Origins = {}
        self._origins = origins
        self._account = ""
        self._unit = ""
        self._at = ""
        self._late = False

    def enter(self, event: Event) -> None:
        """Carry an event into the rows."""
        data = event.data
        if not isinstance(data, Granted | Consumed | Refunded):
            return
        self._account, self._unit, self._late = event.account, data.unit, is_late(event)
        self._at = event.effective_at if self._late else hour_of(event.effective_at)
        match data:
            case Granted():
                self._granted(event.kind, data)
            case Consumed():
                for entry in data.allocation:
                    self._move(entry.grant_id, _CONSUMED, entry.amount)
                self._debt(_CONSUMED, data.debt_added)
                self._debt(_UNFUNDED, data.unfunded)
            case Refunded():
                self._refunded(event.kind, data)

    def _granted(self, kind: str, data: Granted) -> None:
        if data.grant_id is None:  # an adjustment that takes
            self._give(data.allocation)
            self._debt(_GRANTED, -data.debt_added)
        elif kind == "expired":
            self._move(data.grant_id, _EXPIRED, -data.amount)
        elif kind == "revoked":
            self._move(data.grant_id, _REVOKED, -data.amount)
        elif kind != "activated":
            self._give(data.allocation)  # what is rolled over
            self._make(kind, data, data.grant_id)
            self._move(data.grant_id, _GRANTED, data.amount)
        self._repaid(data.repaid)

    def _make(self, kind: str, data: Granted, grant_id: str) -> None:
        source = self._origins.get((self._account, data.source_grant_id or ""))
        if data.cost_basis is None:
            basis = ""
        elif source is not None and source.basis:
            basis = source.basis  # a part of what was paid for the grant that it goes back to
        else:
            basis = f"{data.cost_basis.currency}:{data.cost_basis.amount}:{data.amount}"
        origin = Origin(kind, basis)
        self._origins[self._account, grant_id] = self.made[self._account, grant_id] = origin

    def _refunded(self, kind: str, data: Refunded) -> None:
        if kind in {"consumption", "usage_reset"}:
            for entry in data.allocation:
                self._move(entry.grant_id, _REFUNDED, entry.amount)
            self._debt(_REFUNDED, data.debt_refunded)
            self._debt(_UNFUNDED, -max(0, data.usage - data.amount))
        for entry in _reclaimed(data):
            self._move(entry.grant_id, _REVOKED, entry.amount)
        self._repaid(data.repaid)

    def _give(self, entries: Iterable[Allocation]) -> None:
        for entry in entries:
            self._move(entry.grant_id, _GRANTED, -entry.amount)

    def _repaid(self, entries: Iterable[Allocation]) -> None:
        for entry in entries:
            self._move(entry.grant_id, _CONSUMED, entry.amount)
            self._debt(_CONSUMED, -entry.amount)

    def _move(self, grant_id: str, column: int, amount: int) -> None:
        origin = self._origins.get((self._account, grant_id))
        if origin is None:
            raise LookupError(f"account {self._account}: an event speaks of grant {grant_id}, which was never made")
        self._add(origin, column, amount)

    def _debt(self, column: int, amount: int) -> None:
        if amount:
            self._add(OF_DEBT, column, amount)

    def _add(self, origin: Origin, column: int, amount: int) -> None:
        key = Key(self._at, self._late, self._unit, origin.kind, origin.basis)
        sums = self.sums.get(key)
        if sums is None:
            sums = self.sums[key] = [0] * len(Movements._fields)
        sums[column] += amount


def basis_view(basis: str) -> dict[str, object] | None:
    """Return a cost basis as answers show it: what was paid for how many credits."""
    if not basis:
        return None
    currency, amount, bought = basis.rsplit(":", 2)
    return {"amount": int(amount), "currency": currency, "credits": int(bought)}
