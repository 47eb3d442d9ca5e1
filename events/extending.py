"""More time, more credits or other capacity for a reservation (SEMANTICS.md section 5)."""

from __future__ import annotations

from events import affordability
from events.commands import TTL_SECONDS_DEFAULT, TTL_SECONDS_MAX, Extend
from events.draft import Draft
from events.errors import AccountFrozen, InvalidRequest, ReservationExpired
from events.facts import Allocation, Reserved
from events.finding import find_hold, require_not_ended
from events.grants import Grant, draw
from events.holds import Hold
from events.instants import Instant, plus
from events.plans import require_account, require_not_closed
from events.steps import require_room


def extend(draft: Draft, command: Extend) -> None:
    """Let an open hold live longer, hold `amount` more, and occupy what `occupies` names instead of what it did.

    Raises ReservationExpired as soon as its time is over, in the grace too, and the refusals of a reserve for what it
    takes more.
    """
    account = require_account(draft)
    require_not_closed(account)
    amount = command.amount or 0
    if amount and account.status == "frozen":
        raise AccountFrozen(f"account {account.id} is frozen", account=account.id)
    hold = find_hold(draft, command.reservation_id)
    _require_time_left(draft, hold)
    expires_at = _expiry(draft.now, hold, command)
    if amount and expires_at is None:
        raise InvalidRequest.at("amount", "a hold without an end can hold no credits")
    occupies = _occupies(draft, hold, command.occupies or {})
    data = Reserved(
        reservation_id=hold.id,
        unit=hold.unit,
        amount=amount,
        allocation=_more(draft, hold, amount),
        occupies=occupies,
        expires_at=expires_at,
        grace_seconds=hold.grace_seconds,
        overage=hold.overage,
        lines=[],
        price=None,
        reference=hold.reference,
        occupied=None if occupies == hold.occupies else hold.occupies,
    )
    draft.add("extend", data)


def _require_time_left(draft: Draft, hold: Hold) -> None:
    if hold.state == "expired" or (hold.state == "open" and hold.expires_at and draft.now >= hold.expires_at):
        raise ReservationExpired(
            f"reservation {hold.id} expired at {hold.expires_at}",
            reservation_id=hold.id,
            state=hold.state,
            expires_at=hold.expires_at,
        )
    require_not_ended(hold)


def _expiry(now: Instant, hold: Hold, command: Extend) -> Instant | None:
    """Return the later end; a time that nobody asked for gives way where it would be too long."""
    if hold.expires_at is None:
        return None
    latest = plus(hold.created_at, seconds=TTL_SECONDS_MAX)
    asked = plus(now, seconds=command.ttl_seconds or TTL_SECONDS_DEFAULT)
    if asked > latest:
        if command.ttl_seconds is None and (command.amount or command.occupies is not None):
            asked = latest
        else:
            message = f"a hold lives at most 24 h, this one until {latest}"
            raise InvalidRequest(
                f"ttl_seconds: {message}",
                errors=[{"loc": ["ttl_seconds"], "msg": message}],
                expires_at=hold.expires_at,
                latest_expires_at=latest,
            )
    return max(hold.expires_at, asked)


def _occupies(draft: Draft, hold: Hold, named: dict[str, int]) -> dict[str, int]:
    """Return what the hold occupies from here on; there must be room for what it occupies more."""
    for name in named:
        if name not in draft.catalog.capacities and name not in hold.occupies:
            raise InvalidRequest.at("occupies", f"the catalog has no capacity {name}")
    more = {name: count - hold.occupies.get(name, 0) for name, count in named.items()}
    require_room(draft, {name: count for name, count in more.items() if count > 0})
    return {name: count for name, count in {**hold.occupies, **named}.items() if count}


def _more(draft: Draft, hold: Hold, amount: int) -> list[Allocation]:
    """Draw more for a hold, in the draw order, from every grant that one of its lines may use.

    What a grant gives belongs to the first of the lines that may use it; so no credit that could pay is passed over.
    """
    first_lines: dict[str | None, int] = {}
    for index, line in enumerate(hold.lines):
        first_lines.setdefault(line.operation, index)
    entries: list[Allocation] = []
    missing = amount
    for grant in draft.state.account.grants.values():
        index = _first_line(grant, first_lines)
        if index is None:
            continue
        parts, missing = draw([grant], hold.unit, missing, hold.lines[index].operation)
        entries += [Allocation(grant_id=grant_id, amount=part, line=index) for grant_id, part in parts]
    if missing:
        raise affordability.refusal_of_more(draft, hold.unit, amount, missing, set(first_lines))
    return entries


def _first_line(grant: Grant, first_lines: dict[str | None, int]) -> int | None:
    """Return the first line whose operation may draw from a grant."""
    if grant.operations is None:
        return 0
    return min((first_lines[name] for name in grant.operations if name in first_lines), default=None)
