"""The projector: keeps the projections behind the log, never wrong and seldom late (DESIGN.md, "Reading").

It asks where something is missing, whenever this process has written something and at least every tenth of a second, and
adds the missing lines batch by batch. Batches are bounded, so the writers' database and this
process stay free for callers. A generation that was begun beside the one that is read catches up in the same way, and is
switched to when it has come as far; what it says is compared first when it is of the same version, and a difference is an
alarm.

A gap in the log is never skipped: the partition's projections stand still, and the metric
`credit_ledger_projector_stopped` says so until somebody has looked.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import monotonic

from service.ending import ended
from service.outages import Outage
from service.store.log import Log
from service.store.projecting import Projecting, Switched
from service.telemetry.metrics import Metrics

POLL_SECONDS = 0.1
GATHER_SECONDS = 0.05
BATCH_LINES_MAX = 300
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
        lanes: int = 1,
    ) -> None:
        """Take a log of its own, so that no append waits for a connection.

        With more than one lane partitions are shared out between transactions that run at the same time, so that the
        database works on one while the folds of another are made.
        """
        self.store = Projecting(log)
        self.stopped: dict[int, str] = {}
        """Partitions in which the log does not go on where the projections end, and why that is said."""
        self.differences = 0
        """How many generations said something else than the one that they replaced."""
        self._lanes = lanes
        self._poll_seconds = poll_seconds
        self._batch_lines_max = batch_lines_max
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._next_heartbeat = 0.0
        self._next_switch = 0.0

    def wake(self) -> None:
        """Look at once: something was written."""
        self._woken.set()

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; a batch that was begun is not in any projection, or in all."""
        if self._task is not None:
            await ended([self._task])

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
            different.labels().value = self.differences

        metrics.probe(show)

    async def project(self) -> int:
        """Add one batch to the partitions in which something is missing; returns how many lines. Raises Outage."""
        behind = [each.partition for each in await self.store.behind() if each.partition not in self.stopped]
        if not behind:
            return 0
        shares = [share for share in (behind[lane :: self._lanes] for lane in range(self._lanes)) if share]
        lines_each = self._batch_lines_max // len(shares)
        made = await asyncio.gather(
            *(self.store.advance(share, lines_each) for share in shares), return_exceptions=True
        )
        lines = 0
        for advanced in made:
            if isinstance(advanced, BaseException):
                raise advanced
            lines += advanced.lines
            for partition, gap in advanced.gaps.items():
                self.stopped[partition] = gap
                _log.critical("partition %d: %s; its projections stand still", partition, gap)
        return lines

    async def catch_up(self) -> None:
        """Add all there is; returns when nothing is missing. Raises Outage."""
        while await self.project():
            pass
        await self.switch()

    async def switch(self) -> None:
        """Switch to each generation that has caught up, and throw the older ones away. Raises Outage."""
        generations = await self.store.generations()
        for name in {each.name for each in generations}:
            of_name = [each for each in generations if each.name == name]
            current = max((each.generation for each in of_name if each.is_current), default=0)
            newer = [each for each in of_name if each.generation > current and each.has_caught_up]
            if newer and current:
                outcome = await self.store.switch(name, newer[-1].generation)
                if outcome != "not_yet":
                    self._tell(name, current, newer[-1].generation, outcome)
                continue
            for old in (each for each in of_name if each.generation < current):
                await self.store.remove(name, old.generation)

    def _tell(self, name: str, before: int, after: int, outcome: Switched) -> None:
        if outcome == "different":
            self.differences += 1
        level = logging.ERROR if outcome == "different" else logging.INFO
        _log.log(level, "projection %s: generation %d replaces %d, which is: %s", name, after, before, outcome)

    async def _run(self) -> None:
        outage_seconds = self._poll_seconds
        is_registered = False
        while True:
            try:
                if not is_registered:
                    await self.store.register()
                    is_registered = True
                await self._round()
                outage_seconds = self._poll_seconds
            except Outage as outage:
                _log.warning("projections stand still now: %s", outage)
                await asyncio.sleep(outage_seconds)
                outage_seconds = min(outage_seconds * 2, OUTAGE_SECONDS_MAX)
            except Exception:  # noqa: BLE001 - the next round may fare better; the metrics tell that it lags
                _log.exception("the projections could not be carried on")
                await asyncio.sleep(1.0)

    async def _round(self) -> None:
        self._woken.clear()
        added = await self.project()
        now = monotonic()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_SECONDS
            partitions = await self.store.heartbeats()
            await self.store.looked([partition for partition in partitions if partition not in self.stopped])
        if now >= self._next_switch:
            self._next_switch = now + SWITCH_SECONDS
            await self.switch()
        if added >= self._batch_lines_max:
            return  # there is more
        await asyncio.sleep(GATHER_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), self._poll_seconds)
