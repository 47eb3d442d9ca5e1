"""The double's queries: what can be told from the books. Reports that the service folds over time are not among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from credit_ledger_client.errors import Unsupported
from credit_ledger_client.testing.books import PARTITIONS, Books, Told, View, as_sent
from events.account import State
from events.asking import invalid
from events.checking import check
from events.commands import Line, Params
from events.draft import Draft
from events.errors import NotFound
from events.facts import Consumed, Granted, Refunded, Reserved
from events.instants import Instant, parse
from events.partition import partition_of
from events.plans import capacity_limits
from events.quoting import quote
from events.recorded import Line as Written
from projections.balance import account_balance, account_view, quota_view
from projections.items import consumption_view, grant_view, reservation_view
from projections.quote import catalog_view, quote_view, verdict_view
from projections.transactions import transaction_view

LIMIT_DEFAULT = 50
_FOLDED = frozenset({"audit", "usage", "statement", "explain", "accounts", "usage_of_all", "finance_summary"})
_ENDS = frozenset({"activated", "expired", "revoked"})


@dataclass(frozen=True, kw_only=True)
class Priced:
    """What a check or a quote asks for."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    operation: str | None = None
    quantity: int | None = None
    params: Params | None = None
    amount: int | None = None
    unit: str | None = None
    lines: tuple[Line, ...] | None = None
    capacity: dict[str, int] | None = None


_priced: TypeAdapter[Priced] = TypeAdapter(Priced)


def answer(books: Books, name: str, given: Mapping[str, Any]) -> Told:
    """Return the answer to a query; raises Refusal, and Unsupported for what only the service can tell."""
    fields = {field: value for field, value in given.items() if field != "min_token"}
    if name in _FOLDED:
        raise Unsupported(f"the double does not tell {name}: ask a real ledger, `credit-ledger up` starts one")
    if name == "catalog":
        return 200, as_sent(catalog_view(books.catalog))
    if name == "quote":
        return 200, as_sent(quote_view(quote(books.catalog, _asked(fields))))
    account = str(fields.pop("account", ""))
    if name == "outcome":
        return 200, books.outcome(account, str(fields["idempotency_key"]))
    if name == "check":
        draft = Draft(books.seen(account), books.now, books.catalog, "check", books.history)
        return 200, as_sent(verdict_view(account, check(draft, _asked(fields))))
    if name in ("balance", "quota", "account"):
        return 200, _figures(books, name, account, fields)
    if name in _LISTS:
        return 200, _page(books, name, account, fields)
    raise NotFound(f"there is no query {name}")


def _asked(fields: Mapping[str, Any]) -> Priced:
    try:
        return _priced.validate_json(orjson.dumps(fields))
    except ValidationError as error:
        raise invalid(error) from None


def _figures(books: Books, name: str, account: str, fields: Mapping[str, Any]) -> View:
    at = parse(fields["at"]) if fields.get("at") else None
    state = books.known(account) if at is None else books.at(account, at)
    as_of = at or books.now
    catalog = books.history.at(as_of, books.catalog)
    limits = capacity_limits(Draft(state, as_of, catalog, ""))
    token = f"{partition_of(account, PARTITIONS)}-{state.account.position}"
    unit = str(fields.get("unit") or "credits")
    if name == "balance":
        return account_balance(state.account, unit, limits, as_of=as_of, token=token)
    if name == "quota":
        return quota_view(state.account, unit, limits, as_of=as_of, token=token)
    view = account_view(state.account, limits, as_of=as_of, token=token)
    if "quota" in str(fields.get("include")):
        view["quota"] = quota_view(state.account, "credits", limits, as_of=as_of, token=token)
    if "audit" in str(fields.get("include")):
        raise Unsupported("the double does not tell audit entries")
    return view


def _reservation(state: State, line: Written) -> View | None:
    data = line.event.data
    hold = state.hold(data.reservation_id) if isinstance(data, Reserved) and line.event.kind == "hold" else None
    return None if hold is None else reservation_view(hold)


def _consumption(state: State, line: Written) -> View | None:
    data = line.event.data
    found = state.consumption(data.consumption_id) if isinstance(data, Consumed) else None
    return None if found is None else consumption_view(found)


def _grant(state: State, line: Written) -> View | None:
    data = line.event.data
    if not isinstance(data, Granted) or data.grant_id is None or line.event.kind in _ENDS:
        return None
    found = state.grant(data.grant_id)
    return None if found is None else grant_view(found)


def _transaction(_state: State, line: Written) -> View | None:
    return transaction_view(line)


_LISTS: dict[str, Callable[[State, Written], View | None]] = {
    "reservations": _reservation,
    "consumptions": _consumption,
    "grants": _grant,
    "transactions": _transaction,
}


def _page(books: Books, name: str, account: str, fields: Mapping[str, Any]) -> View:
    """Return a page of a list; the cursor is the position that the next page begins behind."""
    state = books.known(account)
    newest_first = fields.get("order", "desc") == "desc"
    lines = books.lines_of(account)
    rows: list[tuple[int, View]] = []
    for line in reversed(lines) if newest_first else lines:
        view = _LISTS[name](state, line)
        if view is not None and _wanted(view, line, fields):
            rows.append((line.event.position, view))
    cursor = fields.get("cursor")
    if cursor is not None:
        behind = int(cursor)
        rows = [row for row in rows if (row[0] < behind) == newest_first and row[0] != behind]
    limit = int(fields.get("limit") or LIMIT_DEFAULT)
    more = str(rows[limit - 1][0]) if len(rows) > limit else None
    as_of = f"{partition_of(account, PARTITIONS)}-{state.account.position}"
    return as_sent({name: [view for _, view in rows[:limit]], "next_cursor": more, "as_of": as_of})


def _wanted(view: View, line: Written, fields: Mapping[str, Any]) -> bool:
    """Say whether a row passes the filters."""
    data = line.event.data
    shown = {
        "state": view.get("state"),
        "type": line.event.type,
        "kind": line.event.kind,
        "operation": view.get("operation"),
        "reservation": _of_reservation(data),
        "reference": view.get("reference"),
    }
    if any(fields.get(name) not in (None, value) for name, value in shown.items()):
        return False
    at = line.event.effective_at
    since, until = _instant(fields.get("from")), _instant(fields.get("to"))
    return (since is None or since <= at) and (until is None or at < until)


def _of_reservation(data: object) -> str | None:
    """Return the reservation that an event is about; that of a refund is the one that its consumption ended."""
    if isinstance(data, Reserved | Consumed):
        return data.reservation_id
    if isinstance(data, Refunded):
        return data.reservation_id or data.consumption_id
    return None


def _instant(text: str | None) -> Instant | None:
    return None if text is None else parse(text)
