"""`credit-ledger catalog`: what is sold, since when, what would change, and bringing another catalog into force."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.text import Text

from events.catalog import Catalog, Operation
from projections.catalog_diff import Difference, differences
from projections.quote import catalog_view
from service.console import complete, print_json, print_table, told
from service.database import log_at_hand
from service.in_force import CatalogRefused, activate, in_force, parse_stored, read_source
from service.settings import Settings, load
from service.store.catalogs import StoredCatalogs

HISTORY_MAX = 1000

_data = click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path),
    help="The directory of a `credit-ledger up`.  [default: LEDGER_DATABASE_URL, or .ledger]",
)  # fmt: skip
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class Source(NamedTuple):
    """A catalog with the text that it was written as, and where it was found."""

    catalog: Catalog
    text: str
    place: str


@click.group(short_help="Show catalogs, compare them, bring one into force.")
def catalog() -> None:
    """Catalogs: plans, prices, limits and packs, stored by version; one of them is in force.

    A version's content never changes. A change of prices is a new version, brought into force by `activate`; services
    that run take it over within a second or two, without a restart. LEDGER_CATALOG is for the beginning: at a start the
    file is stored, and activated when its version never was; after that the history of activations decides.

    \b
    credit-ledger catalog list                      what was in force, and since when
    credit-ledger catalog show                      what is sold now
    credit-ledger catalog diff catalog.toml         what would change
    credit-ledger catalog activate catalog.toml     bring it into force
    credit-ledger catalog activate 2026-10-01       go back to a version
    """  # noqa: D301 - click takes \b for "leave these lines as they are"


@catalog.command("show", short_help="Show a catalog: the one in force, or a version.")
@click.argument("version", required=False)
@click.option("--source", is_flag=True, help="Print the TOML as it was written.")
@_json
@_data
def show(version: str | None, data: Path | None, *, source: bool, as_json: bool) -> None:
    """Show the catalog in force, or the one of VERSION, or that of a file.

    \b
    credit-ledger catalog show
    credit-ledger catalog show 2026-10-01 --json
    credit-ledger catalog show 2026-10-01 --source > catalog.toml
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    with told():
        (found,) = _resolved([version], data)
    if source:
        click.echo(found.text, nl=not found.text.endswith("\n"))
    elif as_json:
        print_json(catalog_view(found.catalog))
    else:
        _print_catalog(found.catalog)


@catalog.command("list", short_help="List what was in force, and since when.")
@_json
@_data
def list_command(data: Path | None, *, as_json: bool) -> None:
    """List the activations, newest first; the first one is in force.

    \b
    credit-ledger catalog list
    credit-ledger catalog list --json
    """  # noqa: D301 - click takes \b for "leave these lines as they are"

    async def read() -> None:
        async with log_at_hand(settings, data) as (log, _):
            rows.extend(await StoredCatalogs(log).history(HISTORY_MAX))

    rows: list[tuple[int, str, str, str, str]] = []
    with told():
        settings = load(Settings)
        complete(read)
    head = ("number", "version", "hash", "activated_at", "by")
    if as_json:
        listed = [dict(zip(head, row, strict=True)) for row in rows]
        print_json({"in_force": rows[0][1] if rows else None, "activations": listed})
        return
    shown = [
        (str(number), version, "in force" if index == 0 else "", since, by, digest[:12])
        for index, (number, version, digest, since, by) in enumerate(rows)
    ]
    print_table(("#", "version", "", "since", "by", "hash"), shown)


@catalog.command("activate", short_help="Bring a catalog into force.")
@click.argument("catalog_file_or_version", metavar="FILE|VERSION")
@click.option("--by", default=None, help="Who does it, for the history.  [default: your login name]")
@_json
@_data
def activate_command(catalog_file_or_version: str, by: str | None, data: Path | None, *, as_json: bool) -> None:
    """Check a catalog, store it, and bring it into force; a VERSION that is stored comes back.

    Prices, policies and capacity limits hold for every command from then on, within a second or two; allowances from
    the next renewal; open holds keep the price that they were made with. Activating what is in force changes nothing.

    \b
    credit-ledger catalog activate catalog.toml
    credit-ledger catalog activate 2026-10-01 --by "deploy 812"
    """  # noqa: D301 - click takes \b for "leave these lines as they are"

    async def bring() -> None:
        async with log_at_hand(settings, data) as (log, _):
            stored = StoredCatalogs(log)
            found = await _resolve(stored, catalog_file_or_version)
            outcome = await activate(stored, found.catalog, found.text, by=by or _login(), again=True)
            now = (await in_force(stored)).activation
        if as_json:
            print_json({"outcome": outcome, **now._asdict()})
        elif outcome == "activated":
            click.echo(f"catalog {now.version} is in force; services that run take it over within seconds")
        else:
            click.echo(f"catalog {now.version} was in force already, since {now.activated_at}")

    with told():
        settings = load(Settings)
        complete(bring)


@catalog.command("diff", short_help="Show what differs between two catalogs.")
@click.argument("before", metavar="A")
@click.argument("after", metavar="[B]", required=False)
@_json
@_data
def diff(before: str, after: str | None, data: Path | None, *, as_json: bool) -> None:
    """Show what differs between A and B, each a file or a stored version: prices, plans, allowances, limits, packs.

    With A alone: what would change if A came into force now. Two files need no database.

    \b
    credit-ledger catalog diff catalog.toml
    credit-ledger catalog diff 2026-10-01 2026-11-01
    credit-ledger catalog diff old.toml new.toml --json
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    with told():
        one, other = _resolved([None, before] if after is None else [before, after], data)
    found = differences(one.catalog, other.catalog)
    if as_json:
        changed = [difference._asdict() for difference in found]
        print_json({"from": one.catalog.version, "to": other.catalog.version, "differences": changed})
        return
    click.echo(f"{one.catalog.version} -> {other.catalog.version}" + ("" if found else ": no difference"))
    console = Console(highlight=False)
    for difference in found:
        console.print(_line(difference), soft_wrap=True)


def _resolved(named: list[str | None], data: Path | None) -> list[Source]:
    """Return catalogs by file or version, None for the one in force; the database is asked only when it is needed."""
    if all(name is not None and _is_file(name) for name in named):
        return [_of_file(str(name)) for name in named]

    async def read() -> None:
        async with log_at_hand(load(Settings), data) as (log, _):
            found.extend([await _resolve(StoredCatalogs(log), name) for name in named])

    found: list[Source] = []
    complete(read)
    return found


async def _resolve(stored: StoredCatalogs, name: str | None) -> Source:
    if name is None:
        version = (await in_force(stored)).activation.version
    elif _is_file(name):
        return _of_file(name)
    else:
        version = name
    row = await stored.stored(version)
    if row is None:
        raise CatalogRefused(
            f"there is neither a file nor a stored catalog {version}; `credit-ledger catalog list` shows what there is"
        )
    return Source(parse_stored(row), row.source, f"version {row.version}")


def _is_file(name: str) -> bool:
    return name.endswith(".toml") or Path(name).is_file()


def _of_file(name: str) -> Source:
    read, text = read_source(Path(name))
    return Source(read, text, name)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


def _line(difference: Difference) -> Text:
    """Return a difference as a line: what goes in red, what comes in green."""
    line = Text(f"  {difference.path}: ")
    if difference.before is not None:
        line.append(str(difference.before), style="red")
    line.append(" -> " if None not in (difference.before, difference.after) else "")
    if difference.after is None:
        line.append(" (removed)", style="red")
    elif difference.before is None:
        line.append(f"{difference.after} (new)", style="green")
    else:
        line.append(str(difference.after), style="green")
    return line


def _print_catalog(shown: Catalog) -> None:
    click.echo(f"catalog {shown.version}, {shown.hash[:12]}, default plan {shown.default_plan or 'none'}\n")
    plans = [
        (
            plan.name, str(plan.rank), _pairs(plan.allowance), _pairs(plan.capacity), plan.interval, plan.renewal,
            "" if plan.trial.credits == 0 else str(plan.trial.credits), "" if plan.price is None else _money(asdict(plan.price)),
        )
        for plan in sorted(shown.plans.values(), key=lambda plan: (plan.rank, plan.name))
    ]  # fmt: skip
    print_table(("plan", "rank", "allowance", "limits", "interval", "renewal", "trial", "price"), plans)
    click.echo()
    operations = [
        (operation.name, *_prices(operation), _pairs({**operation.occupies, **operation.occupies_each}))
        for operation in shown.operations.values()
    ]
    print_table(("operation", "unit", "base", "each", "varies by", "occupies"), operations)
    if shown.packs:
        click.echo()
        packs = [
            (pack.name, str(pack.credits), pack.unit, "" if pack.price is None else _money(asdict(pack.price)))
            for pack in shown.packs.values()
        ]
        print_table(("pack", "amount", "unit", "price"), packs)


def _prices(operation: Operation) -> tuple[str, str, str, str]:
    price = operation.price
    if operation.free:
        return ("", "free", "", "")
    return operation.unit, price.base, price.each, ", ".join([*price.multipliers, *price.per_1k])


def _pairs(figures: dict[str, int]) -> str:
    return ", ".join(f"{name} {figure}" for name, figure in figures.items())


def _money(price: dict[str, object]) -> str:
    return f"{price['amount']} {price['currency']}"
