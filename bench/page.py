"""The part of docs/performance.md that a run writes: targets and figures, and the chart beside it.

It stands between two marks, and all else on the page is written by hand. A whole run writes it from its figures and
those that the last `--long` run left behind.
"""

from pathlib import Path

import orjson

from bench.chart import chart
from bench.targets import LONG_TARGETS, TARGETS, Target, number
from service.benching.figures import Figures

DOCS = Path(__file__).parents[1] / "docs"
PAGE, CHART = DOCS / "performance.md", DOCS / "performance.svg"
HERE = Path(__file__).parent
RESULTS, LONG_RESULTS = HERE / "results.json", HERE / "results_long.json"
BEGIN, END = "<!-- written by make bench -->", "<!-- end of what make bench writes -->"
COLUMNS = ("per_second", "p50_ms", "p99_ms", "load_cpu_us")
RATE = ".per_second"


def write_page() -> None:
    """Writes the chart and the page's part from the results that are kept."""
    kept, long = read(RESULTS), read(LONG_RESULTS)
    if kept:
        CHART.write_text(chart(kept), encoding="utf-8")
    PAGE.write_text(with_part(PAGE.read_text(encoding="utf-8"), part(kept, long)), encoding="utf-8")


def read(path: Path) -> Figures:
    """The figures of a file, none when it is not there."""
    return orjson.loads(path.read_bytes()) if path.exists() else {}


def with_part(page: str, new: str) -> str:
    """The page with its written part exchanged; at the end when the page has none.

    Raises:
        ValueError: only one of the marks is there.
    """
    block = f"{BEGIN}\n\n{new.strip()}\n\n{END}\n"
    if BEGIN not in page and END not in page:
        return f"{page.rstrip()}\n\n{block}"
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/performance.md lacks one of the marks {BEGIN} and {END}")
    return f"{before}{block}{after.removeprefix(chr(10))}"


def part(kept: Figures, long: Figures) -> str:
    """The written part in Markdown."""
    blocks: list[str] = []
    if kept:
        blocks += [
            f"Measured by `make bench` in {number(float(kept['run_seconds']) / 60)} minutes on {kept['machine']}; commit `{kept['commit']}`.",
            "![Rates of the ledger and of baselines](performance.svg)",
            targets_table(TARGETS, kept),
            cases_table(kept),
            growth_table(kept),
        ]
    if long:
        blocks += [
            f"Grown further by `make bench ARGS=--long`, once; commit `{long['commit']}`.",
            targets_table(LONG_TARGETS, long),
            growth_table(long),
        ]
    return "\n\n".join(block for block in blocks if block) or "Nothing has been measured yet."


def targets_table(targets: tuple[Target, ...], figures: Figures) -> str:
    """What is to be reached, and whether it is."""
    rows: list[tuple[str, ...]] = []
    for target in targets:
        found = target.found(figures)
        if found is not None:
            rows.append((target.what, target.wanted, number(found), "yes" if target.is_met(found) else "**no**"))
    return table(("target", "wanted", "found", "met"), rows)


def cases_table(figures: Figures) -> str:
    """Every case of the rounds: absolute figures with the slowest and fastest round, and the ratios to baselines."""
    rows: list[tuple[str, ...]] = []
    for name in sorted(key.removesuffix(".rounds") for key in figures if key.endswith(".rounds")):
        low, high = (float(figures[f"{name}.per_second_{end}"]) for end in ("min", "max"))
        values = [figures.get(f"{name}.{column}") for column in COLUMNS]
        ratios = [
            f"{number(float(value))} x {key.partition('.to.')[2]}"
            for key, value in figures.items()
            if key.startswith(f"{name}.to.")
        ]
        shown = ["" if value is None else number(float(value)) for value in values]
        rows.append((f"`{name}`", shown[0], f"{number(low)} to {number(high)}", *shown[1:], "; ".join(ratios)))
    return table(("case", "a second", "rounds", "p50 ms", "p99 ms", "load CPU us", "ratio"), rows)


def growth_table(figures: Figures) -> str:
    """The ledger that grows, step by step."""
    steps = [key.removeprefix("growth.").removesuffix(".cost") for key in figures if key.endswith(".cost")]
    steps.sort(key=lambda step: (["start", "events", "accounts", "holds"].index(step.split(".")[0]), step_size(step)))
    rows = [
        (
            step
            if step == "start"
            else f"{step_size(step):,} {'open holds' if 'holds' in step else step.split('.')[0]}",
            *(number(float(figures[f"growth.{step}.{column}"])) for column in ("per_second", "cost", "memory_mib")),
        )
        for step in steps
    ]
    return table(("a ledger that grows, step by step", "commands/s", "cost to the start", "memory MiB"), rows)


def step_size(step: str) -> int:
    """How much there is at a step."""
    return int(step.partition(".")[2] or 0)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown, nothing without rows."""
    if not rows:
        return ""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))
