"""`python -m bench`: the whole run, its progress bar, its figures.

`--only publisher` and `--only fairness` are runs of their own, with figures that no round of a case can give.

A whole run writes `bench/results.json`. A quick or partial run leaves that file alone and writes only where `--output`
says, so that the figures which are kept are always those of one whole run.
"""

import asyncio
import sys
from pathlib import Path
from time import perf_counter

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.cases import Case, all_cases
from bench.fairness import fairness
from bench.measure import BenchError
from bench.publisher import publisher
from bench.report import Figures, figures, print_table, write_json
from bench.rounds import FULL, QUICK, Plan, Record, run_rounds
from bench.stage import Stage

PROBES = {"publisher": publisher, "fairness": fairness}
RESULTS = Path(__file__).parent / "results.json"


@click.command(help="Measures the ledger beside its baselines; durable commits, interleaved rounds, medians.")
@click.option("--quick", is_flag=True, help="One short round without warm-up: tests the bench, measures nothing.")
@click.option("--only", multiple=True, help="Cases whose name begins with this; may be given more than once.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where the figures go as JSON.")
def main(*, quick: bool, only: tuple[str, ...], output: Path | None) -> None:
    """Runs what was asked for; ends with 1 when an answer was wrong."""
    if only and set(only) <= PROBES.keys():
        probe(only, quick=quick, output=output)
        return
    cases = [case for case in all_cases(quick=quick) if not only or case.name.startswith(only)]
    if not cases:
        raise click.BadParameter(f"no case begins with {' or '.join(only)}", param_hint="--only")
    if output is None and not quick and not only:
        output = RESULTS
    console = Console()
    began_at = perf_counter()
    try:
        records, versions = asyncio.run(measure(cases, QUICK if quick else FULL, console))
    except BenchError as error:
        console.print(f"The bench failed: {error}", style="red", markup=False)
        sys.exit(1)
    found = figures(records, versions)
    found["run_seconds"] = round(perf_counter() - began_at, 1)
    print_table(console, records, found)
    console.print(f"{found['run_seconds']} s for {len(cases)} cases")
    if output is not None:
        write_json(output, found)
        console.print(f"figures in {output.name}")


def probe(names: tuple[str, ...], *, quick: bool, output: Path | None) -> None:
    """Runs probes, each on servers of its own, and tells their figures."""
    found: Figures = {}
    for name in names:
        try:
            found |= uvloop.run(PROBES[name](quick=quick))
        except BenchError as error:
            click.echo(f"The bench failed: {name}: {error}", err=True)
            sys.exit(1)
    for name, figure in found.items():
        click.echo(f"{name:45} {figure:>12,}")
    if output is not None:
        write_json(output, found)


async def measure(cases: list[Case], plan: Plan, console: Console) -> tuple[list[Record], dict[str, str]]:
    """Sets the stage and runs all rounds under a progress bar, which is drawn only between two cases."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    steps = len(cases) * (plan.rounds + plan.warm_up_rounds)
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        task = progress.add_task("starting servers", total=steps)
        progress.refresh()

        def on_step(name: str) -> None:
            progress.update(task, description=name, refresh=True)
            progress.advance(task)

        async with Stage(plan.accounts) as stage:
            await stage.prepare({case.needs for case in cases})
            return await run_rounds(stage, cases, plan, on_step), stage.versions


if __name__ == "__main__":
    main()
