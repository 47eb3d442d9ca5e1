"""Leading: one process at a time publishes the log and takes durable commands.

The database grants a lease of a few seconds, which is renewed while the work goes on. When it cannot be renewed, the
work is cancelled before the lease ends, by a clock that cannot be set. The lease only keeps processes out of each
other's way: what a process does that does not know yet that it lost the lease is harmless (service/publisher.py,
service/bus/submissions.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from time import monotonic

from service.ending import ended
from service.outages import Outage
from service.store.publishing import Lease, Outbox

LEASE_SECONDS = 6.0
RENEW_SECONDS = 2.0
MARGIN_SECONDS = 1.5
LOOK_SECONDS = 0.5

Standing = Callable[[], tuple[str, list[int]] | None]
"""How far the stream is published: when it was made, and the position of each partition; None when not known."""

_log = logging.getLogger(__name__)


class Lead:
    """Holds the lease when it can, and has work done meanwhile."""

    def __init__(self, outbox: Outbox, holder: str, *, seconds: float = LEASE_SECONDS) -> None:
        self._outbox = outbox
        self._holder = holder
        self._seconds = seconds
        self._until = 0.0
        self.lease: Lease | None = None

    @property
    def is_held(self) -> bool:
        """Whether this process may act as the one that leads."""
        return monotonic() < self._until

    async def run(self, work: Callable[[Lease], Coroutine[None, None, None]], standing: Standing) -> None:
        """Have `work` done whenever the lease is held, until cancelled; it is cancelled when the lease is lost."""
        try:
            while True:
                lease = await self._take(standing)
                if lease is None:
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
                _log.info("this process publishes events and takes durable commands (epoch %d)", lease.epoch)
                await self._while_held(asyncio.create_task(work(lease)), lease.epoch, standing)
        finally:
            self._until = 0.0

    async def take_by_force(self) -> Lease:
        """Take the lease from whoever has it; raises Unavailable."""
        began = monotonic()
        lease = await self._outbox.lease(self._holder, self._seconds, by_force=True)
        assert lease is not None  # noqa: S101 - by force it is always granted
        self._until = began + self._seconds - MARGIN_SECONDS
        return lease

    async def leave(self) -> None:
        """Give the lease up, so that another process goes on at once."""
        self._until = 0.0
        try:
            await self._outbox.leave(self._holder)
        except Outage as outage:
            _log.debug("the lease ends by itself: %s", outage)

    async def _take(self, standing: Standing) -> Lease | None:
        began = monotonic()
        told = standing() if self.is_held else None
        stream, positions = told or (None, None)
        try:
            lease = await self._outbox.lease(self._holder, self._seconds, stream=stream, positions=positions)
        except Outage as outage:
            _log.debug("the lease is not known now: %s", outage)
            return None
        self._until = 0.0 if lease is None else began + self._seconds - MARGIN_SECONDS
        self.lease = lease
        return lease

    async def _while_held(self, work: asyncio.Task[None], epoch: int, standing: Standing) -> None:
        try:
            renewed = monotonic()
            while not work.done() and self.is_held:
                await asyncio.wait({work}, timeout=min(RENEW_SECONDS, max(0.05, self._until - monotonic())))
                if monotonic() - renewed >= RENEW_SECONDS / 2 and not work.done():
                    renewed = monotonic()
                    lease = await self._take(standing)
                    if lease is not None and lease.epoch != epoch:
                        break  # it was another's meanwhile; begin anew
            if not work.done():
                _log.warning("this process lost its lease, and stops publishing events and taking durable commands")
        finally:
            await ended([work])
        if not work.cancelled() and (error := work.exception()) is not None:
            _log.error("publishing failed, and begins anew", exc_info=error)
            await asyncio.sleep(LOOK_SECONDS)
