"""`reset_usage`: all that this period consumed comes back at once (SEMANTICS.md section 7)."""

from __future__ import annotations

from collections.abc import Mapping

from events.account import Account, Key, Missing, State
from events.commands import ResetUsage
from events.draft import Draft
from events.errors import InvalidRequest
from events.holds import Consumption
from events.plans import require_account, require_not_closed
from events.restoring import restore
from events.spending import DEBT, NO_USAGE, Payers, Resets, page_id, resets_id


def reset_usage(draft: Draft, command: ResetUsage) -> None:
    """Return what the period consumed to the grants that paid; its usage is 0 then."""
    account = require_account(draft)
    require_not_closed(account)
    if command.unit is not None and command.unit not in draft.catalog.units and command.unit not in account.figures:
        raise InvalidRequest.at("unit", f"the catalog has no unit {command.unit}")
    units = [command.unit] if command.unit is not None else _used_units(account)
    paid = {unit: _payers(draft.state, unit) for unit in units}
    for unit, parts in paid.items():
        if account.was_reset:
            draft.state.item("resets", resets_id(unit, account.period_start))
        debt = parts.get(DEBT, 0)
        grants = [(grant_id, part) for grant_id, part in parts.items() if grant_id != DEBT]
        used = draft.state.account.usage.get(unit, NO_USAGE).used
        restore(draft, "usage_reset", unit, debt, grants, usage=used, reason=command.reason)


def _used_units(account: Account) -> list[str]:
    """Return the units with a usage; the credits when there is none, so that the reset is on record."""
    return sorted(unit for unit, usage in account.usage.items() if usage.used) or ["credits"]


def _payers(state: State, unit: str) -> Mapping[str, int]:
    """Return what each grant paid for the unit's usage; raises Missing for the pages that were put aside."""
    account = state.account
    usage = account.usage.get(unit, NO_USAGE)
    total = dict(usage.payers)
    missing: list[Key] = []
    for number in range(usage.pages):
        try:
            page = state.item("payers", page_id(unit, usage.since or account.period_from, number))
        except Missing as error:
            missing += error.keys
            continue
        for grant_id, part in page.parts.items() if isinstance(page, Payers) else ():
            total[grant_id] = total.get(grant_id, 0) + part
    if missing:
        raise Missing(missing)
    return {grant_id: part for grant_id, part in sorted(total.items()) if part}


def was_given_back(state: State, consumption: Consumption) -> bool:
    """Say whether a reset gave a consumption back already; raises Missing."""
    if not state.account.was_reset:
        return False
    resets = state.item("resets", resets_id(consumption.unit, consumption.period))
    return isinstance(resets, Resets) and resets.covers(consumption.ordinal)
