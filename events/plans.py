"""Opening an account, its plan and its limits (SEMANTICS.md section 7)."""

from __future__ import annotations

from events.account import NO_USAGE, Account
from events.catalog import Plan
from events.commands import ChangePlan
from events.credits import credit
from events.draft import Draft
from events.errors import AccountClosed, AccountFrozen, AccountNotFound, InvalidRequest, PlanNotFound
from events.facts import AuditValue, PlanChanged, PlanChangedKind, Policies
from events.instants import Instant, plus
from events.periods import boundary


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
    plan = draft.plan()
    return plan.capacity if plan is not None else draft.state.account.capacity


def require_account(draft: Draft) -> Account:
    """Return the account, which must have been opened."""
    if not draft.state.exists:
        raise AccountNotFound(f"there is no account {draft.state.account.id}", account=draft.state.account.id)
    return draft.state.account


def require_active(account: Account) -> None:
    """Refuse new work in an account that is frozen or closed."""
    if account.status == "frozen":
        raise AccountFrozen(f"account {account.id} is frozen", account=account.id)
    if account.status == "closed":
        raise AccountClosed(f"account {account.id} is closed", account=account.id)


def require_not_closed(account: Account) -> None:
    """Refuse what a closed account no longer takes."""
    if account.status == "closed":
        raise AccountClosed(f"account {account.id} is closed", account=account.id)


def ensure_open(draft: Draft, plan_name: str | None = None) -> None:
    """Open an unknown account on the plan named, else on the catalog's default plan, with allowance and trial."""
    if draft.state.exists:
        return
    name = plan_name or draft.catalog.default_plan
    if name is None:
        account = draft.state.account.id
        raise AccountNotFound(f"there is no account {account}, and the catalog has no default plan", account=account)
    plan = _plan(draft, name)
    start, end = draft.now, boundary(draft.now, plan.interval, 1)
    _change(draft, "opened", plan, start, end, {"plan": None}, {"plan": name})
    for unit, amount in plan.allowance.items():
        if amount:
            _give_allowance(draft, plan, unit, amount)
    if plan.trial.credits:
        days = plan.trial.expires_days
        credit(
            draft,
            "trial",
            grant_id=draft.next_id(),
            unit="credits",
            amount=plan.trial.credits,
            expires_at=plus(start, seconds=days * 86_400) if days else None,
        )


def change_plan(draft: Draft, command: ChangePlan) -> None:
    """Open the account on a plan, or move it to a plan of equal or higher rank at once."""
    plan = _plan(draft, command.plan)
    if not draft.state.exists:
        ensure_open(draft, command.plan)
        return
    account = draft.state.account
    if account.status == "closed":
        raise AccountClosed(f"account {account.id} is closed", account=account.id)
    start, end = account.period_start, account.period_end
    values: dict[str, AuditValue] = {"plan": account.plan}
    if account.plan == command.plan:
        _change(draft, "unchanged", plan, start, end, values, values, command)
        return
    current = policies(draft)
    if plan.rank < current.rank:
        raise InvalidRequest.at("plan", f"{plan.name} ranks below {account.plan}; only upgrades can be made at once")
    if plan.interval != current.interval:
        raise InvalidRequest.at("plan", f"{plan.name} has another interval ({plan.interval}) than {account.plan}")
    allowed = {unit: account.usage.get(unit, NO_USAGE).allowed for unit in plan.allowance}
    _change(draft, "changed", plan, start, end, values, {"plan": plan.name}, command)
    for unit, amount in plan.allowance.items():
        if amount > allowed[unit]:
            _give_allowance(draft, plan, unit, amount - allowed[unit])


def _give_allowance(draft: Draft, plan: Plan, unit: str, amount: int) -> None:
    """Grant an allowance until the period's end; a plan that waits for payments leaves some days for them."""
    expires_at = draft.state.account.period_end
    if plan.renewal == "external":
        expires_at = plus(expires_at, seconds=plan.renewal_grace_days * 86_400)
    credit(draft, "plan", grant_id=draft.next_id(), unit=unit, amount=amount, expires_at=expires_at)


def _plan(draft: Draft, name: str) -> Plan:
    plan = draft.catalog.plans.get(name)
    if plan is None:
        raise PlanNotFound(f"the catalog has no plan {name}", plan=name, plans=sorted(draft.catalog.plans))
    return plan


def _change(
    draft: Draft,
    kind: PlanChangedKind,
    plan: Plan,
    start: Instant,
    end: Instant,
    previous: dict[str, AuditValue],
    new: dict[str, AuditValue],
    command: ChangePlan | None = None,
) -> None:
    account = draft.state.account
    data = PlanChanged(
        from_=account.plan,
        to=plan.name,
        period_start=start,
        period_end=end,
        anchor=account.anchor or start,
        allowance=plan.allowance,
        capacity=plan.capacity,
        policies=policies_of(plan),
        catalog=draft.catalog.version,
        rolled_over={},
        reclaim={},
        previous_value=previous,
        new_value=new,
        reference=command.reference if command else None,
        reason=command.reason if command else None,
    )
    draft.add(kind, data)
