"""`change_plan`: up at once, down at the period's end or at once, limits by name (SEMANTICS.md section 7).

For each unit, G is what was granted of the plan in this period net of take-backs (`allowed` less an open `reclaim`), and
A is the new allowance. A change at once brings G to A where it is below; where it is above, a downgrade and an override
do. So whatever the order of changes, a period never grants more than the largest allowance that it saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from events.account import NO_USAGE, Account
from events.commands import ChangePlan
from events.credits import is_of_this_period, revoke, take_back
from events.draft import Draft
from events.errors import InvalidRequest
from events.facts import AuditValue, Limits, Payment, Terms
from events.grants import draw
from events.payments import Paid, by_reference
from events.periods import boundary
from events.plans import (
    Period,
    ensure_open,
    find_plan,
    give_allowance,
    policies,
    present_period,
    record,
    require_account,
    require_not_closed,
    terms_of,
)
from events.renewals import Turn, payment_of, period_after, turn


class _Moves(NamedTuple):
    """What a change at once does to the allowance of this period, by unit."""

    grants: dict[str, int]
    takes: dict[str, dict[str, int]]
    reclaim: dict[str, int]


def change_plan(draft: Draft, command: ChangePlan) -> Paid | None:
    """Open the account or change its plan or limits; a reset whose payment was counted returns that payment instead."""
    if not draft.state.exists:
        _open(draft, command)
        return None
    account = require_account(draft)
    if command.mode == "reset" and command.reference is not None:
        known = payment_of(draft, by_reference(command.reference))
        if known is not None:
            return known
    require_not_closed(account)
    _require_known_limits(draft, command)
    same = command.plan is None or command.plan == account.plan
    if same and command.mode != "reset":
        if command.allowance or command.capacity:
            _change_limits(draft, command)
        else:
            _keep(draft, command)
        return None
    plan = find_plan(draft, command.plan or "")
    terms = terms_of(draft, plan, _set(Limits(), command))
    higher = plan.rank >= policies(draft).rank
    changes_interval = plan.interval != account.terms.policies.interval
    when = command.when or ("now" if higher or command.mode == "reset" else "next_period")
    if command.mode == "reset":
        if when != "now" or not (higher or changes_interval):
            raise InvalidRequest.at("mode", "a reset acts at once, on an upgrade or a change of interval")
        _reset(draft, command, terms)
    elif when == "next_period":
        _change_later(draft, command, terms)
    elif changes_interval:
        detail = (
            f"{plan.name} has another interval ({plan.interval}) than {account.plan}; it takes `reset` to change now"
        )
        raise InvalidRequest.at("mode", detail)
    else:
        _change_now(draft, command, terms, higher=higher)
    return None


def _open(draft: Draft, command: ChangePlan) -> None:
    _require_known_limits(draft, command)
    overrides = _set(Limits(), command)
    ensure_open(draft, command.plan, overrides, reference=command.reference, reason=command.reason)


def _require_known_limits(draft: Draft, command: ChangePlan) -> None:
    """Refuse limits of what the catalog does not know; a null, which restores, may name what is gone from it."""
    for unit, amount in (command.allowance or {}).items():
        if amount is not None and unit not in draft.catalog.units:
            raise InvalidRequest.at("allowance", f"the catalog has no unit {unit}")
    for name, limit in (command.capacity or {}).items():
        if limit is not None and name not in draft.catalog.capacities:
            raise InvalidRequest.at("capacity", f"the catalog has no capacity {name}")


def _set(limits: Limits, command: ChangePlan) -> Limits:
    """Return overrides with those of the command; null takes one away."""
    return Limits(
        allowance=_overridden(limits.allowance, command.allowance),
        capacity=_overridden(limits.capacity, command.capacity),
    )


def _overridden(before: Mapping[str, int], asked: Mapping[str, int | None] | None) -> dict[str, int]:
    after: dict[str, int | None] = {**before, **(asked or {})}
    return {name: value for name, value in after.items() if value is not None}


def _keep(draft: Draft, command: ChangePlan) -> None:
    """Stay on the plan: a pending change is cancelled, and nothing is granted."""
    account = draft.state.account
    pending = account.pending
    value: dict[str, AuditValue] = {"plan": account.plan}
    record(
        draft,
        "unchanged" if pending is None else "cancelled",
        account.terms,
        present_period(account),
        previous=value if pending is None else {**value, "pending": pending.plan},
        new=value,
        reclaim=account.reclaim,
        reference=command.reference,
        reason=command.reason,
    )


def _change_limits(draft: Draft, command: ChangePlan) -> None:
    """Override limits by name, or restore them; a pending change stays unless the present plan was asked for."""
    account = draft.state.account
    before = account.terms
    pending = account.pending if command.plan is None else None
    if command.when == "next_period":
        later = pending or before
        after = _with_overrides(later, _set(later.overrides, command))
        previous, new = _limit_values(later, after, command)
        kind, terms, pending, moves = "scheduled", before, after, _Moves({}, {}, account.reclaim)
    else:
        terms = _with_overrides(before, _set(before.overrides, command))
        previous, new = _limit_values(before, terms, command)
        named = set(command.allowance or ())
        moves = _moves(draft, terms, up=named, down=named)
        same = terms == before and pending == account.pending
        kind = "unchanged" if same else "limits"
        moves = _Moves({}, {}, account.reclaim) if same else moves
    record(
        draft,
        kind,
        terms,
        present_period(account),
        previous=previous,
        new=new,
        pending=pending,
        reclaim=moves.reclaim,
        reference=command.reference,
        reason=command.reason,
    )
    _move(draft, terms, moves)


def _with_overrides(terms: Terms, overrides: Limits) -> Terms:
    return Terms(
        plan=terms.plan, policies=terms.policies, limits=terms.limits, overrides=overrides, catalog=terms.catalog
    )


def _limit_values(
    before: Terms, after: Terms, command: ChangePlan
) -> tuple[dict[str, AuditValue], dict[str, AuditValue]]:
    """Return the limits that a command names as they were and as they are then; None is unlimited."""
    previous: dict[str, AuditValue] = {}
    new: dict[str, AuditValue] = {}
    if command.allowance:
        previous["allowance"] = {unit: before.allowance.get(unit, 0) for unit in command.allowance}
        new["allowance"] = {unit: after.allowance.get(unit, 0) for unit in command.allowance}
    if command.capacity:
        previous["capacity"] = {name: before.capacity.get(name) for name in command.capacity}
        new["capacity"] = {name: after.capacity.get(name) for name in command.capacity}
    return previous, new


def _plan_values(
    account: Account, terms: Terms, command: ChangePlan
) -> tuple[dict[str, AuditValue], dict[str, AuditValue]]:
    previous, new = _limit_values(account.terms, terms, command)
    return {"plan": account.plan, **previous}, {"plan": terms.plan, **new}


def _change_later(draft: Draft, command: ChangePlan, terms: Terms) -> None:
    """Let the change wait for the next period; when that has begun already and asks for no payment, it acts now."""
    account = draft.state.account
    if account.period_end <= draft.now and terms.policies.renewal == "auto":
        _begin(draft, command, terms)
        return
    previous, new = _plan_values(account, terms, command)
    record(
        draft,
        "scheduled",
        account.terms,
        present_period(account),
        previous=previous,
        new={**new, "from": account.period_end},
        pending=terms,
        reclaim=account.reclaim,
        reference=command.reference,
        reason=command.reason,
    )


def _change_now(draft: Draft, command: ChangePlan, terms: Terms, *, higher: bool) -> None:
    """Change the plan within the period; anchor and usage stay."""
    account = draft.state.account
    if account.period_end <= draft.now:
        _begin(draft, command, terms)
        return
    named = set(command.allowance or ())
    units = {*terms.allowance, *account.usage}
    moves = _moves(draft, terms, up=units, down=named if higher else units)
    previous, new = _plan_values(account, terms, command)
    record(
        draft,
        "changed",
        terms,
        present_period(account),
        previous=previous,
        new=new,
        reclaim=moves.reclaim,
        payment=_payment(draft, command, present_period(account)) if higher else None,
        reference=command.reference,
        reason=command.reason,
    )
    _move(draft, terms, moves)


def _payment(draft: Draft, command: ChangePlan, period: Period) -> Payment | None:
    """Return what a change with a reference pays; a reference counts once."""
    if command.reference is None or payment_of(draft, by_reference(command.reference)) is not None:
        return None
    return Payment(reference=command.reference, period_start=period.start)


def _begin(draft: Draft, command: ChangePlan, terms: Terms) -> None:
    """Change the plan of an account whose period is over: the period that contains now begins with it."""
    period, missed = period_after(draft.state.account, terms, draft.now)
    payment = _payment(draft, command, period)
    to = Turn(terms, period, missed, draft.catalog)
    turn(draft, to, "changed", payment=payment, reference=command.reference, reason=command.reason)


def _reset(draft: Draft, command: ChangePlan, terms: Terms) -> None:
    """Begin a period now, with a new anchor and the full allowance; the old plan's remainder is revoked."""
    account = draft.state.account
    old = [grant for grant in account.grants.values() if grant.kind == "plan" and grant.state == "active"]
    period = Period(draft.now, draft.now, boundary(draft.now, terms.policies.interval, 1))
    previous, new = _plan_values(account, terms, command)
    record(
        draft,
        "changed",
        terms,
        period,
        previous=previous,
        new=new,
        begins=True,
        payment=Payment(reference=command.reference, period_start=period.start),
        reference=command.reference,
        reason=command.reason,
    )
    for grant in old:
        revoke(draft, grant)
    for unit, amount in sorted(terms.allowance.items()):
        give_allowance(draft, terms, period, unit, amount)


def _moves(draft: Draft, terms: Terms, *, up: set[str], down: set[str]) -> _Moves:
    """Return what brings G to A: up for some units, down for others."""
    account = draft.state.account
    grants: dict[str, int] = {}
    takes: dict[str, dict[str, int]] = {}
    reclaim = dict(account.reclaim)
    for unit in sorted(up | down):
        wanted = reclaim.get(unit, 0)
        difference = terms.allowance.get(unit, 0) - (account.usage.get(unit, NO_USAGE).allowed - wanted)
        if difference > 0 and unit in up:
            kept = min(wanted, difference)
            reclaim[unit] = wanted - kept
            grants[unit] = difference - kept
        elif difference < 0 and unit in down:
            own = [grant for grant in account.grants.values() if is_of_this_period(draft, grant)]
            parts, short = draw(reversed(own), unit, -difference)  # the last one first, as upgrades granted them
            takes[unit] = dict(parts)
            reclaim[unit] = wanted + short
    return _Moves(grants, takes, reclaim)


def _move(draft: Draft, terms: Terms, moves: _Moves) -> None:
    for parts in moves.takes.values():
        take_back(draft, parts, "change")
    for unit, amount in moves.grants.items():
        give_allowance(draft, terms, present_period(draft.state.account), unit, amount)
