"""Lists of an account's reservations, consumptions, grants, transactions and admin entries, a page at a time.

Each list is a walk along the account's events, by position, so a cursor stays right whatever is written meanwhile and
however often a projection is rebuilt. The history says where the events are that a list asks for; those that it has not
seen yet are looked at one by one, so a list is never behind. Rows that several filters leave out are passed over, a
bounded number in one request; a page may then be short and still have a `next_cursor`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from events.account import Key, State
from events.errors import Refusal
from events.facts import Consumed, Fact, Granted, Reserved
from events.recorded import Line, decode
from projections.admin_audit import audit_entry
from projections.history import ADMIN, KINDS, Filters, filters_of, of_kinds
from projections.items import consumption_view, grant_view, reservation_view
from projections.transactions import transaction_view
from service.queries import AuditQuery, ConsumptionsQuery, GrantsQuery, ReservationsQuery, TransactionsQuery
from service.ranges import require_forward
from service.recall import load_items
from service.store.log import Log
from service.store.views import Section, Views

ItemsQuery = ReservationsQuery | ConsumptionsQuery | GrantsQuery

SCANNED_MAX = 5_000
SCAN_PAGE = 500

View = dict[str, object]
Lines = list[tuple[int, Line]]
Rows = list[tuple[int, View | None]]
"""What each position shows; None is passed over."""
Show = Callable[[Lines], Awaitable[Rows]]


class InvalidCursor(Refusal):
    """The cursor is not one that this list gave out."""

    code = "invalid_cursor"
    status = 400
    title = "The cursor is not valid"


class Lists:
    """Pages of the lists that walk an account's events."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._views = Views(log)

    async def page(
        self,
        name: str,
        query: ItemsQuery | TransactionsQuery | AuditQuery,
        state: State,
        partition: int,
        due: Sequence[Fact] = (),
    ) -> View:
        """Return a page of the list `name`; `state` is the account as it is now, `due` what is in it and not written."""
        as_of = f"{partition}-{state.account.position}"
        if isinstance(query, TransactionsQuery | AuditQuery):
            require_forward(query.from_, query.to)
        if isinstance(query, TransactionsQuery):
            filters = filters_of(
                type_=query.type,
                kind=query.kind,
                operation=query.operation,
                reservation=query.reservation,
                reference=query.reference,
            )
            section = Section(partition, query.account, from_=query.from_, to=query.to)
            show: Show = _shown(transaction_view)
        elif isinstance(query, AuditQuery):
            filters = Filters([ADMIN])
            section = Section(partition, query.account, from_=query.from_, to=query.to)
            show = _shown(lambda line: audit_entry(line.event))
        else:
            filters = of_kinds(_SOURCES[name])
            section = Section(partition, query.account)

            async def show_items(lines: Lines) -> Rows:
                return await self._items(name, query, state, partition, lines)

            show = show_items
            if isinstance(query, GrantsQuery) and due:
                ahead = _made_by(due, query, state)
                rows, cursor = await self._with_ahead(ahead, query, section, filters, show)
                return {name: rows, "next_cursor": cursor, "as_of": as_of}

        rows, cursor = await self._walk(query, section, filters, show)
        return {_NAMES.get(name, name): rows, "next_cursor": cursor, "as_of": as_of}

    async def _with_ahead(
        self, ahead: Sequence[tuple[int, View]], query: GrantsQuery, section: Section, filters: Filters, show: Show
    ) -> tuple[list[View], str | None]:
        """Return a page of what was written and, as newest, of what will be, at the positions behind the account's last."""
        beyond = position_of(query.cursor)
        if query.order == "asc":
            rows, cursor = await self._walk(query, section, filters, show)
            left = [(position, view) for position, view in ahead if beyond is None or position > beyond]
            if cursor is not None or not left:
                return rows, cursor
            taken = left[: query.limit - len(rows)]
            last = taken[-1][0] if taken else left[0][0] - 1
            return [*rows, *(view for _, view in taken)], str(last) if len(taken) < len(left) else None
        left = [(position, view) for position, view in reversed(ahead) if beyond is None or position < beyond]
        taken = left[: query.limit]
        newest = [view for _, view in taken]
        if len(taken) == query.limit:
            return newest, str(taken[-1][0])
        rows, cursor = await self._walk(replace(query, limit=query.limit - len(taken)), section, filters, show)
        return [*newest, *rows], cursor

    async def _walk(
        self,
        query: ItemsQuery | TransactionsQuery | AuditQuery,
        section: Section,
        filters: Filters,
        show: Show,
    ) -> tuple[list[View], str | None]:
        beyond = position_of(query.cursor)
        newest_first = query.order == "desc"
        rows: list[View] = []
        scanned = 0
        while True:
            size = SCAN_PAGE if scanned else query.limit + 1
            if beyond is not None:
                section = section._replace(before=beyond) if newest_first else section._replace(after=beyond)
            stored = await self._views.history(section, filters.first, newest_first=newest_first, limit=size)
            scanned += len(stored)
            lines = [(position, Line(decode(line.line), line.line, line.hash)) for position, line in stored]
            passed = await show([(position, line) for position, line in lines if filters.pass_(line.event)])
            views = dict(passed)
            for position, _ in lines:
                view = views.get(position)
                if view is not None:
                    if len(rows) == query.limit:
                        return rows, str(beyond)
                    rows.append(view)
                beyond = position
            if len(stored) < size:
                return rows, None
            if scanned >= SCANNED_MAX:
                return rows, str(beyond)

    async def _items(self, name: str, query: ItemsQuery, state: State, partition: int, lines: Lines) -> Rows:
        """Return the item that each event made, as it is now."""
        keys = {position: _made(line) for position, line in lines}
        unknown = [
            key for key in keys.values() if key is not None and key not in state.known and key not in state.changed
        ]
        await load_items(self._log, partition, state, unknown)
        rows: Rows = []
        for position, key in keys.items():
            view = None if key is None else _VIEWS[name](state, key[1])
            state_asked = None if isinstance(query, ConsumptionsQuery) else query.state
            wanted = state_asked is None or (view is not None and view.get("state") == state_asked)
            rows.append((position, view if wanted else None))
        return rows


def _made_by(due: Sequence[Fact], query: GrantsQuery, state: State) -> list[tuple[int, View]]:
    """Return the grants that due facts make, in their order, at the next positions of the account."""
    made = [fact.data.grant_id for fact in due if isinstance(fact.data, Granted) and fact.kind in _SOURCES["grants"]]
    views = [_grant(state, grant_id) for grant_id in made if grant_id is not None]
    return [
        (position, view)
        for position, view in enumerate(views, state.account.position + 1)
        if view is not None and query.state in {None, view["state"]}
    ]


def _shown(view: Callable[[Line], View]) -> Show:
    """Return what shows each line by itself."""

    async def show(lines: Lines) -> Rows:
        return [(position, view(line)) for position, line in lines]

    return show


def _reservation(state: State, item_id: str) -> View | None:
    hold = state.hold(item_id)
    return None if hold is None else reservation_view(hold)


def _consumption(state: State, item_id: str) -> View | None:
    consumption = state.consumption(item_id)
    return None if consumption is None else consumption_view(consumption)


def _grant(state: State, item_id: str) -> View | None:
    grant = state.grant(item_id)
    return None if grant is None else grant_view(grant)


_VIEWS: dict[str, Callable[[State, str], View | None]] = {
    "reservations": _reservation,
    "consumptions": _consumption,
    "grants": _grant,
}
_SOURCES: dict[str, tuple[str, ...]] = {
    "reservations": ("hold",),
    "consumptions": KINDS["consumed"],
    "grants": tuple(kind for kind in KINDS["granted"] if kind not in {"activated", "expired", "revoked"}),
}
"""The kinds of events that make the items of a list."""
_NAMES = {"audit": "entries"}


def position_of(cursor: str | None) -> int | None:
    """Return the position that a cursor stands for; raises InvalidCursor."""
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise InvalidCursor("the cursor is not one that this list gave out")
    return int(cursor)


def _made(line: Line) -> Key | None:
    """Return the item that an event made; an adjustment that takes credits makes none."""
    match line.event.data:
        case Reserved(reservation_id=item_id):
            return "work", item_id
        case Consumed(consumption_id=item_id):
            return "work", item_id
        case Granted(grant_id=item_id):
            return None if item_id is None else ("grant", item_id)
        case other:
            raise LookupError(f"{line.event.id}: {type(other).__name__} makes no item")
