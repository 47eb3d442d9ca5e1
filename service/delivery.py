"""Delivery: the process that holds the lease publishes the log and alerts and takes durable commands; the others stand by.

When a process stops, it takes no more commands first, lets the writers finish, publishes what they wrote, and gives the
lease up, so that another one goes on at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from events.instants import moment
from service.alert_publisher import AlertPublisher
from service.bus.durable import DurableBus
from service.bus.jetstream import StreamAway
from service.checkpoint_publisher import CheckpointPublisher
from service.ending import ended
from service.leading import Lead
from service.publisher import Publisher
from service.store.publishing import Lease
from service.telemetry.metrics import Family, Metrics, Value

LAST_SECONDS_MAX = 2.0

_log = logging.getLogger(__name__)


class Delivery:
    """Runs a publisher and the taking of durable commands, from `start` to `stop_intake` and `stop`."""

    def __init__(
        self,
        lead: Lead,
        bus: DurableBus,
        publisher: Publisher,
        alerts: AlertPublisher | None = None,
        checkpoints: CheckpointPublisher | None = None,
    ) -> None:
        self._lead = lead
        self._bus = bus
        self.publisher = publisher
        self._alerts = alerts
        self.checkpoints = checkpoints
        self._takes = True
        self._taking: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; returns at once, NATS may come later."""
        self._bus.start()
        self._task = asyncio.create_task(self._lead.run(self._work, self.publisher.standing))

    async def submitted(self, account: str, key: str) -> bool | None:
        """Say whether a durable command with this key waits in the stream; None when that cannot be known."""
        return await self._bus.backlog.holds(account, key)

    async def refused(self, account: str, key: str, seconds: int) -> dict[str, Any] | None:
        """Return what a durable command submitted at most so long ago was refused with; None when none is known."""
        return await self._bus.refusals.of(account, key, seconds)

    async def stop_intake(self) -> None:
        """Take no more durable commands; those that are being worked on stay in the stream or are acknowledged."""
        self._takes = False
        if self._taking is not None:
            await ended([self._taking])

    async def stop(self) -> None:
        """Publish what is left, for a moment, and let another process go on."""
        if self._task is None:
            return
        if self._lead.is_held and self.publisher.positions is not None and self.publisher.alarm is None:
            try:
                async with asyncio.timeout(LAST_SECONDS_MAX):
                    await self.publisher.caught_up()
            except TimeoutError:
                _log.warning("some events are not published yet; the next process does it")
        was_held = self._lead.is_held
        await ended([self._task])
        if was_held:
            await self._lead.leave()
        await self._bus.stop()

    def measure(self, metrics: Metrics) -> None:
        """Add what there is to know about publishing and durable commands; positions and lags of the one that leads."""
        gauges = _gauges(metrics)
        position = metrics.number(
            "gauge",
            "credit_ledger_published_position",
            "Position of a partition's last event in the stream.",
            "partition",
        )
        checkpoint = metrics.number(
            "gauge", "credit_ledger_published_checkpoint", "Number of the last checkpoint in the stream."
        )
        alarms = metrics.number("gauge", "credit_ledger_delivery_alarm", "1 while something is wrong.", "code")
        published = metrics.number("counter", "credit_ledger_published_total", "Events that this process published.")
        taken = metrics.number(
            "counter", "credit_ledger_submissions_total", "Durable commands by what came of them.", "result"
        )

        self.publisher.told_delay = (
            metrics.latency(
                "credit_ledger_publisher_delay_seconds",
                "From an event's recording to the stream, of the oldest event of each window.",
            )
            .labels()
            .observe
        )

        async def show() -> None:
            for family in (*gauges.values(), position, checkpoint, alarms):
                family.clear()
            gauges["delivery_leading"].labels().value = self._lead.is_held
            published.labels().value = self.publisher.published
            for result, count in self._bus.submissions.counts.items():
                taken.labels(result).value = count
            if not self._lead.is_held:
                return
            for partition, at in enumerate(self.publisher.positions or ()):
                position.labels(str(partition)).value = at
            if self.checkpoints is not None and self.checkpoints.number is not None:
                checkpoint.labels().value = self.checkpoints.number
            for code in self._wrong():
                alarms.labels(code).value = 1
            gauges["submissions_at_work"].labels().value = self._bus.submissions.at_work
            try:
                count, oldest = await self._bus.submissions.waiting()
            except StreamAway:
                pass
            else:
                gauges["submissions_backlog"].labels().value = count
                gauges["submissions_oldest_seconds"].labels().value = _age(oldest)
            lag = await self.publisher.lag()
            if lag is not None:
                gauges["publisher_lag_events"].labels().value = lag[0]
                gauges["publisher_lag_seconds"].labels().value = _age(None if lag[1] is None else moment(lag[1]))

        metrics.probe(show)
        if self._alerts is not None:
            self._alerts.measure(metrics)

    def _wrong(self) -> Iterator[str]:
        """Yield the codes of what is wrong."""
        if self.publisher.alarm is not None:
            yield self.publisher.alarm[0]
        if self._bus.submissions.alarm is not None:
            yield "commands_not_taken"
        if self._bus.submissions.unstored:
            yield "outcomes_not_stored"
        if self.checkpoints is not None and self.checkpoints.alarm is not None:
            yield "checkpoints_not_published"

    async def _work(self, lease: Lease) -> None:
        """Publish and take commands until cancelled, or until one of the two fails."""
        publishing = asyncio.create_task(self.publisher.run(lease, self._may_work))
        self._taking = asyncio.create_task(self._bus.submissions.run(lease.epoch, self._may_work))
        telling = (self._alerts, self.checkpoints)
        others = [asyncio.create_task(each.run(self._may_work)) for each in telling if each is not None]
        if not self._takes:
            self._taking.cancel()
        try:
            await asyncio.wait({publishing, self._taking}, return_when=asyncio.FIRST_COMPLETED)
            if not self._takes:
                await asyncio.wait({publishing})
            for task in (publishing, self._taking):
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            await ended([publishing, self._taking, *others])

    def _may_work(self) -> bool:
        return self._lead.is_held


def _age(since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (datetime.now(UTC) - since).total_seconds())


def _gauges(metrics: Metrics) -> dict[str, Family[Value]]:
    return {
        name: metrics.number("gauge", f"credit_ledger_{name}", about)
        for name, about in (
            ("delivery_leading", "1 in the process that publishes events and takes durable commands."),
            ("publisher_lag_events", "Events that are not in the stream yet."),
            (
                "publisher_lag_seconds",
                "For how long the first event that is not in the stream yet has been in the log.",
            ),
            ("submissions_backlog", "Durable commands in the stream that have no outcome yet."),
            ("submissions_at_work", "Durable commands that are being worked on."),
            ("submissions_oldest_seconds", "For how long the first durable command has been waiting."),
        )
    }
