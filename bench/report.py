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

# Wide enough for every column where no terminal says how wide it is.
TABLE_COLUMNS = 150

Figures = dict[str, float | str]


def figures(records: list[Record], versions: dict[str, str]) -> Figures:
    """Every figure of the run under a flat name; `machine` and `commit` are the only texts."""
    found: Figures = {"machine": machine(versions), "commit": commit()}
    for record in records:
        name = record.case.name
        rates = [window.per_second for window in record.windows]
        found[f"{name}.per_second"] = round(median(rates), 1)
        found[f"{name}.per_second_min"] = round(min(rates), 1)
        found[f"{name}.per_second_max"] = round(max(rates), 1)
        for figure in ("p50_ms", "p99_ms", "load_cpu_us"):
            values = [getattr(window, figure) for window in record.windows]
            if None not in values:
                found[f"{name}.{figure}"] = round(median(values), 3)
        if record.case.log is not None:
            found[f"{name}.left_behind_seconds"] = round(median(record.left_behind_seconds), 2)
        found[f"{name}.rounds"] = len(rates)
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
    for heading in ("per second", "spread", "p50 ms", "p99 ms", "load CPU us", "ratio", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    what = ""
    for record in records:
        if record.case.what != what:
            what = record.case.what
            table.add_section()
            table.add_row(f"[dim]{what}[/dim]")
        table.add_row(*table_row(record, found))
    if not console.is_terminal:
        console.width = TABLE_COLUMNS
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
        target(record, found),
    ]


def number(value: float | str | None) -> str:
    """A latency, or nothing where there is none."""
    return "" if value is None else f"{float(value):,.2f}"


def target(record: Record, found: Figures) -> str:
    """Whether the case's target is met; never an assertion."""
    wanted = record.case.target_per_second
    if wanted is None:
        return ""
    met = float(found[f"{record.case.name}.per_second"]) >= wanted
    return f"{wanted:,} [green]met[/green]" if met else f"{wanted:,} [red]not met[/red]"
