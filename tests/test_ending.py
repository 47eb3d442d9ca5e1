"""A task that is to end does so, also when its first cancellation was lost."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from service import ending

SERVICE = Path(ending.__file__).parent


async def test_a_task_that_loses_cancellations_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "AGAIN_SECONDS", 0.01)
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while lost < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1  # as `asyncio.wait_for` of Python 3.11 does when it has its result already
        await asyncio.Event().wait()

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await ending.ended([task])
    assert (task.cancelled(), lost) == (True, 3)


async def test_a_task_that_is_done_is_left_alone() -> None:
    async def done() -> None:
        """Do nothing."""

    task = asyncio.create_task(done())
    await task
    await ending.ended([task])
    assert not task.cancelled()


def test_whoever_waits_for_a_task_that_it_cancelled_does_it_this_way() -> None:
    by_themselves = [
        path.name
        for path in SERVICE.rglob("*.py")
        if path.name != "ending.py"
        and re.search(
            r"\.cancel\(\)\n\s*(with suppress\(.*\):\n\s*)?await (asyncio\.wait|self\._task|task)", path.read_text()
        )
    ]
    assert by_themselves == []
