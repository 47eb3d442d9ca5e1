"""What `audit replay --catalog` shows: one JSON object, and the same as tables for people."""

from __future__ import annotations

from typing import Any

import click

from events.account import State
from events.catalog import Catalog
from events.facts import Figures
from events.instants import Instant
from events.rebuilding import ASSUMED, LOST
from projections.counterfactual import CANNOT_SAY, REFUSED_TOLD_MAX, Both, Told, Verdict, Work
from service.console import print_table

View = dict[str, Any]

SHOWN_MAX = 20
_VERDICTS: dict[Verdict, str] = {
    "accepted": "would be accepted",
    "refused": "would be refused",
    "falls": "would fall with those, being about what was never made",
    "free": "would be free",
    "not_rebuilt": "cannot be rebuilt from their events, and are left out",
}
_NOTHING = Figures(available=0, reserved=0, debt=0, scheduled=0, scoped=0, bonus=0)


def told_view(told: Told, catalog: Catalog, start: Instant, end: Instant) -> View:
    """Return what all accounts came to."""
    return {
        "catalog": catalog.version,
        "from": start,
        "to": end,
        "commands": told.commands,
        **{verdict: told.verdicts[verdict] for verdict in _VERDICTS},
        "refused_by_code": dict(sorted(told.codes.items())),
        "operations": [
            {"unit": unit, "operation": operation or None, **_both_view(both)}
            for (unit, operation), both in sorted(told.operations.items())
        ],
        "refusals": [{name: getattr(each, name) for name in each.__struct_fields__} for each in told.refused],
        "assumed": {name: {"commands": count, "means": ASSUMED[name]} for name, count in sorted(told.assumed.items())},
        "lost": {name: {"commands": count, "means": LOST[name]} for name, count in sorted(told.lost.items())},
        "cannot_say": CANNOT_SAY,
    }


def _both_view(both: Both) -> View:
    return {
        "was": _work_view(both.was),
        "would_be": _work_view(both.would_be),
        "difference": both.would_be.net - both.was.net,
    }


def _work_view(work: Work) -> View:
    names = ("steps", "used", "charged", "refunded", "net")
    return {name: getattr(work, name) for name in names}


def account_view(account: str, told: Told, was: State, would_be: State) -> View | None:
    """Return what would differ in an account, None when nothing would."""
    units: View = {}
    for unit in sorted({*was.account.figures, *would_be.account.figures}):
        work = Both.nothing()
        for (of, _), both in told.operations.items():
            if of == unit:
                work.add(both)
        ends = [side.account.figures.get(unit, _NOTHING) for side in (was, would_be)]
        if work.was != work.would_be or ends[0] != ends[1]:
            figures = [{name: getattr(end, name) for name in ("available", "reserved", "debt")} for end in ends]
            units[unit] = {**_both_view(work), "at_the_end": {"was": figures[0], "would_be": figures[1]}}
    if not units and told.verdicts["accepted"] == told.commands:
        return None
    verdicts = {verdict: told.verdicts[verdict] for verdict in _VERDICTS}
    return {"account": account, "commands": told.commands, **verdicts, "units": units}


def print_told(view: View) -> None:
    """Print it for people: commands, operations, the accounts that differ most, the first refusals, what is assumed."""
    click.echo(
        f"catalog {view['catalog']} instead, from {view['from']} until {view['to']}: {view['commands']} commands of "
        f"{view['accounts_with_commands']} accounts, {view['accounts_changed']} of which would differ\n"
    )
    print_table(("commands", ""), [(str(view[name]), said) for name, said in _VERDICTS.items() if view[name]])
    operations = [
        (each["operation"] or "(none named)", each["unit"], *_figures(each))
        for each in sorted(view["operations"], key=lambda each: -abs(each["difference"]))
    ]
    _print_below(("operation", "unit", "steps", "would be", "cost", "would be", "difference"), operations)
    accounts = [
        (view["account"], unit, *_figures(each), str(view["refused"] + view["falls"]), *_ends(each))
        for view in view["accounts"][:SHOWN_MAX]
        for unit, each in view["units"].items()
    ]
    head = ("account", "unit", "steps", "would be", "cost", "would be", "difference", "refused", "left", "would be")
    _print_below(head, accounts)
    names = ("event", "account", "command", "operation", "code")
    refusals = [tuple(str(each[name] or "") for name in names) for each in view["refusals"][:SHOWN_MAX]]
    _print_below(names, refusals)
    if view["refused"] > len(refusals):
        click.echo(f"... and {view['refused'] - len(refusals)} more; --json tells the first {REFUSED_TOLD_MAX}")
    click.echo()
    for noted, verb in (("assumed", "assumed of"), ("lost", "left out,")):
        for each in view[noted].values():
            click.echo(f"{verb} {each['commands']} commands: {each['means']}")
    for each in view["cannot_say"]:
        click.echo(f"not told: {each}")


def _print_below(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    if rows:
        click.echo()
        print_table(head, rows)


def _figures(each: View) -> tuple[str, ...]:
    was, would_be = each["was"], each["would_be"]
    figures = (was["steps"], would_be["steps"], was["net"], would_be["net"])
    return (*(str(figure) for figure in figures), f"{each['difference']:+}")


def _ends(each: View) -> tuple[str, ...]:
    return tuple(str(each["at_the_end"][side]["available"]) for side in ("was", "would_be"))
