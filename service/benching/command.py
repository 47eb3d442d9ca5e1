"""`credit-ledger bench`: how fast a ledger that runs answers, as a person asks for it."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TypedDict, Unpack

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.benching.figures import Figures, medians
from service.benching.plan import (
    PREFIX,
    Case,
    Http,
    Nats,
    Unusable,
    cases,
    http_way,
    make_accounts,
    nats_way,
)
from service.benching.pump import BenchError, Window
from service.console import complete, print_json, print_table

URL = "http://127.0.0.1:8080"
TOKEN_VARIABLE = "CREDIT_LEDGER_TOKEN"  # noqa: S105 - the name of a variable
WORD = re.compile(r"[A-Za-z0-9_.~+/:@=-]+")
NATS_VARIABLE = "CREDIT_LEDGER_NATS"
Step = Callable[[str], None]


class Options(TypedDict):
    """What the command line was given."""

    url: str | None
    nats_url: str | None
    token: str | None
    caller: str
    subject_prefix: str
    plan: str | None
    unit: str | None
    accounts: int
    in_flight: int
    rounds: int
    seconds: float
    as_json: bool
    yes: bool


@click.command("bench", short_help="Measure how fast a ledger that runs answers.")
@click.option("--url", help=f"Where the ledger answers over HTTP.  [default: {URL}, unless --nats is given]")
@click.option(
    "--nats", "nats_url", envvar=NATS_VARIABLE,
    help=f"Where its NATS server answers: nats://[user:password@]host:port; with a password better in {NATS_VARIABLE}.",
)  # fmt: skip
@click.option("--token", envvar=TOKEN_VARIABLE, help=f"A token for HTTP; better in {TOKEN_VARIABLE}.")
@click.option("--caller", default="bench", show_default=True, help="The calling service's name on NATS.")
@click.option("--subject-prefix", default="credits", show_default=True, help="The ledger's prefix on NATS.")
@click.option("--plan", help="Put the accounts on this plan; needs the scope admin:write.  [default: the catalog's]")
@click.option("--unit", help="The unit to spend.  [default: the ledger's]")
@click.option("--accounts", type=click.IntRange(2, 100_000), default=1000, show_default=True)
@click.option("--in-flight", type=click.IntRange(1, 512), default=64, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 50), default=5, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.2, 60), default=2.0, show_default=True, help="Of each round.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option("--yes", is_flag=True, help="Yes, write to that ledger.")
def bench_command(**options: Unpack[Options]) -> None:
    """Measure how fast a ledger that runs answers: reserve and consume pairs, batches, reads; over HTTP, NATS or both.

    It WRITES to that ledger: accounts named bench-... with credits of their own, and an event for each command. Nothing
    can be deleted from a log, so do not point it at one that you bill from. So it asks first, or wants --yes.

    The token needs the scopes read, spend and grant, and admin:write with --plan. Each case runs in every round; the
    figures are medians, beside the slowest and the fastest round. The load generator shares this machine with whatever
    else runs on it, the ledger perhaps.

    \b
    credit-ledger up --data /tmp/bench --port 8090                    in one terminal, and in another:
    credit-ledger bench --url http://127.0.0.1:8090 --yes
    credit-ledger bench --nats nats://127.0.0.1:4222 --in-flight 512
    CREDIT_LEDGER_TOKEN=... credit-ledger bench --url https://ledger.staging.example.com --json --yes

    Exit code 0: measured. 1: not, with the reason: what was refused, or did not answer.
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    try:
        ways = _ways(options)
    except Unusable as error:
        raise click.UsageError(str(error)) from None
    accounts, in_flight, rounds = options["accounts"], options["in_flight"], options["rounds"]
    _ask(ways, accounts, yes=options["yes"])
    planned = [
        case for way in ways for case in cases(way, accounts=accounts, in_flight=in_flight, seconds=options["seconds"])
    ]
    found: list[dict[str, list[Window]]] = []

    async def work() -> None:
        with _progress(len(ways) + rounds * len(planned)) as step:
            for way in ways:
                step("opening accounts")
                await make_accounts(
                    way, accounts=accounts, in_flight=in_flight, unit=options["unit"], plan=options["plan"]
                )
            found.append(await measure(planned, rounds, step))

    try:
        complete(work, otherwise="there are no figures; run it again")
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    _print(planned, found[0], as_json=options["as_json"])


def _ways(options: Options) -> list[Http | Nats]:
    """Return how the ledger is reached; raises Unusable."""
    for name in ("caller", "subject_prefix", "plan", "unit", "token"):
        value = options[name]
        if value is not None and WORD.fullmatch(value) is None:
            raise Unusable(f"--{name.replace('_', '-')} has characters that such a name does not have")
    ways: list[Http | Nats] = []
    url, nats_url, unit, plan = options["url"], options["nats_url"], options["unit"], options["plan"]
    if url is not None or nats_url is None:
        ways.append(http_way(url or URL, token=options["token"], unit=unit, plan=plan))
    if nats_url is not None:
        prefix, caller = options["subject_prefix"], options["caller"]
        ways.append(nats_way(nats_url, caller=caller, prefix=prefix, unit=unit, plan=plan))
    return ways


def _ask(ways: Sequence[Http | Nats], accounts: int, *, yes: bool) -> None:
    """Go on only with an explicit yes."""
    if yes:
        return
    where = " and ".join(f"{way.address.host}:{way.address.port}" for way in ways)
    what = (
        f"this writes {accounts + 1} accounts named {PREFIX}... and many thousands of events to the ledger at {where}, "
        "which can never be deleted"
    )
    if not sys.stdin.isatty():
        raise click.ClickException(f"{what}; say --yes when that is what you want")
    click.confirm(f"{what[0].upper()}{what[1:]}. Go on?", abort=True, err=True)


async def measure(planned: Sequence[Case], rounds: int, step: Step) -> dict[str, list[Window]]:
    """Run every case in every round, forwards and backwards in turn, so that a slow minute hits all alike; raises BenchError."""
    found: dict[str, list[Window]] = {case.name: [] for case in planned}
    this_run = secrets.token_hex(4)
    for number in range(rounds):
        for case in planned if number % 2 == 0 else reversed(planned):
            step(case.what)
            windows = found[case.name]
            best = max((window.per_second for window in windows), default=None)
            try:
                windows.append(await case.run(f"{PREFIX}{this_run}-{case.name.replace('.', '_')}-{number}", best))
            except BenchError as error:
                raise BenchError(f"{case.name}: {error}") from None
    return found


@contextmanager
def _progress(steps: int) -> Generator[Step]:
    """Show how far it is, on standard error when that is a terminal; drawn between two cases only."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=steps)
        done = 0

        def step(what: str) -> None:
            nonlocal done
            bar.update(task, description=what, completed=done, refresh=True)
            done += 1

        yield step


def _print(planned: Sequence[Case], found: dict[str, list[Window]], *, as_json: bool) -> None:
    figures: Figures = {"version": version("credit-ledger")}
    for case in planned:
        figures |= medians(case.name, found[case.name])
    if as_json:
        print_json(figures)
        return

    def shown(name: str, figure: str) -> str:
        value = figures.get(f"{name}.{figure}")
        return "" if value is None else f"{float(value):,.{0 if 'second' in figure else 2}f}"

    columns = ("per_second", "per_second_min", "per_second_max", "p50_ms", "p99_ms")
    print_table(
        ("", "a second", "slowest", "fastest", "p50 ms", "p99 ms"),
        [(case.what, *(shown(case.name, column) for column in columns)) for case in planned],
        title=f"medians; rounds: {figures[f'{planned[0].name}.rounds']}",
    )
