"""Laws of the self-audit: it comes round the whole log, names what is wrong, and says when all is well again."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import asyncpg
import pytest

from service.auditor import Auditor
from service.store.log import Log
from service.telemetry.metrics import Metrics
from tests.auditing.signing import Signer, signing
from tests.servers import PARTITIONS


async def test_it_verifies_the_whole_log(audited_url: str) -> None:
    log = await Log.connect(audited_url, connections=1)
    auditor = Auditor(log, PARTITIONS, cpu_share=1.0)
    metrics = Metrics()
    auditor.measure(metrics)
    await auditor.round()
    assert auditor.alarm() is None
    heads = {partition: (await log.head(partition)).position for partition in range(PARTITIONS)}
    assert auditor.verified == {partition: position for partition, position in heads.items() if position}
    shown = await metrics.exposition()
    for partition, position in auditor.verified.items():
        assert f'credit_ledger_audited_position{{partition="{partition}"}} {position}' in str(shown)
    assert "credit_ledger_audit_faults 0" in str(shown)
    await log.close()


async def test_what_is_wrong_is_an_alarm_until_it_is_put_right(audited_url: str) -> None:
    log = await Log.connect(audited_url, connections=1)
    auditor = Auditor(log, PARTITIONS, cpu_share=1.0)
    connection = await asyncpg.connect(audited_url)
    partition = await connection.fetchval("select partition from ledger.heads order by position desc limit 1")
    line = await connection.fetchval("select line from ledger.events where partition = $1 and position = 3", partition)
    change = "update ledger.events set line = $2 where partition = $1 and position = 3"
    await connection.execute("alter table ledger.events disable trigger append_only")
    try:
        await connection.execute(change, partition, line.replace(b"credits", b"minutes"))
        await auditor.round()
        assert list(auditor.faults) == [partition]
        assert f"{partition}-3 wrong_hash" in str(auditor.alarm())
        await connection.execute(change, partition, line)
        await auditor.round()
        assert auditor.alarm() is None
    finally:
        await connection.execute(change, partition, line)
        await connection.execute("alter table ledger.events enable always trigger append_only")
        await connection.close()
        await log.close()


@pytest.fixture
async def signer(postgres_url: str, _template: None) -> AsyncGenerator[Signer]:
    """A ledger of which a checkpoint of the last line is kept, and a database that a test may spoil."""
    async with signing(postgres_url) as signer:
        await signer.sign()
        yield signer


async def faults_of(signer: Signer, change: str) -> dict[int, str]:
    """What the self-audit says, by partition, after an admin ran some statement on the busiest one."""
    connection = await asyncpg.connect(signer.url)
    for table in ("events", "checkpoints"):
        await connection.execute(f"alter table ledger.{table} disable trigger all")
    await connection.execute(change, *([signer.busiest] if "$1" in change else []))
    await connection.close()
    auditor = Auditor(signer.log, PARTITIONS, cpu_share=1.0)
    await auditor.round()
    assert auditor.alarm() is not None
    return {partition: fault.code for partition, fault in auditor.faults.items()}


async def test_a_log_that_is_shorter_than_its_last_checkpoint_was_rolled_back(signer: Signer) -> None:
    change = """
        with cut as (delete from ledger.events e using ledger.heads h
                     where e.partition = $1 and h.partition = e.partition and e.position = h.position)
        update ledger.heads h set position = e.position, hash = e.hash from ledger.events e
        where h.partition = $1 and e.partition = h.partition and e.position = h.position - 1"""
    assert await faults_of(signer, change) == {signer.busiest: "rolled_back"}


async def test_a_partition_without_a_head_keeps_no_other_from_being_audited(signer: Signer) -> None:
    change = """
        with gone as (delete from ledger.heads where partition = 0)
        update ledger.events set hash = sha256(hash) where partition = $1 and position = 1"""
    assert signer.busiest != 0
    assert await faults_of(signer, change) == {0: "forged_head", signer.busiest: "wrong_hash"}


async def test_a_checkpoint_that_cannot_be_read_keeps_no_line_from_being_audited(signer: Signer) -> None:
    change = """
        with changed as (update ledger.checkpoints set note = 'no note')
        update ledger.events set hash = sha256(hash) where partition = $1 and position = 1"""
    found = await faults_of(signer, change)
    assert found.pop(signer.busiest) == "wrong_hash"
    assert set(found.values()) == {"wrong_signature"}
