"""Laws of the self-audit: it comes round the whole log, names what is wrong, and says when all is well again."""

from __future__ import annotations

import asyncpg

from service.auditor import Auditor
from service.store.log import Log
from service.telemetry.metrics import Metrics
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
