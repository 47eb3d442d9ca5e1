"""Every checkpoint that the database keeps is held against the log, not the last one alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from events.instants import instant
from service.auditing.marks import MarkList
from service.auditing.verifier import Mark
from service.checkpoints.keys import SigningKey
from service.store.checkpoints import StoredCheckpoints
from tests.auditing.signing import KEY, Signer, signing

MADE_AT = ("wrong_checkpoint", "checkpoint 1 was made at ")
OF_NO_PARTITION = ("wrong_partition", "projections.holds_made has rows of partition -1")
OF_PARTITION_16 = ("wrong_partition", "ledger.heads has rows of partition 16")


@pytest.fixture
async def signer(postgres_url: str, _template: None) -> AsyncGenerator[Signer]:
    async with signing(postgres_url) as signer:
        yield signer


async def test_a_log_that_all_of_them_were_made_of_is_sound(signer: Signer) -> None:
    for share in (0.2, 0.5, 0.5, 1.0):
        await signer.sign(share)
    assert await signer.faults() == []


async def test_an_older_one_that_was_made_of_other_lines_is_noticed(signer: Signer) -> None:
    await signer.sign(0.5, others=b"!")
    await signer.sign(1.0)
    (fault,) = await signer.faults()
    half = len(signer.lines[signer.busiest]) // 2
    assert (fault.code, fault.partition, fault.position) == ("rewritten", signer.busiest, half)


@pytest.mark.parametrize("note", ["of another ledger", "no checkpoint"])
async def test_what_is_no_checkpoint_of_this_ledger_is_a_fault(signer: Signer, note: str) -> None:
    await signer.sign(0.5)
    if note == "of another ledger":
        await signer.sign(origin="credit-ledger/other")
    else:
        signer.number += 1
        await signer.keep(note)
    (fault,) = await signer.faults()
    assert fault.code == "wrong_signature"
    assert fault.detail.startswith("checkpoint 2 in the database is not one of this ledger: ")


async def test_the_last_one_is_signed_by_a_key_that_is_known(signer: Signer) -> None:
    oldest, newer, newest = (SigningKey.create(name) for name in ("oldest", "newer", "newest"))
    for share, keys in ((0.2, [oldest]), (0.4, [oldest, newer]), (0.6, [newer, newest]), (1.0, [newest])):
        await signer.sign(share, keys=keys)
    assert await signer.faults(newest) == await signer.faults(oldest, newest) == await signer.faults() == []
    (fault,) = await signer.faults(oldest, newer)
    assert fault.code == "wrong_signature"
    assert fault.detail.startswith("checkpoint 4, the last one in the database, is signed by newest, and by no key")


async def test_a_tail_that_is_rewritten_with_its_checkpoints_is_noticed_by_who_signed_them(signer: Signer) -> None:
    await signer.sign(0.5)
    for forgers in ([SigningKey.create(KEY.public.name)], []):
        await signer.sign(keys=forgers)
        (fault,) = await signer.faults(KEY)
        assert (fault.code, fault.place) == ("wrong_signature", "the checkpoints")


async def test_a_log_that_was_signed_anew_with_the_true_key_is_noticed_by_the_directory(
    signer: Signer, tmp_path: Path
) -> None:
    await signer.sign(0.5, directory=tmp_path)
    await signer.sign()
    assert await signer.faults(KEY, directory=tmp_path) == []
    await signer.sign(0.8, others=b"!", directory=tmp_path)
    assert await signer.faults(KEY) == []
    (fault,) = await signer.faults(KEY, directory=tmp_path)
    assert (fault.code, fault.partition) == ("rewritten", signer.busiest)


async def test_checkpoints_that_are_gone_from_the_end_are_noticed_by_the_directory(
    signer: Signer, tmp_path: Path
) -> None:
    signer.number = 1
    await signer.sign(0.2, directory=tmp_path)
    (fault,) = await signer.faults(KEY, directory=tmp_path)
    assert (fault.code, "has checkpoint 2, the last one in the database is 0" in fault.detail) == (
        "wrong_checkpoint",
        True,
    )


async def test_the_last_checkpoint_of_the_directory_is_of_this_ledger_and_of_a_key_that_is_known(
    signer: Signer, tmp_path: Path
) -> None:
    await signer.sign(directory=tmp_path, keys=[SigningKey.create("other")])
    (fault,) = await signer.faults(KEY, directory=tmp_path)
    assert (fault.code, f"the last one in {tmp_path}, is signed by other" in fault.detail) == ("wrong_signature", True)
    await signer.sign(directory=tmp_path, origin="credit-ledger/other")
    (fault,) = await signer.faults(KEY, directory=tmp_path)
    assert (fault.code, "not one of this ledger" in fault.detail) == ("wrong_signature", True)


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ("delete from ledger.checkpoints where number = 2", "wrong_checkpoint", "checkpoint 2 is gone"),
        ("delete from ledger.checkpoints where number < 3", "wrong_checkpoint", "checkpoint 1 to 2 is gone"),
        ("update ledger.checkpoints set made_at = made_at - interval '2 days' where number = 1", *MADE_AT),
        (
            "update ledger.catalogs set source = replace(source, '\"Starter\"', '\"Stolen\"')",
            "wrong_catalog",
            "catalog ",
        ),
        ("update ledger.activations set hash = replace(hash, 'a', 'b')", "wrong_catalog", "catalog "),
        ("insert into projections.holds_made values (-1, 1, '', 'credits', '', '', 1, 1)", *OF_NO_PARTITION),
        ("insert into ledger.heads select 16, 0, hash, recorded_at from ledger.heads limit 1", *OF_PARTITION_16),
    ],
)
async def test_what_is_changed_beside_the_log_is_noticed(signer: Signer, change: str, code: str, told: str) -> None:
    signer.at = instant(datetime.now(UTC))
    for share in (0.2, 0.5, 0.7, 1.0):
        await signer.sign(share)
    assert await signer.faults(KEY) == []
    connection = await asyncpg.connect(signer.url)
    for table in ("checkpoints", "catalogs", "activations"):
        await connection.execute(f"alter table ledger.{table} disable trigger all")
    await connection.execute(change)
    await connection.close()
    (fault,) = await signer.faults(KEY)
    assert fault.code == code
    assert fault.detail.startswith(told)


async def test_what_is_thinned_out_is_not_missed(signer: Signer) -> None:
    for share in (0.2, 0.5, 1.0):
        await signer.sign(share)
    assert await StoredCheckpoints(signer.log).thin(10) == 2
    assert await signer.faults(KEY) == []


def test_marks_are_those_that_were_added_without_what_is_said_twice() -> None:
    marks = [Mark(1, b"a" * 32), Mark(1, b"a" * 32), Mark(1, b"b" * 32), Mark(2, b"b" * 32)]
    assert list(MarkList(marks)) == [marks[0], *marks[2:]]
    with pytest.raises(ValueError, match="32 bytes"):
        MarkList([Mark(1, b"short")])
