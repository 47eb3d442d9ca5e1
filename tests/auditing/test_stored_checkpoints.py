"""Every checkpoint that the database keeps is held against the log, not the last one alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from service.auditing.marks import MarkList
from service.auditing.verifier import Mark
from tests.auditing.signing import Signer, signing


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


def test_marks_are_those_that_were_added_without_what_is_said_twice() -> None:
    marks = [Mark(1, b"a" * 32), Mark(1, b"a" * 32), Mark(1, b"b" * 32), Mark(2, b"b" * 32)]
    assert list(MarkList(marks)) == [marks[0], *marks[2:]]
    with pytest.raises(ValueError, match="32 bytes"):
        MarkList([Mark(1, b"short")])
