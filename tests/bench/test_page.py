"""What a run leaves behind: a chart that browsers can read, and a page that says what the results say."""

from xml.etree import ElementTree as ET

import pytest

from bench.chart import BARS, chart
from bench.page import BEGIN, END, LONG_RESULTS, PAGE, RESULTS, part, read, with_part
from bench.targets import TARGETS, Target
from service.benching.figures import Figures, medians
from service.benching.pump import Window

SVG = "{http://www.w3.org/2000/svg}"


def window(per_second: float) -> Window:
    return Window(
        per_second=per_second, counted=1, acknowledged=1, seconds=1.0, p50_ms=1.5, p99_ms=9.0, load_cpu_us=2.0
    )


def some_figures() -> Figures:
    found: Figures = {"machine": "a machine", "commit": "abc", "run_seconds": 600.0}
    for rate, case in enumerate(dict.fromkeys(case for _, case, _ in BARS), start=1):
        found |= medians(case, [window(rate * 1000), window(rate * 900), window(rate * 1100)])
    return found


def test_the_chart_has_a_bar_for_each_case_that_was_measured() -> None:
    figures = some_figures()
    del figures["naive.hot.32.per_second"]
    root = ET.fromstring(chart(figures))  # noqa: S314 - our own text
    assert len(root.findall(f"{SVG}rect")) == 1 + len(BARS) - 1
    widths = [float(bar.get("width", 0)) for bar in root.findall(f"{SVG}rect")]
    assert all(0 < width <= widths[0] for width in widths)


def test_a_target_is_met_from_its_bound_on_and_unknown_without_its_figure() -> None:
    least, most = Target("a", "x", least=2), Target("b", "x", "y", most=0.5)
    assert [least.is_met(value) for value in (1.9, 2)] == [False, True]
    assert most.found({"x": 1, "y": 4}) == 0.25
    assert [most.is_met(value) for value in (0.5, 0.6)] == [True, False]
    assert most.found({"x": 1}) is None


def test_every_target_looks_at_a_figure_that_a_run_has() -> None:
    from bench.cases import all_cases
    from bench.growth import NORMAL

    names = {case.name for case in all_cases(quick=False)} | {"verify", "replay"}
    names |= {f"growth.events.{n}" for n in NORMAL.events} | {f"growth.accounts.{n}" for n in NORMAL.accounts}
    names |= {f"growth.holds.{n}" for n in NORMAL.holds}
    slow = {figure for target in TARGETS for figure in (target.figure, target.by) if figure and "slow" in figure}
    for figure in {figure for target in TARGETS for figure in (target.figure, target.by) if figure} - slow:
        assert figure.rpartition(".")[0] in names, figure


def test_what_is_written_by_hand_stays() -> None:
    page = f"# Title\n\nby hand\n\n{BEGIN}\n\nold\n\n{END}\n\nbelow\n"
    assert with_part(page, "new") == f"# Title\n\nby hand\n\n{BEGIN}\n\nnew\n\n{END}\n\nbelow\n"
    assert with_part("# Title\n", "new") == f"# Title\n\n{BEGIN}\n\nnew\n\n{END}\n"
    with pytest.raises(ValueError, match="marks"):
        with_part(f"# Title\n{BEGIN}\n", "new")


def test_the_part_has_targets_cases_and_growth() -> None:
    figures = some_figures() | {
        "growth.start.per_second": 9.0,
        "growth.start.cost": 1.0,
        "growth.start.memory_mib": 90.0,
    }
    text = part(figures, {})
    assert "in 10 minutes on a machine; commit `abc`" in text
    assert "| `naive.hot.32` |" in text
    assert "| start | 9 | 1 | 90 |" in text
    assert "| in process, uniform, 512 in flight: commands/s | at least 40,000 | 6,000 | **no** |" in text


def test_the_page_says_what_the_results_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_part(page, part(read(RESULTS), read(LONG_RESULTS))) == page, (
        "run `make bench`, or bench.page.write_page()"
    )
