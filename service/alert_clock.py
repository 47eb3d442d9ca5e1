"""The alert clock: looks at accounts of which time alone brings something about that is to be told.

A grant that is about to end, a payment that is due: the projection sets a timer for each, and when its instant has come
the account is looked at as it is then. Batches are bounded, and several processes share the work. It gives alerts
their numbers too, where nobody else does, and once an hour it forgets what was told long ago.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from events.instants import Instant, plus
from service.ending import ended
from service.outages import Outage
from service.store.log import Log
from service.store.outgoing import FORGOTTEN_AT_ONCE_MAX, Outgoing
from service.store.raising import TIMERS_AT_ONCE_MAX, look

POLL_SECONDS = 1.0
PAUSE_SECONDS = 0.05
OUTAGE_SECONDS = 5.0
KEPT_SECONDS = 90 * 86_400
"""For how long alerts and the log of their deliveries are kept."""
FORGET_SECONDS = 3600.0

_log = logging.getLogger(__name__)


class AlertClock:
    """Looks at timers until it is stopped."""

    def __init__(self, log: Log, outgoing: Outgoing, clock: Callable[[], Instant]) -> None:
        self._log = log
        self._outgoing = outgoing
        self._clock = clock
        self._next_forgetting = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look."""
        self._tasks = [asyncio.create_task(self._run())]

    async def stop(self) -> None:
        """Stop; a look that was begun is whole or has not been."""
        await ended(self._tasks)

    async def look(self) -> int:
        """Look at some of the timers that have come; returns how many. Raises Unavailable."""
        return await look(self._log, self._clock())

    async def forget(self) -> None:
        """Forget some of what was told long ago. Raises Unavailable."""
        if await self._outgoing.forget(plus(self._clock(), seconds=-KEPT_SECONDS)) == FORGOTTEN_AT_ONCE_MAX:
            self._next_forgetting = 0.0  # there is more

    async def _run(self) -> None:
        while True:
            wait = POLL_SECONDS
            try:
                if await self.look() == TIMERS_AT_ONCE_MAX or await self._outgoing.number():
                    wait = PAUSE_SECONDS
                if monotonic() >= self._next_forgetting:
                    self._next_forgetting = monotonic() + FORGET_SECONDS
                    await self.forget()
            except Outage as outage:
                _log.warning("no timers of alerts are looked at now: %s", outage)
                wait = OUTAGE_SECONDS
            except Exception:  # noqa: BLE001 - the next look may fare better
                _log.exception("timers of alerts could not be looked at")
                wait = OUTAGE_SECONDS
            await asyncio.sleep(wait)
