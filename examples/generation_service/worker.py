"""A worker: takes one task after the other from the queue and has its job begun.

It may be killed at any moment: a task that was not finished is delivered again, and beginning twice is beginning once.
Several may run, here or in other processes on the same store.
"""

from __future__ import annotations

import asyncio
import logging

from examples.generation_service.generation import Generation
from examples.generation_service.queue import QueueAway

AWAY_SECONDS = 1.0

_log = logging.getLogger(__name__)


async def work(generation: Generation) -> None:
    """Work until cancelled."""
    while True:
        try:
            task = await generation.queue.take()
        except QueueAway as error:
            _log.warning("the queue is away: %s", error)
            await asyncio.sleep(AWAY_SECONDS)
            continue
        try:
            await generation.begin(task)
        except Exception:  # noqa: BLE001 - one job that cannot be begun must not keep the others waiting
            _log.exception("job %s could not be begun", task.job)
            await task.later(AWAY_SECONDS)
