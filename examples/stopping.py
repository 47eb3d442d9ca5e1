"""Stopping what runs beside an application."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

AGAIN_SECONDS = 0.5


async def stopped(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended; in Python 3.11 `asyncio.wait_for`, which nats-py uses, may swallow one."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)
