"""Metrics in Prometheus' text format: counters, gauges and histograms, held in memory and written when they are asked for.

A family has a name, a help text and labels; `labels(...)` gives the one value for these labels, which whoever counts
keeps at hand, so that counting is an addition and no look-up. What is not counted as it happens, such as the position
of a partition's head, is set by a probe that runs right before the metrics are written; a probe whose source is away,
or does not answer within two seconds, leaves its figures out of the answer. The others are there in any outage.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator
from itertools import accumulate
from typing import Generic, Literal, TypeVar

from service.outages import Outage

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of a latency."""
PROBE_SECONDS_MAX = 2.0
"""Of all probes together, which run side by side."""

_log = logging.getLogger(__name__)


class Value:
    """One number that goes up, and for a gauge down as well."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def samples(self, name: str, labels: str) -> Iterator[str]:
        """Yield the lines that show it."""
        yield f"{name}{_braced(labels)} {self.value:.17g}"


class Distribution:
    """How many observations fell under each bound, and their sum."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds

    def samples(self, name: str, labels: str) -> Iterator[str]:
        """Yield the lines that show it; a bucket contains those below it."""
        totals = list(accumulate(self._counts))
        for bound, total in zip((*map(str, SECONDS), "+Inf"), totals, strict=True):
            below = f'le="{bound}"'
            yield f"{name}_bucket{_braced(labels, below)} {total}"
        yield f"{name}_sum{_braced(labels)} {self._sum:.17g}"
        yield f"{name}_count{_braced(labels)} {totals[-1]}"


Cell = TypeVar("Cell", Value, Distribution)


class Family(Generic[Cell]):
    """All values of one name, by their labels."""

    def __init__(self, name: str, about: str, kind: str, names: tuple[str, ...], cell: type[Cell]) -> None:
        self._name = name
        self._head = f"# HELP {name} {about}\n# TYPE {name} {kind}"
        self._names = names
        self._cell = cell
        self._cells: dict[tuple[str, ...], Cell] = {}

    def labels(self, *values: str) -> Cell:
        """Return the value for these labels, which begins at 0."""
        if len(values) != len(self._names):
            raise ValueError(f"{self._name} has the labels {', '.join(self._names)}")
        return self._cells.setdefault(values, self._cell())

    def clear(self) -> None:
        """Forget all values."""
        self._cells.clear()

    def lines(self) -> Iterator[str]:
        """Yield the family's lines."""
        yield self._head
        for values, cell in self._cells.items():
            labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(self._names, values, strict=True))
            yield from cell.samples(self._name, labels)


class Metrics:
    """Everything that is measured in this process."""

    def __init__(self) -> None:
        self._families: dict[str, Family[Value] | Family[Distribution]] = {}
        self._probes: list[Callable[[], Awaitable[None]]] = []

    def number(self, kind: Literal["counter", "gauge"], name: str, about: str, *labels: str) -> Family[Value]:
        """Add a family of numbers; a counter's name ends in `_total`."""
        family = Family(name, about, kind, labels, Value)
        self._add(name, family)
        return family

    def latency(self, name: str, about: str, *labels: str) -> Family[Distribution]:
        """Add a family of latencies; the name ends in `_seconds`."""
        family = Family(name, about, "histogram", labels, Distribution)
        self._add(name, family)
        return family

    def probe(self, run: Callable[[], Awaitable[None]]) -> None:
        """Have `run` called before the metrics are written, beside the other probes; it may raise Outage."""
        self._probes.append(run)

    async def exposition(self) -> str:
        """Return all metrics as text, within little more than two seconds."""
        probing = [asyncio.create_task(_figures(run)) for run in self._probes]
        if probing:
            _, late = await asyncio.wait(probing, timeout=PROBE_SECONDS_MAX)
            for task in late:  # nobody waits for its end, which may take as long as the outage
                task.cancel()
        return "".join(f"{line}\n" for family in self._families.values() for line in family.lines())

    def _add(self, name: str, family: Family[Value] | Family[Distribution]) -> None:
        if name in self._families:
            raise ValueError(f"there is a metric {name} already")
        self._families[name] = family


async def _figures(run: Callable[[], Awaitable[None]]) -> None:
    """Have a probe set its figures, if it can."""
    try:
        await run()
    except Outage as outage:
        _log.debug("some figures are not known now: %s", outage)
    except Exception:  # noqa: BLE001 - whatever it is, the other figures are told
        _log.exception("some figures could not be read")


def _braced(*labels: str) -> str:
    joined = ",".join(label for label in labels if label)
    return f"{{{joined}}}" if joined else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
