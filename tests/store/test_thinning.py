"""Checkpoints are kept: all of a day, then the last of each hour; nobody deletes more, and none is ever changed."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from events.instants import instant
from service.store.checkpoints import StoredCheckpoints, StoredNote
from service.store.log import Log

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC)
OLD = NOW.replace(minute=0, second=0, microsecond=0) - 30 * HOUR
TIMES = [
    *(OLD + n * HOUR / 4 for n in range(8)),  # 1 to 8: of two hours, the last are 4 and 8
    OLD + 2 * HOUR,  # 9: alone in its hour
    OLD + HOUR,  # 10: a clock was set back
    OLD + 3 * HOUR,  # 11
    *(NOW - n * HOUR / 60 for n in (3, 2, 1)),  # 12 to 14: of this day
]


@pytest.fixture
async def stored(log: Log) -> StoredCheckpoints:
    """Checkpoints of some times."""
    stored = StoredCheckpoints(log)
    for number, at in enumerate(TIMES, 1):
        assert await stored.add(StoredNote(number, f"note {number}"), instant(at), [])
    return stored


@pytest.fixture
async def superuser(database_url: str) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that may do everything."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def kept(stored: StoredCheckpoints) -> list[int]:
    return [each.number for each in await stored.after(0, 100)]


async def test_the_last_of_each_hour_and_all_of_a_day_are_kept(stored: StoredCheckpoints) -> None:
    assert [await stored.thin(2), await stored.thin(100), await stored.thin(100)] == [2, 4, 0]
    assert await kept(stored) == [4, 8, 9, 10, 11, 12, 13, 14]
    assert await stored.add(StoredNote(15, "note 15"), instant(NOW), [])
    assert not await stored.add(StoredNote(3, "again"), instant(NOW), [])
    assert (await stored.note(4), await stored.note(3)) == ("note 4", None)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        *((f"delete from ledger.checkpoints where number = {n}", "is kept") for n in (4, 8, 9, 10, 11, 13, 14)),
        ("delete from ledger.checkpoints", "is kept"),
        ("update ledger.checkpoints set note = 'x' where number = 1", "append-only"),
        ("truncate ledger.checkpoints", "append-only"),
    ],
)
async def test_not_even_the_superuser_deletes_more_or_changes_one(
    stored: StoredCheckpoints, superuser: "asyncpg.Connection[asyncpg.Record]", statement: str, says: str
) -> None:
    with pytest.raises(asyncpg.RestrictViolationError, match=says):
        await superuser.execute(statement)
    assert await kept(stored) == list(range(1, len(TIMES) + 1))


async def test_the_application_deletes_by_the_rule_only(stored: StoredCheckpoints, log: Log) -> None:
    async with log.connection() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("delete from ledger.checkpoints where number = 1")
    assert await kept(stored) == list(range(1, len(TIMES) + 1))
