"""However many processes verify, and however little they keep in memory, they come to the same."""

from __future__ import annotations

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
