"""The publisher of alerts: each one in the stream of alerts, once, in the order of their numbers.

It runs where the events are published, under the same lease. Where it stands it knows from two places: the number that
the database keeps behind each window, and the last alert in the stream, which tells of a window that was stored while
nobody could keep that. So nothing is sent twice after a kill, nor after the stream was wiped: alerts are for the moment,
and what a stream lost is not sent again. The stream refuses a window that does not fit to where it is, as that of events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from service.alert_messages import alert_message
from service.bus.alert_stream import AlertStream
from service.bus.event_stream import AlreadyStored, StreamMoved
from service.bus.jetstream import StreamAway
from service.outages import Outage
from service.store.outgoing import Outgoing
from service.telemetry.metrics import Metrics

WINDOW_MESSAGES_MAX = 128
POLL_SECONDS = 0.25
RETRY_SECONDS = 0.1
RETRY_SECONDS_MAX = 5.0

_log = logging.getLogger(__name__)


class AlertPublisher:
    """Publishes the alerts of a ledger; `source` is that of its CloudEvents."""

    def __init__(
        self,
        outgoing: Outgoing,
        stream: AlertStream,
        *,
        prefix: str,
        source: str,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._outgoing = outgoing
        self._stream = stream
        self._prefix = prefix
        self._source = source
        self._poll_seconds = poll_seconds
        self.published = 0
        """How many alerts this process published."""

    async def run(self, is_current: Callable[[], bool]) -> None:
        """Publish until cancelled; `is_current` says whether the lease is held."""
        wait, is_told = RETRY_SECONDS, False
        while True:
            try:
                number, sequence = await self._resume()
                while is_current():
                    wait, is_told = RETRY_SECONDS, False
                    number, sequence = await self._publish(number, sequence)
            except (StreamMoved, AlreadyStored) as error:
                _log.info("the stream of alerts is not where it was, looking again: %s", error)
            except (StreamAway, Outage) as error:
                _log.log(logging.DEBUG if is_told else logging.WARNING, "alerts are not published now: %s", error)
                is_told = True
            except Exception:  # noqa: BLE001 - the next try may fare better; the metrics tell what waits
                _log.exception("alerts could not be published")
            await asyncio.sleep(wait)
            wait = min(wait * 2, RETRY_SECONDS_MAX)

    def measure(self, metrics: Metrics) -> None:
        """Add what there is to know about the publishing of alerts."""
        published = metrics.number(
            "counter", "credit_ledger_alerts_published_total", "Alerts that this process published."
        )
        waiting = metrics.number("gauge", "credit_ledger_alerts_unpublished", "Alerts that are not in the stream yet.")

        async def show() -> None:
            published.labels().value = self.published
            waiting.labels().value = (await self._outgoing.unpublished()).number

        metrics.probe(show)

    async def _resume(self) -> tuple[int, int]:
        """Return the number up to which alerts are published, and the stream's last sequence."""
        state = await self._stream.open()
        number = await self._stream.number_at(state.last_sequence, self._source)
        kept = await self._outgoing.published()
        if number > kept:
            await self._outgoing.note_published(number)
        return max(number, kept), state.last_sequence

    async def _publish(self, number: int, sequence: int) -> tuple[int, int]:
        """Publish what comes behind a number, or wait a moment when there is nothing; returns where it stands then."""
        await self._outgoing.number()
        window = await self._outgoing.behind(number, WINDOW_MESSAGES_MAX)
        if not window:
            await asyncio.sleep(self._poll_seconds)
            return number, sequence
        messages = [alert_message(alert, self._prefix, self._source) for alert in window]
        sequence = await self._stream.publish(messages, sequence)
        self.published += len(window)
        await self._outgoing.note_published(window[-1].number)
        return window[-1].number, sequence
