"""What the sweeper asks of the database: which accounts have something due, and that a look may wait (migration 0003)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from events.instants import Instant, instant, moment
from service.store.log import Log
from service.store.statements import statements

_SQL = statements("sweeping.sql")


class DueAccount(NamedTuple):
    """An account in which something may be due since an instant."""

    partition: int
    account: str
    due_at: Instant


async def due_accounts(
    log: Log, partitions: Sequence[int], now: Instant, *, of_partition_max: int, without: Sequence[str]
) -> list[DueAccount]:
    """Return accounts in which something may be due at `now`, the longest due first; raises Unavailable."""
    async with log.connection() as connection:
        rows = await connection.fetch(_SQL["due"], partitions, moment(now), of_partition_max, without)
    return [DueAccount(row["partition"], row["account"], instant(row["next_due_at"])) for row in rows]


async def postpone(log: Log, partition: int, account: str, position: int, due_at: Instant | None) -> None:
    """Say when to look at an account again, unless something happened to it behind `position`; raises Unavailable."""
    async with log.connection() as connection:
        due = None if due_at is None else moment(due_at)
        await connection.execute(_SQL["postpone"], partition, [account], [position], [due])
