"""`credit-ledger import`: opening balances from a file, as a person runs it."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from service.console import print_json, print_table, told
from service.correctable import StartError
from service.database import log_at_hand
from service.importing.importer import Advance, Importer, Interrupted, Report
from service.importing.rows import BadLine, Format, UnreadableFile, format_of
from service.in_force import Follower, in_force
from service.ledger import Ledger
from service.process import run
from service.settings import Settings, load
from service.store.catalogs import StoredCatalogs

BAD_LINES, INCOMPLETE = 3, 4
CONNECTIONS = 8


@click.command("import", short_help="Import opening balances from a file.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["ndjson", "csv"]), help="[default: by the name: .csv, else ndjson]"
)
@click.option("--dry-run", is_flag=True, help="Check every line and say what would happen; write nothing.")
@click.option("--skip-bad", is_flag=True, help="Import the good lines although there are bad ones.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, for programs.")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path),
    help="The directory of a `credit-ledger up`.  [default: LEDGER_DATABASE_URL, or .ledger]",
)  # fmt: skip
def import_command(
    file: Path, form: Format | None, data: Path | None, *, dry_run: bool, skip_bad: bool, as_json: bool
) -> None:
    """Import opening balances: open accounts and grant credits, a line of FILE each.

    \b
    NDJSON, one object a line:
      {"account": "team-1", "plan": "starter", "amount": 250, "kind": "purchase", "id": "old-4711"}
      {"account": "team-2", "amount": 40, "expires_at": "2027-01-31T00:00:00Z"}
    CSV, the columns in any order:
      account,plan,amount,kind,unit,expires_at,reference,reason,id

    Only `account` is required. An account that does not exist is opened on `plan`, or else on the catalog's default plan,
    with that plan's allowance; the amount comes on top of it. One that exists keeps its plan. `kind` is promo (default),
    purchase or trial. NDJSON takes every field of a grant.

    The same file twice changes nothing: a line is known by its account and `id`, or else by all that it says. So an
    import that was interrupted is simply started again. It may run while the service does. Every line is checked before
    the first one is written; a bad one stops the import, unless --skip-bad is given.

    \b
    credit-ledger import balances.csv --dry-run
    credit-ledger import balances.csv
    credit-ledger import balances.ndjson --skip-bad --json

    \b
    Exit code 0  everything in the file is in the ledger
              1  it could not run, or was interrupted: run it again
              2  wrong usage
              3  there are bad lines, and nothing was written
              4  done, but for the lines that are listed (bad ones, or refused by the ledger)
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    reports: list[tuple[str, Report]] = []

    async def work() -> None:
        async with log_at_hand(settings, data, connections=CONNECTIONS) as (log, _):
            stored = StoredCatalogs(log)
            activation, catalog, history = await in_force(stored)
            ledger = await Ledger.open(log, catalog, history)
            follower = Follower(ledger, stored, activation.number)
            follower.start()
            try:
                importer = Importer(ledger, file, form or format_of(file))
                reports.append(await _imported(importer, dry_run=dry_run, skip_bad=skip_bad))
            finally:
                await follower.stop()
                await ledger.drain()

    with told(), _stopped():
        settings = load(Settings)
        run(work)
    if not reports:
        raise click.ClickException("stopped; run the same command again, it goes on where this one stopped")
    outcome, report = reports[0]
    _print(file, outcome, report, as_json=as_json)
    if outcome == "bad_lines":
        sys.exit(BAD_LINES)
    if report.bad or report.refused:
        sys.exit(INCOMPLETE if outcome == "imported" else BAD_LINES)


async def _imported(
    importer: Importer, *, dry_run: bool, skip_bad: bool
) -> tuple[Literal["imported", "dry_run", "bad_lines"], Report]:
    """Judge the file, and book it when it is good or bad lines may be skipped."""
    with _progress("checking", None) as advance:
        judged = await importer.judge(advance)
    if dry_run:
        return "dry_run", judged
    if judged.bad and not skip_bad:
        return "bad_lines", judged
    with _progress("importing", judged.rows + judged.bad) as advance:
        return "imported", await importer.book(advance)


@contextmanager
def _stopped() -> Generator[None]:
    """Turn what ends an import early into a sentence and exit code 1."""
    try:
        yield
    except (Interrupted, UnreadableFile) as error:
        raise StartError(str(error)) from None


@contextmanager
def _progress(what: str, total: int | None) -> Generator[Advance]:
    """Show how far it is, on standard error, when that is a terminal."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda rows: progress.advance(task, rows)


def _print(file: Path, outcome: str, report: Report, *, as_json: bool) -> None:
    """Print the summary, and what is wrong with which line."""
    if as_json:
        problems = [problem._asdict() for problem in report.problems]
        print_json({"file": str(file), "outcome": outcome, **asdict(report), "problems": problems})
        return
    for problem in report.problems:
        _tell(problem)
    if report.bad + report.refused > len(report.problems):
        click.echo(f"and {report.bad + report.refused - len(report.problems)} more", err=True)
    verb = "were" if outcome == "imported" else "would be"
    rows = [
        ("good lines", str(report.rows)),
        (f"grants that {verb} made", str(report.granted)),
        *((f"{unit} in them", str(amount)) for unit, amount in sorted(report.amounts.items())),
        ("lines that were in the ledger already", str(report.already_there)),
        (f"accounts that {verb} opened", str(report.opened)),
        ("lines whose account keeps another plan", str(report.plans_kept)),
        ("bad lines", str(report.bad)),
        ("lines that the ledger refused", str(report.refused)),
    ]
    print_table((str(file), ""), rows)
    if outcome == "bad_lines":
        click.echo("nothing was written: correct these lines, or import the others with --skip-bad", err=True)


def _tell(problem: BadLine) -> None:
    click.echo(f"line {problem.line}: {problem.reason}", err=True)
