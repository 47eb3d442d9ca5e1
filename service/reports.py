"""Reports: how estimates compare with charges, holds that leak, and what is to be expected (FEATURES.md X10).

The first two are added up over all accounts from rows by the hour: `from` and `to` are widened to whole UTC hours, and
the answer says to which. The forecast lets the domain itself go on in time, at the pace of an account's last days.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from fractions import Fraction

from events.account import ZERO, State
from events.catalog import Catalog
from events.forecast import Pace, forecast
from events.history import History
from events.instants import Instant, instant, moment, plus
from projections import holds
from projections.balance import balance_view, next_renewal_at
from projections.holds import quantile
from projections.usage import hour_of
from service.queries import ForecastQuery, HoldLeaksQuery, ReserveHintsQuery, UsageQuery
from service.ranges import FIRST, LAST, hour_after, require_forward
from service.store.held import Expired, Held, Made
from service.store.log import Log
from service.store.views import Views
from service.summaries import Summaries

DAY_SECONDS = 86_400
QUANTILES = (10, 50, 90, 95, 99)
SUGGESTED = 95
"""The percentile that a hint suggests: what would have covered so many of a hundred holds."""

View = dict[str, object]


class Reports:
    """Answers queries for reports."""

    def __init__(self, log: Log) -> None:
        self._views = Views(log)
        self._summaries = Summaries(log)

    async def reserve_hints(self, query: ReserveHintsQuery) -> View:
        """Return for each operation what its holds came to, as percent of what was reserved for them."""
        first, last = _hours(query.from_, query.to)
        unit = query.unit or "credits"
        async with self._views.snapshot() as snapshot:
            reached = await snapshot.checkpoints(holds.NAME)
            rows = await Held(snapshot).settled(unit, first, last)
        operations: dict[str, dict[int, holds.Settled]] = {}
        for operation, percent, settled in rows:
            operations.setdefault(operation, {})[percent] = settled
        return {
            "unit": unit,
            **_range(query.from_, query.to, first, last),
            "operations": [_hint(operation, by_percent) for operation, by_percent in sorted(operations.items())],
            "as_of": _tokens(reached),
        }

    async def hold_leaks(self, query: HoldLeaksQuery, now: Instant) -> View:
        """Return what expired unsettled, by operation and actor and by account, and the oldest holds without an end."""
        first, last = _hours(query.from_, query.to)
        unit = query.unit or "credits"
        async with self._views.snapshot() as snapshot:
            reached = await snapshot.checkpoints(holds.NAME)
            held = Held(snapshot)
            made = await held.made(unit, first, last)
            expired = await held.expired(unit, first, last)
            accounts = await held.expired_of_accounts(unit, first, last, query.limit)
            endless = await held.endless(plus(now, seconds=-query.age_seconds), query.limit)
        keys = sorted(key for key in made.keys() | expired.keys())
        return {
            "unit": unit,
            **_range(query.from_, query.to, first, last),
            "operations": [
                {"operation": key[0] or None, "actor": key[1], **_leak(made.get(key), expired.get(key))} for key in keys
            ],
            "accounts": [{"account": account, **_expired(row)} for account, row in accounts],
            "without_end": [
                {
                    "account": hold.account,
                    "reservation_id": hold.reservation_id,
                    "operation": hold.operation or None,
                    "actor": hold.actor,
                    "occupies": hold.occupies,
                    "created_at": hold.created_at,
                    "age_seconds": int((moment(now) - moment(hold.created_at)).total_seconds()),
                }
                for hold in endless
            ],
            "as_of": _tokens(reached),
        }

    async def forecast(
        self, query: ForecastQuery, *, state: State, partition: int, now: Instant, catalog: Catalog, history: History
    ) -> View:
        """Return when the account runs out and what expires unused, at the pace of its last days."""
        unit = query.unit or "credits"
        account = state.account
        begin = max(instant(moment(now) - timedelta(days=query.pace_days)), account.opened_at)
        usage = UsageQuery(account=account.id, unit=unit, from_=begin, to=now, group_by="operation")
        used = _net(await self._summaries.usage(usage, partition))
        seconds = max(DAY_SECONDS, int((moment(now) - moment(begin)).total_seconds()))
        figures = account.figures.get(unit, ZERO)
        until = plus(now, seconds=query.days * DAY_SECONDS)
        expected = forecast(state, Pace(unit, used, seconds), now, until, catalog, history)
        return {
            "account": account.id,
            **balance_view(unit, figures),
            "plan": account.plan,
            "pace": {
                "from": begin,
                "to": now,
                "used": sum(used.values()),
                "per_day": _per_day(sum(used.values()), seconds),
                "operations": [
                    {"operation": operation, "used": amount, "per_day": _per_day(amount, seconds)}
                    for operation, amount in sorted(used.items(), key=lambda row: row[0] or "")
                ],
            },
            "run_out_at": expected.run_out_at,
            "next_renewal_at": next_renewal_at(account, now),
            "expiring": [
                {
                    "grant_id": each.grant_id,
                    "kind": account.grants[each.grant_id].kind if each.grant_id in account.grants else None,
                    "at": each.at,
                    "amount": each.amount,
                }
                for each in expected.expiring
            ],
            "until": expected.until,
            "as_of": now,
            "token": f"{partition}-{account.position}",
        }


def _net(usage: View) -> dict[str | None, int]:
    """Return the usage by operation, where there is any."""
    found: dict[str | None, int] = {}
    groups = usage["groups"]
    for row in groups if isinstance(groups, list) else ():  # pyright: ignore[reportUnknownVariableType]
        if row["net"] > 0:
            found[row["operation"]] = row["net"]
    return found


def _per_day(used: int, seconds: int) -> str:
    """Return credits for each day as a decimal string, rounded to a hundredth."""
    hundredths = round(Fraction(used * DAY_SECONDS * 100, seconds))
    return f"{hundredths // 100}.{hundredths % 100:02}"


def _hours(from_: Instant | None, to: Instant | None) -> tuple[str, str]:
    """Return the whole hours that a range is widened to, the last one excluded; raises InvalidRequest when it is empty."""
    require_forward(from_, to)
    first = FIRST if from_ is None else hour_of(from_)
    last = LAST if to is None else hour_of(to)
    return first, last if to is None or to == last else hour_after(Instant(last))


def _range(from_: Instant | None, to: Instant | None, first: str, last: str) -> View:
    return {"from": None if from_ is None else first, "to": None if to is None else last}


def _hint(operation: str, by_percent: Mapping[int, holds.Settled]) -> View:
    counts = {percent: settled.holds for percent, settled in by_percent.items()}
    reserved = sum(settled.reserved for settled in by_percent.values())
    actual = sum(settled.actual for settled in by_percent.values())
    return {
        "operation": operation or None,
        "holds": sum(counts.values()),
        "reserved": reserved,
        "settled": actual,
        "settled_percent": -(-100 * actual // reserved),
        "above": sum(count for percent, count in counts.items() if percent > 100),
        "percentiles": {f"p{each}": quantile(counts, each) for each in QUANTILES},
        "suggested_percent": quantile(counts, SUGGESTED),
    }


def _leak(made: Made | None, expired: Expired | None) -> View:
    return {"made": made.holds if made else 0, "made_amount": made.amount if made else 0, **_expired(expired)}


def _expired(row: Expired | None) -> View:
    expired = row or Expired(0, 0, 0, 0)
    return {
        "expired": expired.holds,
        "settled_late": expired.settled_late,
        "unsettled": expired.holds - expired.settled_late,
        "amount": expired.amount,
        "seconds": expired.seconds // expired.holds if expired.holds else 0,
    }


def _tokens(reached: Mapping[int, int]) -> str:
    return ",".join(f"{partition}-{position}" for partition, position in sorted(reached.items()))
