"""`python -m bench`: the whole run, its progress bar, its figures.

`--only publisher`, `fairness`, `projections`, `lag` and `rebuild` are runs of their own, with figures that no round of a case can give.

A whole run writes `bench/results.json`, and from it docs/performance.svg and its part of docs/performance.md; a run with
`--long` does so with `bench/results_long.json`. A quick or partial run leaves all of that alone and writes only where
`--output` says, so that the figures which are kept are always those of one whole run.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import growth, page, slow_disk
from bench.cases import COPY_ROWS, COPY_ROWS_QUICK, Case, all_cases, chosen
from bench.fairness import fairness
from bench.lag import lag
from bench.projections import projections
from bench.publisher import publisher
from bench.rebuild import rebuild
from bench.report import TABLE_COLUMNS, figures, head, print_other, print_table, print_targets, write_json
from bench.rounds import FULL, QUICK, Plan, Record, run_rounds
from bench.stage import Stage
from service.benching.figures import Figures
from service.benching.pump import BenchError

PROBES: dict[str, Callable[..., Coroutine[None, None, dict[str, float]]]] = {
    "publisher": publisher,
    "fairness": fairness,
    "projections": projections,
    "lag": lag,
    "rebuild": rebuild,
}


@click.command(help="Measures the ledger beside its baselines; durable commits, interleaved rounds, medians.")
@click.option("--quick", is_flag=True, help="One short round without warm-up: tests the bench, measures nothing.")
@click.option("--only", multiple=True, help="Cases whose name begins with this (or: growth); may be repeated.")
@click.option("--rounds", type=click.IntRange(1, 50), help="Measured rounds, behind one to warm up.  [default: 5]")
@click.option("--seconds", type=click.FloatRange(0.1, 60), help="How long a window is open.  [default: 1.2]")
@click.option("--long", "is_long", is_flag=True, help="Only the growth, to 10,000,000 events and 1,000,000 accounts.")
@click.option("--list", "only_list", is_flag=True, help="Print the names of the cases.")
@click.option("--events", type=click.IntRange(1_000), help="How long a log `--only rebuild` builds from.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where the figures go as JSON.")
def main(
    *,
    quick: bool,
    only: tuple[str, ...],
    rounds: int | None,
    seconds: float | None,
    is_long: bool,
    only_list: bool,
    events: int | None,
    output: Path | None,
) -> None:
    """Runs what was asked for; ends with 1 when an answer was wrong."""
    if only and set(only) <= PROBES.keys():
        probe(only, quick=quick, events=events, output=output)
        return
    cases = [] if is_long else chosen(all_cases(quick=quick), only)
    grows = is_long or not only or growth.NAME.startswith(only)
    if only_list:
        print("\n".join([*(case.name for case in cases), *([growth.NAME] if grows else [])]))
        return
    if not cases and not grows:
        raise click.BadParameter(f"no case begins with {' or '.join(only)}", param_hint="--only")
    plan = QUICK if quick else FULL
    plan = replace(plan, rounds=rounds or plan.rounds, seconds=seconds or plan.seconds)
    is_whole = not quick and not only and plan == FULL
    if output is None and is_whole:
        output = page.LONG_RESULTS if is_long else page.RESULTS
    far = growth.QUICK if quick else growth.LONG if is_long else growth.NORMAL
    run(cases, plan, far if grows else None, output)
    if is_whole:
        page.write_page()


def probe(names: tuple[str, ...], *, quick: bool, events: int | None, output: Path | None) -> None:
    """Runs probes, each on servers of its own, and tells their figures."""
    found: Figures = {}
    for name in names:
        try:
            more = {} if name != "rebuild" else {"events": events}
            found |= uvloop.run(PROBES[name](quick=quick, **more))
        except BenchError as error:
            click.echo(f"The bench failed: {name}: {error}", err=True)
            sys.exit(1)
    for name, figure in found.items():
        click.echo(f"{name:45} {figure:>12,}")
    if output is not None:
        write_json(output, found)


def run(cases: list[Case], plan: Plan, far: growth.Growth | None, output: Path | None) -> None:
    """Measures, prints, writes."""
    console = Console()
    if not console.is_terminal:
        console.width = TABLE_COLUMNS
    if (reason := slow_disk.why_not()) is not None:
        console.print(f"without the cases of a disk with 2 ms for each fsync: {reason}", style="yellow")
    began_at = perf_counter()
    try:
        records, found = asyncio.run(measure(cases, plan, far, console))
    except BenchError as error:
        console.print(f"The bench failed: {error}", style="red", markup=False)
        sys.exit(1)
    found["run_seconds"] = round(perf_counter() - began_at, 1)
    if records:
        print_table(console, records, found)
    if far is not None:
        print_other(console, found)
    print_targets(console, found)
    console.print(f"{found['run_seconds']} s for {len(cases)} cases")
    if output is not None:
        write_json(output, found)
        console.print(f"figures in {output.name}")


async def measure(
    cases: list[Case], plan: Plan, far: growth.Growth | None, console: Console
) -> tuple[list[Record], Figures]:
    """Sets the stage and runs all rounds under a progress bar, which is drawn only between two cases."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    steps = len(cases) * (plan.rounds + plan.warm_up_rounds) + (0 if far is None else far.steps)
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        task = progress.add_task("starting servers", total=steps)
        progress.refresh()

        def on_step(name: str) -> None:
            progress.update(task, description=name, refresh=True)
            progress.advance(task)

        async with Stage(plan.accounts) as stage:
            rows = COPY_ROWS_QUICK if plan.accounts == QUICK.accounts else COPY_ROWS
            await stage.prepare({case.needs for case in cases}, rows)
            records = await run_rounds(stage, cases, plan, on_step)
            found = {**head(stage.versions), **figures(records)}
            if far is not None:
                found |= await growth.grow(stage, far, on_step)
            return records, found


if __name__ == "__main__":
    main()
