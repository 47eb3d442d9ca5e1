"""Alerts in a process: the clock that looks at timers, and the deliverer of webhooks when there are receivers."""

from __future__ import annotations

from collections.abc import Sequence

from service.alert_clock import AlertClock
from service.cloud_events import source_of
from service.http.outgoing import Sender
from service.ledger import Ledger
from service.store.log import Log
from service.store.outgoing import Outgoing
from service.telemetry.metrics import Metrics
from service.webhooks.deliverer import Deliverer
from service.webhooks.receivers import Receiver


class Alerting:
    """Runs both from `start` to `stop`, on connections of those who read behind the callers."""

    def __init__(self, ledger: Ledger, readers: Log, receivers: Sequence[Receiver]) -> None:
        outgoing = Outgoing(readers)
        self._clock = AlertClock(readers, outgoing, ledger.clock)
        self._sender = Sender()
        self._deliverer = Deliverer(outgoing, receivers, self._sender, source=source_of(ledger.id), clock=ledger.clock)

    def start(self) -> None:
        """Begin."""
        self._clock.start()
        self._deliverer.start()

    async def stop(self) -> None:
        """Stop; what was not delivered is when a process runs again."""
        await self._clock.stop()
        await self._deliverer.stop()
        await self._sender.close()

    def measure(self, metrics: Metrics) -> None:
        """Add what there is to know about webhooks."""
        self._deliverer.measure(metrics)
