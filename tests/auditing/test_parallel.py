"""However many processes verify, and however little they keep in memory, they come to the same."""

from __future__ import annotations

import asyncio
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from service.auditing import exported, parallel
from service.auditing.exported import verify_export
from service.auditing.parallel import SMALL_LOG_LINES, verify_database, verify_file
from service.auditing.verifier import Verified
from service.store.log import Log
from tests.servers import PARTITIONS


def alone(export: Path) -> list[Verified]:
    return verify_export(export, partitions=PARTITIONS, advance=lambda _done: None)


async def test_all_cores_come_to_what_one_comes_to(
    audited_url: str, log: Log, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "SMALL_FILE_BYTES", 0)
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    done: list[int] = []
    found = verify_file(export, partitions=PARTITIONS, marks={}, progress=done.append)
    assert sorted(found, key=lambda each: each.partition) == alone(export)
    assert done[-1] > 0
    many = {3: SMALL_LOG_LINES + 1}
    stored = await verify_database(log, audited_url, partitions=PARTITIONS, sizes=many, marks={}, progress=done.append)
    assert stored[0].partition == 3, "the largest is begun first"
    stored.sort(key=lambda each: each.partition)
    assert [each for each in stored if each.events] == alone(export)
    assert done[-1] == sum(each.events for each in stored)


def test_accounts_that_do_not_fit_into_memory_come_to_the_same(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy = alone(export)
    monkeypatch.setattr(exported, "UNITS_IN_MEMORY_MAX", 16)
    assert alone(export) == roomy
    monkeypatch.setattr(exported, "SHELF_ITEMS_MAX", 20)
    assert alone(export) == roomy
    assert all(each.fault is None for each in roomy)


def test_a_verification_that_is_interrupted_ends_and_leaves_no_process(
    audited_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while more partitions wait than there are processes, and Ctrl-C has to reach nobody but the first one."""
    monkeypatch.setattr(parallel, "SMALL_LOG_LINES", 0)
    monkeypatch.setattr(parallel, "cores", lambda: 2)

    async def interrupted() -> None:
        begun, loop = asyncio.Event(), asyncio.get_running_loop()

        def progress(_done: int) -> None:
            loop.call_soon_threadsafe(begun.set)

        log = await Log.connect(audited_url, connections=1)
        try:
            verifying = asyncio.create_task(
                verify_database(log, audited_url, partitions=PARTITIONS, sizes={0: 1}, marks={}, progress=progress)
            )
            await begun.wait()
            started.extend(active_children())
            verifying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await verifying
        finally:
            await log.close()

    started: list[BaseProcess] = []
    asyncio.run(asyncio.wait_for(interrupted(), 30))  # which also waits for the threads that it started
    assert len(started) == 2
    assert active_children() == []
