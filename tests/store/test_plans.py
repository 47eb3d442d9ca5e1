"""What runs for every batch finds its rows by their whole keys, also by a plan that was made when there were no rows."""

from datetime import UTC, datetime

from service.store.log import Log
from service.store.statements import statements

LOAD = statements("log.sql")["load"]


async def test_a_plan_of_an_empty_ledger_does_not_read_all_items_of_a_partition(log: Log) -> None:
    async with log.connection() as connection, connection.transaction():
        await connection.execute("set local plan_cache_mode = force_generic_plan")
        arguments = (3, ["a"], ["a"], ["work"], ["h"], ["a"], datetime.now(UTC))
        plan = [row[0].strip() for row in await connection.fetch(f"explain {LOAD}", *arguments)]
    conditions = [line for line in plan if line.startswith("Index Cond:")]
    assert len(conditions) == 4, plan
    assert all("account" in condition for condition in conditions), plan
    assert not [line for line in plan if "Seq Scan" in line or "Filter" in line], plan
