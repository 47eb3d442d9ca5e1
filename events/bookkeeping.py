"""How an account's figures follow its grants, debt, holds and capacities; what the handlers of `evolve` share."""

from __future__ import annotations

from bisect import bisect

from msgspec.structs import replace

from events.account import ZERO, Account, State
from events.facts import Allocation, Figures
from events.grants import BONUS_KINDS, Grant, by_grant, draw_order
from events.holds import Consumption, Hold
from events.instants import Instant
from events.spending import NO_USAGE


def _contribution(grant: Grant) -> tuple[int, int, int, int, int]:
    """Return what a grant adds to available, reserved, scheduled, scoped, bonus."""
    if grant.state == "active":
        if grant.operations is not None:
            return 0, grant.held, 0, grant.remaining, 0
        return grant.remaining, grant.held, 0, 0, grant.remaining if grant.kind in BONUS_KINDS else 0
    return 0, grant.held, grant.remaining if grant.state == "scheduled" else 0, 0, 0


_NOTHING = (0, 0, 0, 0, 0)


def put_grant(state: State, new: Grant) -> None:
    """Replace a grant and carry the difference into the figures of its unit."""
    account = state.account
    grants = account.grants
    old = grants.get(new.id)
    if (
        old is not None
        and old.state == new.state == "active"
        and new.operations is None
        and (new.remaining > 0 or new.held > 0)
    ):
        _move(account, new, new.remaining - old.remaining, new.held - old.held)
        grants[new.id] = new
        return
    was = _contribution(old) if old is not None else _NOTHING
    now = _contribution(new)
    if was != now:
        f = account.figures.get(new.unit, ZERO)
        account.figures[new.unit] = Figures(
            available=f.available + now[0] - was[0],
            reserved=f.reserved + now[1] - was[1],
            debt=f.debt,
            scheduled=f.scheduled + now[2] - was[2],
            scoped=f.scoped + now[3] - was[3],
            bonus=f.bonus + now[4] - was[4],
        )
    if not new.live:
        grants.pop(new.id, None)
        state.changed["grant", new.id] = new
        return
    if old is None:
        account.grants = _with(grants, new)
    else:
        grants[new.id] = new
    if new.state == "active" and (old is None or old.state != "active"):
        note_due(account, new.expires_at)  # new, activated, or filled again by a refund long after it was drained


def _with(grants: dict[str, Grant], new: Grant) -> dict[str, Grant]:
    """Put one more grant at its place in the draw order, in which a grant never moves."""
    entries = list(grants.items())
    entries.insert(bisect(entries, draw_order(new), key=lambda entry: draw_order(entry[1])), (new.id, new))
    return dict(entries)


def _move(account: Account, grant: Grant, remaining: int, held: int) -> None:
    """Carry what a general grant that stays active gained or lost into the figures of its unit, the commonest change."""
    f = account.figures[grant.unit]
    account.figures[grant.unit] = Figures(
        available=f.available + remaining,
        reserved=f.reserved + held,
        debt=f.debt,
        scheduled=f.scheduled,
        scoped=f.scoped,
        bonus=f.bonus + remaining if grant.kind in BONUS_KINDS else f.bonus,
    )


def add_debt(account: Account, unit: str, amount: int) -> None:
    """Add to the debt of a unit, or with a negative amount take from it."""
    figures = account.figures.get(unit, ZERO)
    account.figures[unit] = replace(figures, debt=figures.debt + amount)


def known_grant(state: State, grant_id: str) -> Grant:
    """Return the grant that an event names; raises LookupError when there is none, and Missing."""
    grant = state.account.grants.get(grant_id) or state.grant(grant_id)
    if grant is None:
        raise LookupError(f"account {state.account.id}: the event names grant {grant_id}, which does not exist")
    return grant


def known_hold(state: State, hold_id: str | None) -> Hold:
    """Return the hold that an event names; raises LookupError when there is none, and Missing."""
    hold = state.hold(hold_id) if hold_id is not None else None
    if hold is None:
        raise LookupError(f"account {state.account.id}: the event names hold {hold_id}, which does not exist")
    return hold


def take_repaid(state: State, unit: str, repaid: list[Allocation], amount: int) -> None:
    """Take what repaid debt from the grants that gave it."""
    for grant_id, part in by_grant(repaid).items():
        grant = known_grant(state, grant_id)
        put_grant(state, replace(grant, remaining=grant.remaining - part, repaid=grant.repaid + part))
    if amount:
        add_debt(state.account, unit, -amount)


def create_item(state: State, item: Hold | Consumption) -> None:
    """Let an item be known that did not exist before."""
    state.changed["work", item.id] = item
    state.created.add(("work", item.id))


def occupy(account: Account, occupies: dict[str, int], sign: int) -> None:
    """Occupy capacities, or with the sign -1 let go of them."""
    for name, count in occupies.items():
        used = account.occupied.get(name, 0) + sign * count
        if used:
            account.occupied[name] = used
        else:
            account.occupied.pop(name, None)


def note_due(account: Account, at: Instant | None) -> None:
    """Remember that something is due at an instant."""
    if at is not None and (account.due_at is None or at < account.due_at):
        account.due_at = at


def allow(account: Account, unit: str, amount: int) -> None:
    """Count allowance of the present period that was granted, or with a negative amount taken back."""
    usage = account.usage.get(unit, NO_USAGE)
    account.usage[unit] = replace(usage, allowed=usage.allowed + amount)


def settle_reclaim(account: Account, unit: str, amount: int) -> None:
    """Lower what is still to be reclaimed of a unit."""
    left = account.reclaim.get(unit, 0) - amount
    others = {name: open_ for name, open_ in account.reclaim.items() if name != unit}
    account.reclaim = {**others, unit: left} if left else others
