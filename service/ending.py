"""Ending tasks for sure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

AGAIN_SECONDS = 1.0


async def ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end.

    They are cancelled again and again: `asyncio.wait_for` of Python 3.11, which nats-py uses, loses a cancellation that
    comes in the moment in which it has its result.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
