"""Due facts: what time alone brings about (SEMANTICS.md section 2).

A hold that ran out, a period that ends, a grant that ends, a grant that starts: each is a fact of the instant at which
it was due, written when the account is next touched and applied in memory when it is read, so that no boundary depends
on a sweeper. They happen in the order of their instants; at the same instant holds end first, then the period turns with
all that belongs to it, then grants end, then grants start.
"""

from __future__ import annotations

from events.account import Missing, State
from events.credits import activate, end, give_back
from events.draft import Draft
from events.instants import Instant
from events.renewals import due_turn, turn

_HOLD, _TURN, _ENDS, _STARTS = range(4)


def apply_due(draft: Draft) -> None:
    """Let everything happen that is due at the draft's instant; raises Missing when holds must be loaded first."""
    account = draft.state.account
    if account.due_at is None or draft.now < account.due_at:
        return
    _know_holds(draft.state, draft.now)
    while found := sorted(_due(draft)):
        for instant, rank, item_id in found:
            if rank == _TURN:
                _turn(draft)
                break  # what it granted may be due as well
            _happen(draft, instant, rank, item_id)
    account.due_at = _next_due(draft.state)


def _happen(draft: Draft, instant: Instant, rank: int, item_id: str) -> None:
    if rank == _HOLD:
        hold = draft.state.hold(item_id)
        if hold is not None:
            give_back(draft, hold, "hold_expired", at=instant)
        return
    grant = draft.state.account.grants.get(item_id)  # None: drained on the way, by debt that it repaid
    if grant is not None and rank == _ENDS:
        end(draft, grant, at=instant, system=True)
    elif grant is not None:
        activate(draft, grant, at=instant)


def _turn(draft: Draft) -> None:
    to = due_turn(draft)
    if to is not None:
        with draft.under(to.catalog):
            turn(draft, to, system=True)


def _know_holds(state: State, now: Instant) -> None:
    """Make sure that every open hold that ended until `now` is in memory."""
    if state.complete or state.account.open_holds == 0:
        return
    if state.holds_due is None or state.holds_due[0] < now:
        raise Missing(due=now)


def _due(draft: Draft) -> list[tuple[Instant, int, str]]:
    now = draft.now
    found: list[tuple[Instant, int, str]] = []
    if draft.state.account.open_holds:
        for hold in draft.state.open_holds():
            due_at = hold.due_at
            if due_at is not None and due_at <= now:
                found.append((due_at, _HOLD, hold.id))
    to = due_turn(draft)
    if to is not None:
        found.append((to.period.start, _TURN, ""))
    for grant in draft.state.account.grants.values():
        if grant.state in {"scheduled", "active"} and grant.expires_at is not None and grant.expires_at <= now:
            found.append((grant.expires_at, _ENDS, grant.id))
        if grant.state == "scheduled" and grant.starts_at <= now:
            found.append((grant.starts_at, _STARTS, grant.id))
    return found


def _next_due(state: State) -> Instant | None:
    """Return the earliest instant at which anything can be due from here on."""
    turns_at = state.account.turns_at
    candidates: list[Instant] = [] if turns_at is None else [turns_at]
    if state.account.open_holds:
        candidates += [hold.due_at for hold in state.open_holds() if hold.due_at is not None]
        if state.holds_due is not None and state.holds_due[1] is not None:
            candidates.append(state.holds_due[1])
    for grant in state.account.grants.values():
        if grant.state == "scheduled":
            candidates.append(grant.starts_at)
        elif grant.state == "active" and grant.expires_at is not None:
            candidates.append(grant.expires_at)
    return min(candidates, default=None)
