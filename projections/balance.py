"""Balances and quotas: what an account's snapshot looks like to those who ask (CONTRACT.md, "HTTP, JSON")."""

from __future__ import annotations

from collections.abc import Mapping

from events.account import NO_USAGE, ZERO, Account
from events.facts import Figures, Terms, UsageFigures
from events.instants import Instant
from events.spending import Usage


def balance_view(unit: str, figures: Figures) -> dict[str, object]:
    """Return the balance of one unit as answers show it."""
    return {
        "unit": unit,
        "available": figures.available,
        "reserved": figures.reserved,
        "scoped": figures.scoped,
        "scheduled": figures.scheduled,
        "bonus": figures.bonus,
        "debt": figures.debt,
    }


def pending_view(pending: Terms | None, effective_at: Instant) -> dict[str, object] | None:
    """Return the change that waits for the next period."""
    if pending is None:
        return None
    return {
        "plan": pending.plan,
        "effective_at": effective_at,
        "allowance": pending.allowance,
        "capacity": pending.capacity,
    }


def next_renewal_at(account: Account, as_of: Instant) -> Instant | None:
    """Return when the next period begins, by itself or by its payment; None when that is overdue or never comes."""
    return None if account.status == "closed" or account.period_end <= as_of else account.period_end


def capacity_view(account: Account, limits: Mapping[str, int]) -> dict[str, dict[str, int | None]]:
    """Return what is occupied of each capacity, and its limit (None: unlimited)."""
    names = dict.fromkeys([*limits, *account.occupied])
    return {name: {"used": account.occupied.get(name, 0), "limit": limits.get(name)} for name in names}


def account_balance(
    account: Account, unit: str, limits: Mapping[str, int], *, as_of: Instant, token: str
) -> dict[str, object]:
    """Return the balance of an account at an instant."""
    return {
        "account": account.id,
        **balance_view(unit, account.figures.get(unit, ZERO)),
        "plan": account.plan,
        "capacity": capacity_view(account, limits),
        "as_of": as_of,
        "token": token,
    }


def account_view(account: Account, limits: Mapping[str, int], *, as_of: Instant, token: str) -> dict[str, object]:
    """Return an account: its plan, period, status, and all its balances."""
    return {
        "account": account.id,
        "plan": account.plan,
        "period_start": account.period_start,
        "period_end": account.period_end,
        "pending": pending_view(account.pending, account.period_end),
        "next_renewal_at": next_renewal_at(account, as_of),
        "status": account.status,
        "balances": {unit: balance_view(unit, figures) for unit, figures in account.figures.items()},
        "capacity": capacity_view(account, limits),
        "opened_at": account.opened_at,
        "as_of": as_of,
        "token": token,
    }


def quota_figures(usage: Usage | UsageFigures, figures: Figures) -> dict[str, object]:
    """Return what is used of what was there to be had, and what remains."""
    limit = usage.charged + figures.reserved + figures.available
    return {
        "credits_used": usage.used,
        "credits_limit": limit,
        "credits_remaining": figures.available,
        "percentage": min(100, 100 * usage.used // limit) if limit > 0 else 0,
    }


def quota_view(
    account: Account, unit: str, limits: Mapping[str, int], *, as_of: Instant, token: str
) -> dict[str, object]:
    """Return how much of the present period's credits is used (SEMANTICS.md section 7, last paragraph)."""
    usage = account.usage.get(unit, NO_USAGE)
    return {
        "account": account.id,
        "unit": unit,
        **quota_figures(usage, account.figures.get(unit, ZERO)),
        "allowance": account.allowance,
        "plan": account.plan,
        "period_start": account.period_start,
        "period_end": account.period_end,
        "pending": pending_view(account.pending, account.period_end),
        "next_renewal_at": next_renewal_at(account, as_of),
        "capacity": capacity_view(account, limits),
        "as_of": as_of,
        "token": token,
    }
