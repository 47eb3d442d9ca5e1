"""The statement of an account, from its log and from what is due in it (CONTRACT.md, GET .../statement).

`opening` and `closing` are those of the whole range; `movements` lead from one to the other, the oldest first, a page at
a time. What is due and not written yet comes at the end, on the last page.
"""

from __future__ import annotations

from typing import NamedTuple

from events.account import ZERO, State
from events.facts import Fact, Figures
from events.instants import Instant
from events.recorded import Event, decode
from projections.balance import balance_view
from projections.statement import concerns, movement_of, movement_of_due
from service.lists import position_of
from service.queries import StatementQuery
from service.ranges import require_forward
from service.store.auditing import event_line
from service.store.log import Log
from service.store.views import BEHIND_ALL, Section, Views

BOUNDARY_PAGE = 100
PROVEN_MAX = 200
"""A proof takes some hundred hashes; a page of them is shorter than others."""
NO_FIGURES: dict[str, Figures] = {}

View = dict[str, object]


class Cut(NamedTuple):
    """Where an account's events are cut by an instant: the last one before it, and the balance there."""

    position: int
    balance: dict[str, Figures]


class Statements:
    """Answers queries for statements."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._views = Views(log)

    async def page(self, query: StatementQuery, written: State, due: list[Fact], partition: int, now: Instant) -> View:
        """Return a page; `written` is the account as its last event left it, `due` what is due in it at `now`."""
        require_forward(query.from_, query.to)
        unit = query.unit or "credits"
        last = written.account.position
        end = BEHIND_ALL if query.to is None else (await self._cut(partition, query.account, query.to, last)).position
        before = Cut(0, NO_FIGURES)
        if query.from_ is not None:
            before = await self._cut(partition, query.account, query.from_, last)
        after = Cut(last, written.account.figures)
        if end < last:
            after = await self._cut(partition, query.account, query.to or now, last)
        begins, ends = query.from_ or Instant(""), query.to or Instant("~")
        earlier = [fact for fact in due if (fact.effective_at or now) < begins]
        within = [fact for fact in due if begins <= (fact.effective_at or now) < ends]
        opening = earlier[-1].balance if earlier else before.balance
        closing = within[-1].balance if within else earlier[-1].balance if earlier else after.balance
        start = position_of(query.cursor)
        section = Section(partition, query.account, before.position if start is None else start, min(end, last) + 1)
        movements, cursor = await self._movements(section, unit, query)
        if cursor is None:
            movements += [movement_of_due(fact, unit) for fact in within if concerns(fact.data, fact.delta, unit)]
        view: View = {
            "account": query.account,
            "unit": unit,
            "from": query.from_,
            "to": query.to,
            "opening": balance_view(unit, opening.get(unit, ZERO)),
            "movements": movements,
            "closing": balance_view(unit, closing.get(unit, ZERO)),
            "next_cursor": cursor,
            "as_of": f"{partition}-{last}",
        }
        if query.proof:
            view |= {"cursor": query.cursor, "opening_event": await self._event(partition, before.position)}
        return view

    async def _movements(self, section: Section, unit: str, query: StatementQuery) -> tuple[list[View], str | None]:
        limit = min(query.limit, PROVEN_MAX) if query.proof else query.limit
        rows = await self._views.history(section, None, newest_first=False, limit=limit + 1)
        events = [(decode(stored.line), stored.line) for _, stored in rows]
        cursor = str(events[limit - 1][0].position) if len(events) > limit else None
        page = [(event, line) for event, line in events[:limit] if concerns(event.data, event.delta, unit)]
        return [movement_of(event, unit) | (_told(line) if query.proof else {}) for event, line in page], cursor

    async def _event(self, partition: int, position: int) -> View | None:
        """Return the event that the opening balance comes from; None when there is none."""
        found = await event_line(self._log, partition, position) if position else None
        return None if found is None else {"event": f"{partition}-{position}", **_told(found[0])}

    async def _cut(self, partition: int, account: str, at: Instant, last: int) -> Cut:
        """Find the last event that holds before an instant; due facts may have been recorded after it."""
        found: Event | None = None
        section = Section(partition, account, before=last + 1, to=at)
        for _, stored in await self._views.history(section, None, newest_first=True, limit=1):
            found = decode(stored.line)
        section = Section(partition, account, after=0 if found is None else found.position, before=last + 1)
        while True:
            rows = await self._views.history(section, None, newest_first=False, limit=BOUNDARY_PAGE)
            for _, stored in rows:
                event = decode(stored.line)
                if event.effective_at >= at:
                    return _cut_at(found)
                found = event
            if len(rows) < BOUNDARY_PAGE or found is None:
                return _cut_at(found)
            section = section._replace(after=found.position)


def _told(line: bytes) -> View:
    """Return an event's own words, which a proof is about."""
    return {"line": line.decode()}


def _cut_at(event: Event | None) -> Cut:
    return Cut(0, NO_FIGURES) if event is None else Cut(event.position, event.balance)
