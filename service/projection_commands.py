"""`credit-ledger projections`: how far they are, and building one again beside the one that is read.

A rebuild runs beside a service and without one: this process reads on together with those that run, and switches when it
has caught up. What is built again is compared with what was there, so `verify` is a rebuild of all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.builder import Builder
from service.console import complete, print_json, print_table, told
from service.database import log_at_hand
from service.process import run, set_up_logging, tune_collector
from service.projector import Projector
from service.settings import Settings, load
from service.store.log import Log
from service.store.projected import PROJECTIONS
from service.store.projecting import Generation

LINES_MAX = 4000
LANES = 2
SHARE = 0.15
POLL_SECONDS = 0.01
"""Nobody wakes a process of its own."""
WAIT_SECONDS = 0.05
CONNECTIONS = 4

_DATA = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="The directory of a `credit-ledger up`.  [default: the database of LEDGER_DATABASE_URL, else .ledger]",
)


@click.group(short_help="How far projections are; build them again.")
def projections() -> None:
    """Projections: what history, usage, finance and the list of accounts are read from.

    They are folded from the log while the service runs, and can be built again at any time without a read that fails.
    """


@projections.command("status", short_help="Show how far each one is.")
@_DATA
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def status_command(data: Path | None, *, as_json: bool) -> None:
    """Show every projection: its generation, how far it is, and for how long the first missing event has been there."""

    async def work() -> None:
        async with log_at_hand(load(Settings), data, connections=CONNECTIONS) as (log, _):
            store = Projector(log).store
            await store.register()
            generations = await store.generations()
            heartbeats = await store.heartbeats()
        if as_json:
            print_json(
                {
                    "projections": [each._asdict() for each in generations],
                    "heartbeats": {str(of): age for of, age in heartbeats.items()},
                }
            )
            return
        head = ("projection", "generation", "version", "state", "position", "head", "lag", "since")
        print_table(head, [_row(each) for each in generations])
        print_table(("readers looked", ""), [("last", f"{max(heartbeats.values(), default=0):.1f} s ago")])

    with told():
        complete(work)


def _row(each: Generation) -> tuple[str, ...]:
    state = "read" if each.is_current else "built"
    numbers = (str(each.position), str(each.head), str(each.head - each.position), f"{each.lag_seconds:.1f} s")
    return (each.name, str(each.generation), str(each.version), state, *numbers)


@projections.command("run", short_help="Keep them behind the log, in a process of their own.")
@_DATA
def run_command(data: Path | None) -> None:
    """Keep projections behind the log until Ctrl-C: for ledgers so busy that a process of its own should do it.

    The services are then started with LEDGER_PROJECTOR=apart. Several of these processes share the work.
    """
    set_up_logging()

    async def work() -> None:
        tune_collector()
        async with log_at_hand(load(Settings), data, connections=CONNECTIONS) as (log, _):
            projector = Projector(log, poll_seconds=POLL_SECONDS)
            projector.start()
            click.echo("projections are kept behind the log; Ctrl-C stops")
            try:
                await asyncio.Event().wait()
            finally:
                await projector.stop()

    with told():
        run(work)


@projections.command("rebuild", short_help="Build one again, beside the one that is read.")
@click.argument("name", type=click.Choice(sorted(PROJECTIONS)))
@_DATA
def rebuild_command(name: str, data: Path | None) -> None:
    """Build a projection again from the first event on, beside the one that is read, and switch to it.

    \b
    credit-ledger projections rebuild usage
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    _rebuild([name], data)


@projections.command("verify", short_help="Build all again and compare; 1 when one was wrong.")
@_DATA
def verify_command(data: Path | None) -> None:
    """Build all projections again and compare; exit code 1 when one said something else than the log.

    What differs is replaced by what the log says.
    """
    _rebuild(sorted(PROJECTIONS), data)


def _rebuild(names: Sequence[str], data: Path | None) -> None:
    differing: list[str] = []

    async def work() -> None:
        tune_collector()
        async with log_at_hand(load(Settings), data, connections=CONNECTIONS) as (log, _):
            differing.extend(await rebuild(log, names))

    with told():
        complete(work, otherwise="nothing was found out, and reads go on as before; run it again")
    for name in names:
        said = "said something else than the log, and is replaced" if name in differing else "says what the log says"
        click.echo(f"{name}: {said}")
    if differing:
        raise SystemExit(1)


async def rebuild(log: Log, names: Sequence[str]) -> list[str]:
    """Build projections again, showing how far; returns those that said something else than the log. Raises Outage."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars = {name: progress.add_task(name) for name in names}

        def show(generations: Sequence[Generation]) -> None:
            for each in generations:
                progress.update(bars[each.name], completed=each.position, total=each.head)

        return await build_again(log, names, show)


async def build_again(log: Log, names: Sequence[str], show: Callable[[Sequence[Generation]], None]) -> list[str]:
    """Build projections again; `show` is told how far they are. Returns those that said something else. Raises Outage."""
    projector = Projector(log)
    builder = Builder(log, projector.store, lines_max=LINES_MAX, lanes=LANES, share=SHARE)
    await projector.store.register()
    await projector.catch_up()
    built = {name: await builder.replacing.rebuild(name) for name in names}
    while True:
        added = await projector.project() + await builder.build()
        generations = {(each.name, each.generation): each for each in await projector.store.generations()}
        ours = [generations[name, number] for name, number in built.items() if (name, number) in generations]
        show(ours)
        if all(each.is_current for each in ours):
            await builder.switch()  # throws away what was replaced
            return [each.name for each in ours if each.differs]
        if all(each.has_caught_up for each in ours):
            await builder.switch()
        if not added:
            await asyncio.sleep(WAIT_SECONDS)
