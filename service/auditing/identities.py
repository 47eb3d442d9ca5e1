"""What must hold after every event: the identities of SEMANTICS.md section 3, and that the event tells what happened.

Each function returns in words what does not hold, None when all does.
"""

from __future__ import annotations

import msgspec

from events.account import ZERO, State
from events.facts import Allocation, Data, Figures, Granted, PlanChanged, Refunded
from events.grants import BONUS_KINDS, Grant
from events.recorded import Event


def wrong_balance(event: Event, before: dict[str, Figures], after: dict[str, Figures]) -> str | None:
    """Compare the balance and the delta of an event with what its account had before, and has after the replay of it."""
    if event.balance != after:
        unit, told, found = _first_difference(event.balance, after)
        return f"the balance of {unit} is told as {told}, the replay comes to {found}"
    deltas = event.delta
    for unit, balance in after.items():
        was = before.get(unit, ZERO)
        delta = deltas.get(unit)
        if delta is None or (
            was.available + delta.available != balance.available
            or was.reserved + delta.reserved != balance.reserved
            or was.debt + delta.debt != balance.debt
            or was.scheduled + delta.scheduled != balance.scheduled
            or was.scoped + delta.scoped != balance.scoped
            or was.bonus + delta.bonus != balance.bonus
        ):
            return f"the delta of {unit} is not the change of its balance"
    if len(deltas) != len(after):
        return "the delta names a unit that the balance does not"
    return None


def broken_identity(state: State, data: Data) -> str | None:
    """Check that each grant that an event changed adds up, and that the balance is the sum of the grants.

    The other grants are the same objects that they were when they were last checked.
    """
    account = state.account
    grants = account.grants
    for grant_id in _moved(data):
        grant = grants.get(grant_id) or state.known.get(("grant", grant_id))
        if isinstance(grant, Grant) and _imbalance(grant):
            return f"grant {grant.id} does not add up: {_told(grant)}"
    wrong = _wrong_sums(account.figures, grants)
    if wrong is not None:
        return wrong
    if account.open_holds < 0 or (account.occupied and min(account.occupied.values()) < 0):
        return "less than nothing is occupied"
    for unit, usage in account.usage.items():
        if usage.used < 0 or usage.charged < 0:
            return f"the usage of {unit} is below 0"
    return None


def _wrong_sums(balance: dict[str, Figures], grants: dict[str, Grant]) -> str | None:
    for unit, f in balance.items():
        available = reserved = scheduled = scoped = bonus = 0
        for grant in grants.values():
            if grant.unit != unit:
                continue
            reserved += grant.held
            if grant.state == "active":
                if grant.operations is not None:
                    scoped += grant.remaining
                else:
                    available += grant.remaining
                    if grant.kind in BONUS_KINDS:
                        bonus += grant.remaining
            elif grant.state == "scheduled":
                scheduled += grant.remaining
        if (
            f.available != available
            or f.reserved != reserved
            or f.scheduled != scheduled
            or f.scoped != scoped
            or f.bonus != bonus
        ):
            return f"the balance of {unit} is not the sum of the grants"
        if f.debt and (f.debt < 0 or f.available):
            return f"{f.debt} {unit} of debt beside {f.available} available"
    return None


def _moved(data: Data) -> list[str]:
    """Return the grants that an event changes."""
    if type(data) is PlanChanged:
        return []
    assert not isinstance(data, PlanChanged)  # noqa: S101 - for the type checker: nobody derives from facts
    entries: list[Allocation] = data.allocation
    if type(data) is Granted:
        ids = [entry.grant_id for entry in (*entries, *data.repaid)]
        return ids if data.grant_id is None else [*ids, data.grant_id]
    if type(data) is Refunded:
        entries = [*entries, *data.repaid, *data.reclaimed]
    return [entry.grant_id for entry in entries]


def _imbalance(grant: Grant) -> bool:
    left = grant.granted + grant.returned - grant.consumed - grant.adjusted - grant.repaid - grant.rolled_over
    left -= grant.expired + grant.revoked + grant.remaining + grant.held
    return left != 0 or grant.remaining < 0 or grant.held < 0


_COUNTERS = (
    *("granted", "returned", "consumed", "adjusted", "repaid", "rolled_over", "expired", "revoked"),
    *("remaining", "held"),
)


def _told(grant: Grant) -> str:
    return ", ".join(f"{name} {getattr(grant, name)}" for name in _COUNTERS if getattr(grant, name))


def _first_difference(told: dict[str, Figures], found: dict[str, Figures]) -> tuple[str, object, object]:
    for unit in sorted({*told, *found}):
        if told.get(unit) != found.get(unit):
            return unit, _shown(told.get(unit)), _shown(found.get(unit))
    return "all units", told, found


def _shown(figures: Figures | None) -> object:
    return None if figures is None else msgspec.to_builtins(figures)
