"""Opening an account, the plan that it is on, and its limits (SEMANTICS.md section 7)."""

from __future__ import annotations

from typing import NamedTuple

from events.account import Account
from events.catalog import Plan
from events.credits import credit
from events.draft import Draft
from events.errors import AccountClosed, AccountFrozen, AccountNotFound, PlanNotFound
from events.facts import FIGURE_MAX, AuditValue, Limits, Payment, PlanChanged, PlanChangedKind, Policies, Status, Terms
from events.instants import Instant, plus
from events.periods import boundary

DAY_SECONDS = 86_400


class Period(NamedTuple):
    """One period, half open, and the anchor that it is counted from."""

    anchor: Instant
    start: Instant
    end: Instant


def policies_of(plan: Plan) -> Policies:
    """Return the rules of a catalog's plan as an account keeps them."""
    return Policies(
        rank=plan.rank,
        interval=plan.interval,
        renewal=plan.renewal,
        trial_credits=plan.trial.credits,
        trial_expires_days=plan.trial.expires_days,
        rollover_share=plan.rollover.share,
        rollover_cap=plan.rollover.cap,
        clear_bonus=plan.clear_bonus,
        overdraft_limit=plan.overdraft_limit,
        max_open_holds=plan.max_open_holds,
        low_balance_percent=plan.low_balance_percent,
        renewal_grace_days=plan.renewal_grace_days,
        late_window_hours=plan.late_window_hours,
    )


def terms_of(draft: Draft, plan: Plan, overrides: Limits | None = None) -> Terms:
    """Return a plan as the catalog in force has it, with what overrides its limits."""
    return Terms(
        plan=plan.name,
        policies=policies_of(plan),
        limits=Limits(allowance=plan.allowance, capacity=plan.capacity),
        overrides=overrides or Limits(),
        catalog=draft.catalog.version,
    )


def in_force(draft: Draft, terms: Terms) -> Terms:
    """Return terms as the catalog in force has them; a plan that left the catalog lives on from its snapshot."""
    plan = draft.catalog.plans.get(terms.plan)
    return terms if plan is None else terms_of(draft, plan, terms.overrides)


def policies(draft: Draft) -> Policies:
    """Return the policies in force: the catalog's, or the account's snapshot when the plan left the catalog."""
    plan = draft.plan()
    if plan is not None:
        return policies_of(plan)
    kept = draft.state.account.policies
    if kept is None:
        raise LookupError(f"account {draft.state.account.id} has no plan")
    return kept


def max_open_holds(draft: Draft) -> int:
    """Return how many holds with a TTL may be open at once."""
    plan = draft.plan()
    return plan.max_open_holds if plan is not None else policies(draft).max_open_holds


def overdraft_room(draft: Draft, unit: str) -> int:
    """Return how much debt may still be made, in the unit's smallest step."""
    return max(0, policies(draft).overdraft_limit - draft.figures(unit).debt)


def capacity_limits(draft: Draft) -> dict[str, int]:
    """Return the capacity limits in force, by name; what is not named is unlimited."""
    plan, account = draft.plan(), draft.state.account
    if plan is None:
        return account.capacity
    overridden = account.overrides.capacity
    return {**plan.capacity, **overridden} if overridden else plan.capacity


def require_account(draft: Draft) -> Account:
    """Return the account, which must have been opened."""
    if not draft.state.exists:
        raise AccountNotFound(f"there is no account {draft.state.account.id}", account=draft.state.account.id)
    return draft.state.account


def require_active(account: Account) -> None:
    """Refuse new work in an account that is frozen or closed."""
    if account.status == "frozen":
        raise AccountFrozen(f"account {account.id} is frozen", account=account.id)
    require_not_closed(account)


def require_not_closed(account: Account) -> None:
    """Refuse what a closed account no longer takes."""
    if account.status == "closed":
        raise AccountClosed(f"account {account.id} is closed", account=account.id)


def ensure_open(
    draft: Draft,
    plan_name: str | None = None,
    overrides: Limits | None = None,
    *,
    reference: str | None = None,
    reason: str | None = None,
) -> None:
    """Open an unknown account on the plan named, else on the catalog's default plan, with allowance and trial."""
    if draft.state.exists:
        return
    name = plan_name or draft.catalog.default_plan
    if name is None:
        account = draft.state.account.id
        raise AccountNotFound(f"there is no account {account}, and the catalog has no default plan", account=account)
    plan = find_plan(draft, name)
    terms = terms_of(draft, plan, overrides)
    start = draft.now
    period = Period(start, start, boundary(start, plan.interval, 1))
    record(
        draft,
        "opened",
        terms,
        period,
        previous={"plan": None},
        new={"plan": name},
        payment=Payment(reference=reference, period_start=start),
        reference=reference,
        reason=reason,
    )
    for unit, amount in sorted(terms.allowance.items()):
        give_allowance(draft, terms, period, unit, amount)
    if plan.trial.credits:
        days = plan.trial.expires_days
        credit(
            draft,
            "trial",
            grant_id=draft.next_id(),
            unit="credits",
            amount=plan.trial.credits,
            expires_at=plus(start, seconds=days * DAY_SECONDS) if days else None,
        )


def give_allowance(
    draft: Draft,
    terms: Terms,
    period: Period,
    unit: str,
    amount: int,
    *,
    at: Instant | None = None,
    system: bool = False,
) -> None:
    """Grant allowance until the period's end; a plan that waits for payments leaves some days for them.

    Nothing is granted that would have ended already, nor by a due fact what would bring the balance above the largest
    figure: time must always be able to pass.
    """
    expires_at = period.end
    if terms.policies.renewal == "external":
        expires_at = plus(expires_at, seconds=terms.policies.renewal_grace_days * DAY_SECONDS)
    if system:
        now = draft.figures(unit)
        amount = min(amount, FIGURE_MAX - now.available - now.reserved - now.scheduled - now.scoped)
    if amount <= 0 or expires_at <= (at or draft.now):
        return
    starts_at = at or draft.now
    credit(
        draft,
        "plan",
        grant_id=draft.next_id(system=system),
        unit=unit,
        amount=amount,
        starts_at=period.start if period.start > starts_at else starts_at,
        expires_at=expires_at,
        period=period.start,
        at=at,
        system=system,
    )


def find_plan(draft: Draft, name: str) -> Plan:
    """Return a plan of the catalog in force; raises PlanNotFound."""
    plan = draft.catalog.plans.get(name)
    if plan is None:
        raise PlanNotFound(f"the catalog has no plan {name}", plan=name, plans=sorted(draft.catalog.plans))
    return plan


def present_period(account: Account) -> Period:
    """Return the period that the account is in."""
    return Period(account.anchor, account.period_start, account.period_end)


def record(  # noqa: PLR0913 - a plan change has that many sides, all named
    draft: Draft,
    kind: PlanChangedKind,
    terms: Terms,
    period: Period,
    *,
    previous: dict[str, AuditValue],
    new: dict[str, AuditValue],
    begins: bool = False,
    pending: Terms | None = None,
    reclaim: dict[str, int] | None = None,
    rolled_over: dict[str, int] | None = None,
    payment: Payment | None = None,
    ahead: dict[str, int] | None = None,
    reference: str | None = None,
    reason: str | None = None,
    at: Instant | None = None,
    system: bool = False,
    status: Status | None = None,
) -> None:
    """Let the account be on these terms in this period; what is not named (pending, reclaim) is none from here on."""
    overridden = terms.overrides != Limits()
    data = PlanChanged(
        from_=draft.state.account.plan,
        to=terms.plan,
        period_start=period.start,
        period_end=period.end,
        anchor=period.anchor,
        allowance=terms.allowance,
        capacity=terms.capacity,
        policies=terms.policies,
        catalog=terms.catalog,
        rolled_over=rolled_over or {},
        reclaim={unit: amount for unit, amount in (reclaim or {}).items() if amount},
        previous_value=previous,
        new_value=new,
        begins=begins,
        overrides=terms.overrides,
        own=terms.limits if overridden else None,
        pending=pending,
        payment=payment,
        ahead=ahead,
        reference=reference,
        reason=reason,
        status=status,
    )
    draft.add(kind, data, effective_at=at, system_id=f"renewed:{period.start}" if system else None)
