"""What `audit replay`, `diff` and `explain` show: JSON objects, and the same as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import click

from events.account import ZERO, Account
from events.grants import Grant
from events.holds import Hold
from events.instants import Instant
from events.recorded import Line
from projections.balance import balance_view
from projections.items import grant_view, reservation_view
from projections.transactions import transaction_view
from service.auditing.travel import Past
from service.console import print_table

View = dict[str, Any]

_FIGURES = ("available", "reserved", "debt", "scheduled", "scoped", "bonus")


def account_view(past: Past, at: Instant) -> View:
    """Return an account as it was at an instant."""
    account = past.seen.account
    known = {**past.seen.known, **past.seen.changed}
    holds = [item for item in known.values() if isinstance(item, Hold) and item.state == "open"]
    return {
        "account": account.id,
        "at": at,
        "events": past.state.account.events,
        "last_position": past.state.account.position,
        "status": account.status,
        "plan": account.plan,
        "period_start": account.period_start,
        "period_end": account.period_end,
        "catalog": account.catalog,
        "balances": {unit: balance_view(unit, figures) for unit, figures in account.figures.items()},
        "usage": {unit: {"used": usage.used, "charged": usage.charged} for unit, usage in account.usage.items()},
        "capacity": dict(account.occupied),
        "grants": [grant_view(grant) for grant in account.grants.values()],
        "reservations": [reservation_view(hold) for hold in holds],
    }


def print_account(view: View) -> None:
    """Print an account as it was."""
    click.echo(
        f"{view['account']} at {view['at']}: {view['status']}, plan {view['plan']}, period {view['period_start']} to "
        f"{view['period_end']}; {view['events']} events\n"
    )
    balances = [(unit, *(str(balance[name]) for name in _FIGURES)) for unit, balance in view["balances"].items()]
    print_table(("unit", *_FIGURES), balances)
    if view["grants"]:
        click.echo()
        _print_grants(view["grants"])
    if view["reservations"]:
        click.echo()
        holds = [
            (hold["id"], str(hold["held"]), hold["unit"], _pairs(hold["occupies"]), hold["expires_at"] or "never")
            for hold in view["reservations"]
        ]
        print_table(("open reservation", "held", "unit", "occupies", "expires"), holds)


def _print_grants(grants: Sequence[View]) -> None:
    rows = [
        (
            *(grant["id"], grant["kind"], grant["state"], str(grant["remaining"]), str(grant["held"])),
            *(grant["unit"], grant["expires_at"] or "never", ", ".join(grant["operations"] or ["all"])),
        )
        for grant in grants
    ]
    print_table(("grant, in draw order", "kind", "state", "remaining", "held", "unit", "expires", "for"), rows)


def _pairs(figures: View) -> str:
    return ", ".join(f"{name} {figure}" for name, figure in figures.items())


def difference_view(one: Past, other: Past, lines: Sequence[Line], start: Instant, end: Instant) -> View:
    """Return what changed in an account between two instants, and by which events.

    A balance changes by the deltas of the events, and by what was due and not yet written at either instant.
    """
    before, after = one.seen.account, other.seen.account
    units = {**before.figures, **after.figures}
    told = {name: (getattr(before, name), getattr(after, name)) for name in _PLAIN}
    return {
        "account": after.id,
        "from": start,
        "to": end,
        "balances": {unit: _change(unit, before, after) for unit in units},
        "changes": {name: {"from": a or None, "to": b or None} for name, (a, b) in told.items() if a != b},
        "grants": _grant_changes(before, after),
        "events": [transaction_view(line) for line in lines],
    }


_PLAIN = ("status", "plan", "period_start", "period_end", "catalog", "allowance", "capacity", "occupied")


def _change(unit: str, before: Account, after: Account) -> View:
    one, other = before.figures.get(unit, ZERO), after.figures.get(unit, ZERO)
    return {
        "from": balance_view(unit, one),
        "to": balance_view(unit, other),
        "change": {name: getattr(other, name) - getattr(one, name) for name in _FIGURES},
    }


def _grant_changes(before: Account, after: Account) -> list[View]:
    ids = {**before.grants, **after.grants}
    return [
        {
            "grant_id": grant_id,
            "from": _figures(before.grants.get(grant_id)),
            "to": _figures(after.grants.get(grant_id)),
        }
        for grant_id in ids
        if before.grants.get(grant_id) != after.grants.get(grant_id)
    ]


def _figures(grant: Grant | None) -> View | None:
    return None if grant is None else {"state": grant.state, "remaining": grant.remaining, "held": grant.held}


def print_difference(view: View) -> None:
    """Print what changed between two instants."""
    click.echo(f"{view['account']} from {view['from']} to {view['to']}: {len(view['events'])} events\n")
    rows = [
        (f"{unit} {name}", str(balance["from"][name]), str(balance["to"][name]), f"{balance['change'][name]:+d}")
        for unit, balance in view["balances"].items()
        for name in _FIGURES
        if balance["change"][name]
    ]
    rows += [(name, _told(change["from"]), _told(change["to"]), "") for name, change in view["changes"].items()]
    print_table(("", "from", "to", "change"), rows)
    if view["events"]:
        click.echo()
        _print_events(view["events"])


def _told(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {figure}" for name, figure in cast("View", value).items())
    return "" if value is None else str(value)


def _print_events(events: Sequence[View]) -> None:
    rows = [
        (
            *(event["id"], event["recorded_at"], f"{event['type']}/{event['kind']}", str(event["amount"])),
            *(event["unit"], event["operation"] or "", event["actor"]["id"], event["reason"] or ""),
        )
        for event in events
    ]
    print_table(("event", "recorded", "kind", "amount", "unit", "operation", "by", "reason"), rows)


def print_explanation(view: View) -> None:
    """Print why an event is as it is."""
    event = view["event"]
    click.echo(f"{event['id']} {event['type']}/{event['kind']} of {view['account']}, {event['recorded_at']}")
    click.echo(f"{view['because']}\n")
    if view["due"] is not None:
        click.echo(f"written by the ledger itself: {view['due']['id']} was due at {view['due']['due_at']}\n")
    for price in view["price"]:
        click.echo(_price(price))
    if view["price"]:
        click.echo()
    rows = [
        (
            *(str(grant.get("order", "")), grant["grant_id"], grant["kind"], str(grant["draw_key"]["priority"])),
            *(grant["draw_key"]["expires_at"] or "never", str(grant["remaining"]), _moved(grant["changes"])),
            grant.get("because", ""),
        )
        for grant in view["grants"]
    ]
    if rows:
        print_table(("#", "grant", "kind", "priority", "expires", "remaining", "moved", "because"), rows)
        click.echo()
    deltas = [
        (unit, *(str(balance["after"][name]) for name in _FIGURES), _moved(_difference(balance)))
        for unit, balance in view["balance"].items()
        if balance["after"] is not None
    ]
    print_table(("balance after", *_FIGURES, "moved"), deltas)


def _difference(balance: View) -> dict[str, int]:
    before = balance["before"] or dict.fromkeys(_FIGURES, 0)
    return {name: balance["after"][name] - before[name] for name in _FIGURES}


def _moved(changes: dict[str, int]) -> str:
    return ", ".join(f"{name} {change:+d}" for name, change in changes.items() if change)


def _price(price: View) -> str:
    """Return a price as a formula."""
    terms = [price["base"], f"{price['each']} x {price['quantity'] or 1}"]
    terms += [f"{part['price']} x {part['count']} / 1000 ({name})" for name, part in price["per_1k"].items()]
    text = f"({' + '.join(terms)})"
    for name, part in price["multipliers"].items():
        text += f" x {part['factor']} ({name} {part['value'] or 'left out'})"
    named = "" if price["by_rule"] else f"; the amount {price['amount']} was named by the caller"
    return f"price of {price['operation']} under catalog {price['catalog']}: {text} = {price['exact']}, rounded up {price['price']}{named}"
