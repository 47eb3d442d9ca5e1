"""Summaries: usage of an account and of all, and the finance of the ledger (CONTRACT.md, `usage`, `finance/summary`).

They are added up from rows by the hour and say how far those are: `as_of` is the token of the account's partition, or
the tokens of all partitions with commas between them; `min_token` takes what `as_of` gave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from events.instants import Instant
from events.recorded import Event
from projections import finance, usage
from projections.finance import Movements, Origin
from projections.usage import Key, Work
from service.queries import FinanceQuery, UsageOfAllQuery, UsageQuery
from service.ranges import EDGE_EVENTS_MAX, LAST, Range, hour_after, require_forward, too_many, whole_hours
from service.store.log import Log
from service.store.views import Section, Snapshot, Views

View = dict[str, object]
_COLUMNS = ("granted", "consumed", "refunded", "expired", "revoked")


class Summaries:
    """Answers queries that projections add up."""

    def __init__(self, log: Log) -> None:
        self._views = Views(log)

    async def usage(self, query: UsageQuery, partition: int) -> View:
        """Return the usage of an account by time; `used - refunded` is what SEMANTICS.md section 3 calls usage."""
        hours = whole_hours(query.from_, query.to)
        async with self._views.snapshot() as snapshot:
            reached = (await snapshot.checkpoints(usage.NAME)).get(partition, 0)
            rows = await snapshot.work_of(partition, query.account, hours.first, hours.last)
            events: list[Event] = []
            for edge in hours.edges:
                section = Section(partition, query.account, 0, reached + 1, edge.from_, edge.to)
                events += await snapshot.recorded_of(section, EDGE_EVENTS_MAX + 1 - len(events))
                _require_countable(events)
            found = _merged(rows, usage.fold(events, await snapshot.sources(partition, events)))
        return {"account": query.account, **_usage_view(query, found), "as_of": f"{partition}-{reached}"}

    async def usage_of_all(self, query: UsageOfAllQuery, prefixes: Sequence[str] | None) -> View:
        """Return the usage of all accounts, or of those with one of the prefixes, by time."""
        hours = whole_hours(query.from_, query.to)
        async with self._views.snapshot() as snapshot:
            reached = await snapshot.checkpoints(usage.NAME)
            rows = await snapshot.work_of_all(hours.first, hours.last, prefixes)
            budget = EDGE_EVENTS_MAX
            for partition, position in reached.items() if hours.edges else ():
                events = await _recorded(snapshot, partition, position, hours, budget)
                budget -= len(events)
                sources = await snapshot.sources(partition, events)
                within = [event for event in events if prefixes is None or event.account.startswith(tuple(prefixes))]
                rows = _merged(rows, usage.totals(usage.fold(within, sources)))
        return {**_usage_view(query, rows), "as_of": _tokens(reached)}

    async def finance(self, query: FinanceQuery) -> View:
        """Return opening, movements and closing of all credits of a unit, by kind of grant and cost basis."""
        require_forward(query.from_, query.to)
        unit = query.unit or "credits"
        async with self._views.snapshot() as snapshot:
            reached = await snapshot.checkpoints(finance.NAME)
            opening = {} if query.from_ is None else await _moved_before(snapshot, reached, unit, query.from_)
            closing = await _moved_before(snapshot, reached, unit, query.to)
        return {
            "unit": unit,
            "from": query.from_,
            "to": query.to,
            **_finance_view(opening, closing),
            "as_of": _tokens(reached),
        }


async def _recorded(snapshot: Snapshot, partition: int, position: int, hours: Range, budget: int) -> list[Event]:
    events: list[Event] = []
    for edge in hours.edges:
        limit = budget + 1 - len(events)
        events += await snapshot.recorded(partition, edge.from_, edge.to, until=position, limit=limit)
        if len(events) > budget:
            raise too_many()
    return events


async def _moved_before(
    snapshot: Snapshot, reached: Mapping[int, int], unit: str, at: Instant | None
) -> dict[Origin, Movements]:
    """Return all that moved before an instant: whole hours, late facts, and the beginning of the last hour."""
    if at is None:
        return await snapshot.moved_before(unit, LAST, LAST)
    hour = Instant(usage.hour_of(at))
    moved = await snapshot.moved_before(unit, hour, at)
    if hour == at:
        return moved
    budget = EDGE_EVENTS_MAX
    for partition, position in reached.items():
        # What holds before `at` may have been written until the hour's end; what was written later is a late fact.
        events = await snapshot.recorded(partition, hour, hour_after(hour), until=position, limit=budget + 1)
        if len(events) > budget:
            raise too_many()
        budget -= len(events)
        within = [event for event in events if hour <= event.effective_at < at]
        known = await snapshot.origins(partition, within)
        for key, more in finance.fold(within, known).rows.items():
            if key.unit == unit:
                origin = Origin(key.kind, key.basis)
                moved[origin] = moved.get(origin, Movements()).plus(more)
    return moved


def _require_countable(events: Sequence[Event]) -> None:
    if len(events) > EDGE_EVENTS_MAX:
        raise too_many()


def _merged(one: Mapping[Key, Work], other: Mapping[Key, Work]) -> dict[Key, Work]:
    found = dict(one)
    for key, work in other.items():
        found[key] = found.get(key, Work()).plus(work)
    return found


def _tokens(reached: Mapping[int, int]) -> str:
    return ",".join(f"{partition}-{position}" for partition, position in sorted(reached.items()))


def _usage_view(query: UsageQuery | UsageOfAllQuery, rows: Mapping[Key, Work]) -> View:
    unit = query.unit or "credits"
    names = [name for name in ("operation", "actor") if name in (query.group_by or "").split(",")]
    series: dict[tuple[str | None, ...], Work] = {}
    groups: dict[tuple[str | None, ...], Work] = {}
    total = Work()
    for key, work in rows.items():
        if key.unit == unit:
            group = tuple(getattr(key, name) or None for name in names)
            start = usage.bucket_of(key.hour, query.bucket)
            series[start, *group] = series.get((start, *group), Work()).plus(work)
            groups[group] = groups.get(group, Work()).plus(work)
            total = total.plus(work)
    return {
        "unit": unit,
        "from": query.from_,
        "to": query.to,
        "bucket": query.bucket,
        "group_by": names,
        "series": _listed(("start", *names), series),
        "groups": _listed(names, groups) if names else [],
        "totals": usage.work_view(total),
    }


def _listed(names: Sequence[str], rows: Mapping[tuple[str | None, ...], Work]) -> list[View]:
    ordered = sorted(rows.items(), key=lambda row: tuple(value or "" for value in row[0]))
    return [{**dict(zip(names, values, strict=True)), **usage.work_view(work)} for values, work in ordered]


def _finance_view(opening: Mapping[Origin, Movements], closing: Mapping[Origin, Movements]) -> View:
    rows: list[View] = []
    for origin in sorted(opening.keys() | closing.keys()):
        before, after = opening.get(origin, Movements()), closing.get(origin, Movements())
        rows.append(
            {
                "kind": origin.kind,
                "cost_basis": finance.basis_view(origin.basis),
                "opening": before.change,
                **{name: getattr(after, name) - getattr(before, name) for name in _COLUMNS},
                "closing": after.change,
            }
        )
    debt = finance.OF_DEBT
    unfunded = closing.get(debt, Movements()).unfunded - opening.get(debt, Movements()).unfunded
    return {
        **{name: _sum(rows, name) for name in ("opening", *_COLUMNS, "closing")},
        "debt": -closing.get(debt, Movements()).change,
        "unfunded": unfunded,
        "rows": rows,
    }


def _sum(rows: Iterable[View], name: str) -> int:
    return sum(value for row in rows if isinstance(value := row[name], int))
