"""The figures of a run: medians with their spread, ratios, targets; as a flat JSON object and as a table.

A rate is the median of the rounds' rates, a percentile the median of the rounds' percentiles. Ratios divide medians of
the same run. A target that is missed is said, and ends nothing: figures are for reading.
"""

import os
import platform
import subprocess
from pathlib import Path
from statistics import median

import orjson
import psutil
from rich.console import Console
from rich.table import Table

from bench.rounds import Record
from bench.targets import LONG_TARGETS, TARGETS
from bench.targets import number as readable
from service.benching.figures import Figures, medians

# Wide enough for every column where no terminal says how wide it is.
TABLE_COLUMNS = 150


def head(versions: dict[str, str]) -> Figures:
    """Where and of what the figures are; the only texts among them."""
    return {"machine": machine(versions), "commit": commit()}


def figures(records: list[Record]) -> Figures:
    """Every figure of the rounds under a flat name."""
    found: Figures = {}
    for record in records:
        name = record.case.name
        found |= medians(name, record.windows)
        if record.case.log is not None:
            found[f"{name}.left_behind_seconds"] = round(median(record.left_behind_seconds), 2)
    for record in records:
        for baseline in record.case.beside:
            if (beside := found.get(f"{baseline}.per_second")) is not None:
                own = float(found[f"{record.case.name}.per_second"])
                found[f"{record.case.name}.to.{baseline}"] = round(own / float(beside), 3)
    return found


def machine(versions: dict[str, str]) -> str:
    """What the figures were taken on; nothing that names the machine."""
    memory_gib = psutil.virtual_memory().total / 2**30
    parts = [
        f"{platform.system()} {platform.machine()}",
        f"{os.cpu_count()} CPUs",
        f"{memory_gib:.0f} GiB",
        f"Python {platform.python_version()}",
        *(f"{name} {version}" for name, version in versions.items()),
    ]
    return ", ".join(parts)


def commit() -> str:
    """The checked-out commit, with `-dirty` when files differ from it; `none` outside a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            check=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return described.stdout.strip()


def write_json(path: Path, found: Figures) -> None:
    """Writes the figures, sorted, so that two runs can be compared line by line."""
    path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


def print_table(console: Console, records: list[Record], found: Figures) -> None:
    """The table that ends a run."""
    table = Table(title="medians; spread is the slowest and the fastest round", title_justify="left")
    table.add_column("case", no_wrap=True)
    for heading in ("per second", "spread", "p50 ms", "p99 ms", "load CPU us", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    what = ""
    for record in records:
        if record.case.what != what:
            what = record.case.what
            table.add_section()
            table.add_row(f"[dim]{what}[/dim]")
        table.add_row(*table_row(record, found))
    console.print(table)


def print_other(console: Console, found: Figures) -> None:
    """What is not measured in rounds: verification, replay, growth."""
    table = Table(title="once; see bench/growth.py", title_justify="left")
    table.add_column("figure", no_wrap=True)
    table.add_column("", justify="right")
    for name, value in found.items():
        if name.startswith(("growth.", "verify.", "replay.")):
            table.add_row(name, number(value))
    console.print(table)


def print_targets(console: Console, found: Figures) -> None:
    """What is to be reached, and whether it is; never an assertion."""
    table = Table(title="targets", title_justify="left")
    for heading in ("target", "wanted", "found", ""):
        table.add_column(heading)
    for target in (*TARGETS, *LONG_TARGETS):
        if (value := target.found(found)) is not None:
            met = "[green]met[/green]" if target.is_met(value) else "[red]not met[/red]"
            table.add_row(target.what, target.wanted, readable(value), met)
    if table.row_count:
        console.print(table)
    console.print(f"{found['machine']}; commit {found['commit']}")


def table_row(record: Record, found: Figures) -> list[str]:
    """One case as text."""
    name = record.case.name
    spread = f"{found[f'{name}.per_second_min']:,.0f}-{found[f'{name}.per_second_max']:,.0f}"
    ratios = [
        f"{found[key]:.2f} x {baseline}" for baseline in record.case.beside if (key := f"{name}.to.{baseline}") in found
    ]
    return [
        name,
        f"{found[f'{name}.per_second']:,.0f}",
        spread,
        number(found.get(f"{name}.p50_ms")),
        number(found.get(f"{name}.p99_ms")),
        number(found.get(f"{name}.load_cpu_us")),
        "\n".join(ratios),
    ]


def number(value: float | str | None) -> str:
    """A latency, or nothing where there is none."""
    return "" if value is None else f"{float(value):,.2f}"
