"""Renewals: how an account gets from one period into the next (SEMANTICS.md section 7).

A period turns by itself at its end when the plan renews automatically, when the next period is paid already, or when a
pending change brings a plan that renews automatically. Else it lasts until a payment (`renew`) turns it, however late;
what is consumed meanwhile counts in the period that was not followed by another.

The grid of periods and whether they turn by themselves come from the terms that the account's last change recorded, so
an account knows without a catalog when it is due. All other policies of a renewal are those in force of the old plan;
allowance and limits are those of the new one.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from typing import NamedTuple

from events.account import Account
from events.catalog import Catalog
from events.commands import Renew
from events.credits import credit, end, revoke, take_back
from events.draft import Draft
from events.errors import InvalidRequest, PeriodPassed
from events.facts import AuditValue, Payment, PlanChangedKind, Terms
from events.grants import Grant, allocations, draw
from events.instants import Instant, just_before, moment, plus
from events.payments import Paid, by_period, by_reference
from events.periods import boundary, period_at
from events.plans import (
    DAY_SECONDS,
    Period,
    give_allowance,
    in_force,
    policies,
    present_period,
    record,
    require_account,
    require_not_closed,
)

AHEAD_SECONDS_MAX = 3 * DAY_SECONDS
"""How long before a period it can be paid; of a short period a quarter of its length."""


class Turn(NamedTuple):
    """Where a renewal leads: the terms and the period from there on, how many boundaries it passes over, the catalog."""

    terms: Terms
    period: Period
    missed: int
    catalog: Catalog


def next_terms(draft: Draft) -> Terms:
    """Return what the account will be on in the next period, as the catalog in force has it."""
    account = draft.state.account
    return in_force(draft, account.pending or account.terms)


def period_after(account: Account, terms: Terms, at: Instant) -> tuple[Period, int]:
    """Return the period on these terms that contains `at`, which is not before the present period's end.

    Also returns how many boundaries lie between them. Another interval begins its own grid where the period ends.
    """
    return _follows(present_period(account), account.terms.policies.interval, terms.policies.interval, at)


def _follows(last: Period, before: str, interval: str, at: Instant) -> tuple[Period, int]:
    """Return the period that contains `at`, after the `last` one of the grid `before`, and how many lie between."""
    anchor = last.anchor if interval == before else last.end
    first, number = period_at(anchor, interval, last.end), period_at(anchor, interval, at)
    period = Period(anchor, boundary(anchor, interval, number), boundary(anchor, interval, number + 1))
    return period, number - first


def due_turn(draft: Draft) -> Turn | None:
    """Return the renewal that is due at the draft's instant, or None.

    A plan that renews by itself goes on to the period that contains the instant. One that waits for payments goes on to
    the next period only.
    """
    turns_at = draft.state.account.turns_at
    return None if turns_at is None or draft.now < turns_at else next_turn(draft)


def next_turn(draft: Draft) -> Turn:
    """Return what the next renewal will be, if nothing else happens before it.

    Each boundary that it passes belongs to the catalog that was in force then; so it leads to where an account would be
    that was renewed at every one of them.
    """
    account = draft.state.account
    terms, period = account.pending or account.terms, present_period(account)
    interval, missed = account.terms.policies.interval, -1
    while True:
        catalog = draft.history.at(period.end, draft.catalog)
        with draft.under(catalog):
            terms = in_force(draft, terms)
        by_itself = terms.policies.renewal == "auto"
        goal = max(_last_under(draft, period.end), period.end) if by_itself else period.end
        period, passed = _follows(period, interval, terms.policies.interval, goal)
        interval, missed = terms.policies.interval, missed + 1 + passed
        if not by_itself or period.end > draft.now:
            return Turn(terms, period, missed, catalog)


def _last_under(draft: Draft, instant: Instant) -> Instant:
    """Return the last instant until now at which the catalog was in force that was at `instant`."""
    until = draft.history.next_after(instant)
    return draft.now if until is None or until > draft.now else just_before(until)


def turn(
    draft: Draft,
    to: Turn,
    kind: PlanChangedKind = "renewed",
    *,
    system: bool = False,
    payment: Payment | None = None,
    reference: str | None = None,
    reason: str | None = None,
) -> None:
    """Begin a period: a pending change, rollover, the end of the old allowance, bonus cleared, the new allowance.

    A due renewal holds from the period's start, one by a command from now.
    """
    account = draft.state.account
    old, at = policies(draft), to.period.start if system else None
    before = list(account.grants.values())
    ahead = account.ahead
    granted = ahead.allowance if ahead is not None and ahead.payment.period_start == to.period.start else {}
    rolled = {} if to.missed else rollovers(draft)
    values = _values(account, to.terms)
    record(
        draft,
        kind,
        to.terms,
        to.period,
        previous=values[0],
        new=values[1],
        begins=True,
        rolled_over={unit: sum(part for _, part in parts) for unit, parts in rolled.items()},
        payment=payment,
        reference=reference,
        reason=reason,
        at=at,
        system=system,
    )
    for unit, parts in rolled.items():
        _roll_over(draft, unit, parts, to.period, at=at, system=system)
    _end_old(draft, before, clear_bonus=old.clear_bonus, at=at, system=system)
    for unit in sorted({*to.terms.allowance, *granted}):
        more = to.terms.allowance.get(unit, 0) - granted.get(unit, 0)
        if more > 0:
            give_allowance(draft, to.terms, to.period, unit, more, at=at, system=system)
        else:
            _take_from_scheduled(draft, unit, -more, at=at, system=system)


def _values(account: Account, terms: Terms) -> tuple[dict[str, AuditValue], dict[str, AuditValue]]:
    return {"plan": account.plan}, {"plan": terms.plan}


def rollovers(draft: Draft) -> dict[str, list[tuple[str, int]]]:
    """Return what would be carried into the next period, by unit: which grant gives how much."""
    rules = policies(draft)
    share = Decimal(rules.rollover_share)
    grants = draft.state.account.grants.values()
    old = [grant for grant in grants if grant.kind == "plan" and grant.state == "active" and grant.remaining]
    found: dict[str, list[tuple[str, int]]] = {}
    for unit in sorted({grant.unit for grant in old}):
        remainder = sum(grant.remaining for grant in old if grant.unit == unit)
        amount = min(rules.rollover_cap, int((remainder * share).to_integral_value(ROUND_FLOOR)))
        if amount > 0:
            found[unit] = draw(old, unit, amount)[0]
    return found


def _roll_over(
    draft: Draft, unit: str, parts: list[tuple[str, int]], period: Period, *, at: Instant | None, system: bool
) -> None:
    credit(
        draft,
        "rollover",
        grant_id=draft.next_id(system=system),
        unit=unit,
        amount=sum(part for _, part in parts),
        starts_at=at or draft.now,
        expires_at=period.end,
        source_grant_id=parts[0][0] if len(parts) == 1 else None,
        allocation=allocations(parts),
        at=at,
        system=system,
    )


def ends_with_period(grant: Grant, at: Instant, *, clear_bonus: bool) -> bool:
    """Say whether a grant that can be used ends when the next period begins at an instant, whatever its own end.

    What rolled over has the end that it was given: a reset or a reopening may begin another grid before it.
    """
    if grant.kind == "rollover":
        return grant.state == "active" and grant.expires_at is not None and grant.expires_at <= at
    kinds = {"plan", "trial", "promo"} if clear_bonus else {"plan"}
    return grant.state == "active" and grant.kind in kinds


def _end_old(draft: Draft, before: list[Grant], *, clear_bonus: bool, at: Instant | None, system: bool) -> None:
    """Let the old allowance and what had rolled over until now expire, and bonus when the plan clears it."""
    for old in before:
        grant = draft.state.account.grants.get(old.id)  # None: all of it rolled over
        if grant is not None and ends_with_period(grant, at or draft.now, clear_bonus=clear_bonus):
            end(draft, grant, at=at, system=system)


def _take_from_scheduled(draft: Draft, unit: str, amount: int, *, at: Instant | None, system: bool) -> None:
    """Take back what was granted ahead for a period that begins with a smaller allowance."""
    for grant in list(draft.state.account.grants.values()):
        of_period = draft.state.account.allows(grant)
        if amount == 0 or grant.unit != unit or grant.state != "scheduled" or not of_period:
            continue
        part = min(amount, grant.remaining)
        amount -= part
        if part == grant.remaining:
            revoke(draft, grant, at=at, system=system, take_back="change")
        else:
            take_back(draft, {grant.id: part}, "change", at=at, system=system)


def reopen(draft: Draft, *, reason: str | None = None) -> None:
    """Begin a period now in an account that was closed and is active again: a new anchor, the plan's allowance."""
    terms = next_terms(draft)
    start = draft.now
    period = Period(start, start, boundary(start, terms.policies.interval, 1))
    turn(
        draft, Turn(terms, period, 1, draft.catalog), payment=Payment(reference=None, period_start=start), reason=reason
    )


# -- payments ------------------------------------------------------------------------------------------------------


def payment_of(draft: Draft, name: str) -> Paid | None:
    """Return the payment that an item of this id tells of; raises Missing when that is not known."""
    found = draft.state.item("payment", name)
    return found if isinstance(found, Paid) else None


def renew(draft: Draft, command: Renew) -> Paid | None:
    """Turn the account into the period that a payment is for; returns the payment that was counted before instead."""
    account = require_account(draft)
    known = payment_of(draft, by_reference(command.reference))
    if known is not None:
        return known
    require_not_closed(account)
    if account.period_end <= draft.now:
        return _renew_late(draft, command)
    start = command.period_start or (account.period_end if _pays_ahead(draft) else account.period_start)
    known = payment_of(draft, by_period(start))
    if known is not None:
        return known
    _require_on_grid(account, next_terms(draft), start)
    if start < account.period_start:
        raise _passed(start, present_period(account))
    if start == account.period_start:
        _book(draft, command)
    elif start == account.period_end and draft.now >= _payable_from(account):
        _renew_ahead(draft, command)
    else:
        raise InvalidRequest.at("period_start", f"the period can be paid from {_payable_from(account)} on at most")
    return None


def _renew_late(draft: Draft, command: Renew) -> Paid | None:
    """Turn an account whose period is over into the one that contains now."""
    account = draft.state.account
    terms = next_terms(draft)
    period, missed = period_after(account, terms, draft.now)
    start = command.period_start or period.start
    known = payment_of(draft, by_period(start))
    if known is not None:
        return known
    _require_on_grid(account, terms, start)
    if start < period.start:
        raise _passed(start, period)
    if start > period.start:
        raise InvalidRequest.at("period_start", f"the period of {period.start} is to be paid first")
    payment = Payment(reference=command.reference, period_start=start)
    turn(draft, Turn(terms, period, missed, draft.catalog), payment=payment, reference=command.reference)
    return None


def _book(draft: Draft, command: Renew) -> None:
    """Book the payment of a period that began without one; nothing is granted twice."""
    account = draft.state.account
    value: dict[str, AuditValue] = {"plan": account.plan}
    record(
        draft,
        "unchanged",
        account.terms,
        present_period(account),
        previous=value,
        new=value,
        pending=account.pending,
        reclaim=account.reclaim,
        payment=Payment(reference=command.reference, period_start=account.period_start),
        reference=command.reference,
    )


def _renew_ahead(draft: Draft, command: Renew) -> None:
    """Grant the next period's allowance from its start on; the period turns when it comes."""
    account = draft.state.account
    terms = next_terms(draft)
    period, _ = period_after(account, terms, account.period_end)
    value: dict[str, AuditValue] = {"plan": account.plan}
    record(
        draft,
        "scheduled",
        account.terms,
        present_period(account),
        previous=value,
        new={"plan": terms.plan, "paid_until": period.end},
        pending=account.pending,
        reclaim=account.reclaim,
        payment=Payment(reference=command.reference, period_start=period.start),
        ahead=terms.allowance,
        reference=command.reference,
    )
    for unit, amount in sorted(terms.allowance.items()):
        give_allowance(draft, terms, period, unit, amount)


def _pays_ahead(draft: Draft) -> bool:
    """Say whether a payment that names no period is for the next one: the present one is paid, and the next is near."""
    account = draft.state.account
    return account.paid is not None and draft.now >= _payable_from(account)


def _payable_from(account: Account) -> Instant:
    """Return the instant from which the next period can be paid."""
    length = moment(account.period_end) - moment(account.period_start)
    seconds = min(AHEAD_SECONDS_MAX, int(length.total_seconds()) // 4)
    return plus(account.period_end, seconds=-seconds)


def _require_on_grid(account: Account, terms: Terms, start: Instant) -> None:
    """Refuse an instant at which no period of the account begins."""
    interval, anchor = account.terms.policies.interval, account.anchor
    if start >= account.period_end and terms.policies.interval != interval:
        interval, anchor = terms.policies.interval, account.period_end
    try:
        begins = boundary(anchor, interval, period_at(anchor, interval, start))
    except ValueError:  # it would lie before the first year that an instant may have
        begins = None
    if begins != start:
        raise InvalidRequest.at("period_start", "no period of the account begins then")


def _passed(start: Instant, present: Period) -> PeriodPassed:
    return PeriodPassed(f"the period of {start} is over", period_start=start, present_period_start=present.start)
