"""Lists of an account's reservations, consumptions, grants and transactions, a page at a time.

Each list is a walk along the account's events, by position, so a cursor stays right whatever is written meanwhile. Rows
that only the inside of an event can filter out are passed over, a bounded number in one request; a page may then be
short and still have a `next_cursor`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from events.account import Key, State
from events.errors import Refusal
from events.facts import Consumed, Granted, Reserved
from events.recorded import Line, decode
from projections.items import consumption_view, grant_view, reservation_view
from projections.transactions import is_about, transaction_view
from service.queries import ListQuery, TransactionsQuery
from service.recall import load_items
from service.store.log import Log, Selection

SCANNED_MAX = 5_000
SCAN_PAGE = 500

View = dict[str, object]
Lines = list[tuple[int, Line]]
Rows = list[tuple[int, View | None]]
"""What each position shows; None is passed over."""


class InvalidCursor(Refusal):
    """The cursor is not one that this list gave out."""

    code = "invalid_cursor"
    status = 400
    title = "The cursor is not valid"


class Lists:
    """Pages of the lists that walk an account's events."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def page(self, name: str, query: ListQuery | TransactionsQuery, state: State, partition: int) -> View:
        """Return a page of the list `name`; `state` is the account as it is now."""
        as_of = f"{partition}-{state.account.position}"
        if isinstance(query, TransactionsQuery):
            selection = Selection(
                partition=partition,
                account=query.account,
                type=query.type,
                kinds=None if query.kind is None else (query.kind,),
                from_=query.from_,
                to=query.to,
                newest_first=query.order == "desc",
            )

            async def show(lines: Lines) -> Rows:
                return _transactions(query, lines)

        else:
            event_type, kinds = _SOURCES[name]
            selection = Selection(
                partition=partition,
                account=query.account,
                type=event_type,
                kinds=kinds,
                newest_first=query.order == "desc",
            )

            async def show(lines: Lines) -> Rows:
                return await self._items(name, query, state, partition, lines)

        rows, cursor = await self._walk(query, selection, show)
        return {name: rows, "next_cursor": cursor, "as_of": as_of}

    async def _walk(
        self,
        query: ListQuery | TransactionsQuery,
        selection: Selection,
        show: Callable[[Lines], Awaitable[Rows]],
    ) -> tuple[list[View], str | None]:
        beyond = _position(query.cursor)
        rows: list[View] = []
        scanned = 0
        while True:
            size = SCAN_PAGE if scanned else query.limit + 1
            stored = await self._log.page(selection, beyond=beyond, limit=size)
            scanned += len(stored)
            lines = [(position, Line(decode(line.line), line.line, line.hash)) for position, line in stored]
            for position, view in await show(lines):
                if view is not None:
                    if len(rows) == query.limit:
                        return rows, str(beyond)
                    rows.append(view)
                beyond = position
            if len(stored) < size:
                return rows, None
            if scanned >= SCANNED_MAX:
                return rows, str(beyond)

    async def _items(self, name: str, query: ListQuery, state: State, partition: int, lines: Lines) -> Rows:
        """Return the item that each event made, as it is now."""
        keys = {position: _made(line) for position, line in lines}
        unknown = [
            key for key in keys.values() if key is not None and key not in state.known and key not in state.changed
        ]
        await load_items(self._log, partition, state, unknown)
        rows: Rows = []
        for position, key in keys.items():
            view = None if key is None else _VIEWS[name](state, key[1])
            wanted = query.state is None or (view is not None and view.get("state") == query.state)
            rows.append((position, view if wanted else None))
        return rows


def _transactions(query: TransactionsQuery, lines: Lines) -> Rows:
    return [
        (
            position,
            transaction_view(line)
            if is_about(line, operation=query.operation, reservation=query.reservation, reference=query.reference)
            else None,
        )
        for position, line in lines
    ]


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
_SOURCES: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "reservations": ("reserved", ("hold",)),
    "consumptions": ("consumed", None),
    "grants": ("granted", ("plan", "trial", "promo", "purchase", "refund_regrant", "adjustment")),
}
"""Which events make the items of a list."""


def _position(cursor: str | None) -> int | None:
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
