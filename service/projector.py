"""The projector: keeps the projections behind the log, never wrong and seldom late (DESIGN.md, "Reading").

It asks where something is missing, whenever this process has written something and at least every tenth of a second, and
adds the missing lines batch by batch. Batches are bounded, so the writers' database and this
process stay free for callers. A generation that was begun beside the one that is read is built by `service.builder`.

A gap in the log is never skipped: the partition's projections stand still, and the metric
`credit_ledger_projector_stopped` says so until somebody has looked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

from service.builder import Builder
from service.ending import ended
from service.outages import Outage
from service.store.log import Log
from service.store.projecting import Projecting
from service.telemetry.metrics import Metrics

POLL_SECONDS = 0.1
GATHER_SECONDS = 0.05
BATCH_LINES_MAX = 2000
HEARTBEAT_SECONDS = 5.0
SWITCH_SECONDS = 1.0
OUTAGE_SECONDS_MAX = 10.0

_log = logging.getLogger(__name__)


class Projector:
    """Reads every partition until it is stopped."""

    def __init__(
        self,
        log: Log,
        *,
        poll_seconds: float = POLL_SECONDS,
        batch_lines_max: int = BATCH_LINES_MAX,
    ) -> None:
        """Take a log of its own, so that no append waits for a connection."""
        self.store = Projecting(log)
        self.builder = Builder(log, self.store)
        self.stopped: dict[int, str] = {}
        """Partitions in which the log does not go on where the projections end, and why that is said."""
        self._poll_seconds = poll_seconds
        self._batch_lines_max = batch_lines_max
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._next_heartbeat = 0.0
        self._registering = asyncio.Lock()
        self._is_registered = False

    def wake(self) -> None:
        """Look at once: something was written."""
        self._woken.set()

    def start(self) -> None:
        """Begin to read."""
        self._tasks = [asyncio.create_task(self._run(work)) for work in (self._read, self._build)]

    async def stop(self) -> None:
        """Stop; a batch that was begun is not in any projection, or in all."""
        await ended(self._tasks)

    def measure(self, metrics: Metrics) -> None:
        """Add what there is to know about projections."""
        events = metrics.number(
            *("gauge", "credit_ledger_projection_lag_events", "Events that a projection lacks."),
            *("partition", "projection"),
        )
        seconds = metrics.number(
            *("gauge", "credit_ledger_projection_lag_seconds", "For how long the first of them has been in the log."),
            *("partition", "projection"),
        )
        heartbeat = metrics.number(
            "gauge",
            "credit_ledger_projector_heartbeat_seconds",
            "Since a reader last looked at a partition.",
            "partition",
        )
        stopped = metrics.number(
            "gauge", "credit_ledger_projector_stopped", "1 where the log has a gap and nothing is read on.", "partition"
        )
        different = metrics.number(
            "counter",
            "credit_ledger_projection_differences_total",
            "Generations that said something else when rebuilt.",
        )

        async def show() -> None:
            for family in (events, seconds, heartbeat):
                family.clear()
            for lag in await self.store.lag():
                events.labels(str(lag.partition), lag.name).value = lag.events
                seconds.labels(str(lag.partition), lag.name).value = lag.seconds
            for partition, age in (await self.store.heartbeats()).items():
                heartbeat.labels(str(partition)).value = age
                stopped.labels(str(partition)).value = int(partition in self.stopped)
            different.labels().value = self.builder.differences

        metrics.probe(show)

    async def project(self) -> int:
        """Add one batch to the partitions in which something is missing; returns how many lines. Raises Outage."""
        behind = [
            each.partition
            for each in await self.store.behind()
            if each.near != each.head and each.partition not in self.stopped
        ]
        if not behind:
            return 0
        advanced = await self.store.advance(behind, self._batch_lines_max)
        for partition, gap in advanced.gaps.items():
            self.stopped[partition] = gap
            _log.critical("partition %d: %s; its projections stand still", partition, gap)
        return advanced.lines

    async def catch_up(self) -> None:
        """Add all there is; returns when nothing is missing. Raises Outage."""
        while await self.project() + await self.builder.build():
            pass
        await self.builder.switch()

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        outage_seconds = self._poll_seconds
        while True:
            try:
                await self._registered()
                await work()
                outage_seconds = self._poll_seconds
            except Outage as outage:
                _log.warning("projections stand still now: %s", outage)
                await asyncio.sleep(outage_seconds)
                outage_seconds = min(outage_seconds * 2, OUTAGE_SECONDS_MAX)
            except Exception:  # noqa: BLE001 - the next round may fare better; the metrics tell that it lags
                _log.exception("the projections could not be carried on")
                await asyncio.sleep(1.0)

    async def _registered(self) -> None:
        async with self._registering:
            if not self._is_registered:
                await self.store.register()
                self._is_registered = True

    async def _read(self) -> None:
        """One round of reading, and the pause behind it."""
        self._woken.clear()
        added = await self.project()
        now = monotonic()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_SECONDS
            partitions = await self.store.heartbeats()
            await self.store.looked([partition for partition in partitions if partition not in self.stopped])
        if added >= self._batch_lines_max:
            return  # there is more
        await asyncio.sleep(GATHER_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), self._poll_seconds)

    async def _build(self) -> None:
        """One round of building."""
        if not await self.builder.build():
            await self.builder.switch()
            await asyncio.sleep(SWITCH_SECONDS)
