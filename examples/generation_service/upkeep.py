"""The upkeep: finishes what a crash or an outage interrupted, and lets holds live as long as their jobs.

Each round only repeats what is right to repeat, so it does not matter who did it before, or how far that came.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

from credit_ledger_client import LedgerError
from examples.generation_service.generation import HOLD_SECONDS, Generation
from examples.generation_service.queue import QueueAway

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The upkeep, and after how many seconds it looks, queues anew, gives a silent provider up and renews holds."""

    generation: Generation
    round_seconds: float = 5.0
    waiting_seconds: float = 30.0
    silent_seconds: float = 600.0
    held_seconds: float = 300.0

    async def run(self) -> None:
        """Go round until cancelled."""
        while True:
            try:
                await self.round()
            except Exception:  # noqa: BLE001 - the next round tries again
                _log.exception("a round of the upkeep failed")
            await asyncio.sleep(self.round_seconds)

    async def round(self) -> None:
        """Do whatever is to be done now."""
        generation, store = self.generation, self.generation.store
        for job in store.to_settle():
            await generation.settle(job)
        for job in store.silent(self.silent_seconds):
            if not await generation.try_again(job.id, job.attempt):
                await generation.decide(store.fail(job.id, job.attempt, "the provider never answered"))
        for job in store.to_hold_longer(self.held_seconds):
            with suppress(LedgerError):  # what ran out is held anew by the worker, or booked late by the ledger
                await generation.ledger.extend(job.team, job.hold, ttl_seconds=HOLD_SECONDS)
            store.held(job)
        with suppress(QueueAway):
            await generation.queue.ensure()
            for job in store.waiting(self.waiting_seconds):
                await generation.queue.put(job)
        store.forget_results()
