"""What the rounds of a case come to: medians, with the slowest and the fastest round."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from service.benching.pump import Window

Figures = dict[str, float | str]
"""A flat object: the name of a figure to its value."""


def medians(name: str, windows: Sequence[Window]) -> Figures:
    """Return the figures of one case; a percentile is the median of the rounds' percentiles."""
    rates = [window.per_second for window in windows]
    found: Figures = {
        f"{name}.per_second": round(median(rates), 1),
        f"{name}.per_second_min": round(min(rates), 1),
        f"{name}.per_second_max": round(max(rates), 1),
    }
    for figure in ("p50_ms", "p99_ms", "load_cpu_us"):
        values = [value for window in windows if (value := getattr(window, figure)) is not None]
        if len(values) == len(windows):
            found[f"{name}.{figure}"] = round(median(values), 3)
    found[f"{name}.rounds"] = len(rates)
    return found
