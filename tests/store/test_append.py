"""`ledger.append` compares and sets a head: it writes all of a batch where the writer thinks it does, or nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from events.instants import Instant, instant
from service.outages import ClockSkew
from service.store.batches import AccountRow, Batch, Head, KnownItems, KnownKeys, Stale, Written
from service.store.log import Log
from tests.servers import execute
from tests.store.batches import PARTITION, START, after, ago, batch, item, lines

WRITTEN = Written(frozenset())
KEY, OTHER_KEY = b"k" * 16, b"o" * 16
TABLES = ("heads", "events", "accounts", "items")


async def stored(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Everything that the ledger's tables hold."""
    connection = await asyncpg.connect(url)
    try:
        rows = {name: await connection.fetch(f"SELECT * FROM ledger.{name} ORDER BY 1, 2, 3") for name in TABLES}
        return {name: [tuple(row) for row in found] for name, found in rows.items()}
    finally:
        await connection.close()


def whole_batch(head: Head = START, **changes: Any) -> Batch:
    """A batch that touches all four tables."""
    full = batch(
        head,
        events=lines(head.position, 3, keys=[KEY]),
        accounts=[AccountRow("a", head.position + 3, b"{}", None)],
        items=[item("new", b"1", created=True), item("changed", b"1", created=False)],
    )
    return replace(full, **changes)


async def test_a_batch_is_written_at_the_head_that_it_expects(log: Log, database_url: str) -> None:
    first = whole_batch()
    assert await log.append(first) == WRITTEN
    assert await log.head(PARTITION) == after(first)
    second = batch(after(first))
    assert await log.append(second) == WRITTEN
    found = await stored(database_url)
    assert [row[1] for row in found["events"]] == [1, 2, 3, 4]
    assert [row[7] for row in found["events"]] == [event.line for event in (*first.events, *second.events)]
    assert {row[5] for row in found["events"]} == {datetime.fromisoformat(each.recorded_at) for each in (first, second)}
    assert len(found["accounts"]) == 1
    assert len(found["items"]) == 2


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(lambda head: head._replace(position=head.position - 1), id="an earlier position"),
        pytest.param(lambda head: head._replace(position=head.position + 1), id="a later position"),
        pytest.param(lambda head: head._replace(hash="ab" * 32), id="another hash at the same position"),
        pytest.param(lambda _: START, id="the beginning"),
    ],
)
async def test_a_batch_at_another_head_is_stale_and_writes_nothing(
    log: Log, database_url: str, head: Callable[[Head], Head]
) -> None:
    first = whole_batch()
    await log.append(first)
    before = await stored(database_url)
    assert await log.append(batch(head(after(first)), recorded_at=first.recorded_at)) == Stale()
    assert await stored(database_url) == before


async def test_a_batch_recorded_before_the_head_is_stale_and_writes_nothing(log: Log, database_url: str) -> None:
    first = batch()
    await log.append(first)
    before = await stored(database_url)
    earlier = instant(datetime.fromisoformat(first.recorded_at) - timedelta(microseconds=1))
    assert await log.append(batch(after(first), recorded_at=earlier)) == Stale()
    assert await stored(database_url) == before
    assert await log.append(batch(after(first), recorded_at=first.recorded_at)) == WRITTEN, "the same instant is fine"


async def test_a_batch_for_a_partition_that_does_not_exist_writes_nothing(log: Log, database_url: str) -> None:
    before = await stored(database_url)
    assert await log.append(batch(partition=16)) == Stale()
    assert await stored(database_url) == before


async def test_the_same_batch_twice_is_written_once(log: Log, database_url: str) -> None:
    first = whole_batch()
    assert await log.append(first) == WRITTEN
    before = await stored(database_url)
    assert await log.append(first) == Stale()
    assert await stored(database_url) == before


async def test_of_many_batches_at_one_head_one_is_written(log: Log, database_url: str) -> None:
    batches = [batch(events=lines(number * 10, 2)) for number in range(20)]
    results = await asyncio.gather(*(log.append(each) for each in batches))
    assert results.count(WRITTEN) == 1
    assert results.count(Stale()) == 19
    winner = batches[results.index(WRITTEN)]
    assert [row[7] for row in (await stored(database_url))["events"]] == [event.line for event in winner.events]


async def test_partitions_do_not_know_each_other(log: Log, database_url: str) -> None:
    """The same keys, accounts and items may stand in each."""
    for partition in (1, 2):
        assert await log.append(whole_batch(partition=partition)) == WRITTEN
    assert [row[:2] for row in (await stored(database_url))["events"]] == [(p, n) for p in (1, 2) for n in (1, 2, 3)]


async def test_a_key_that_the_log_has_is_named_and_nothing_is_written(log: Log, database_url: str) -> None:
    first = whole_batch()
    await log.append(first)
    before = await stored(database_url)
    again = batch(
        after(first),
        events=lines(3, 2, keys=[OTHER_KEY, KEY]),
        accounts=[AccountRow("b", 5, b"{}", None)],
        items=[item("newer", b"1", created=True), item("changed", b"2", created=False)],
    )
    assert await log.append(again) == KnownKeys(frozenset({KEY}))
    assert await stored(database_url) == before


async def test_an_item_that_exists_is_not_created_again_and_nothing_is_written(log: Log, database_url: str) -> None:
    first = whole_batch()
    await log.append(first)
    before = await stored(database_url)
    for name in ("new", "changed"):
        again = batch(after(first), items=[item("newer", b"2", created=True), item(name, b"2", created=True)])
        assert await log.append(again) == KnownItems()
    assert await stored(database_url) == before


async def test_items_that_change_are_replaced(log: Log, database_url: str) -> None:
    first = whole_batch()
    await log.append(first)
    due = ago(-100)
    changed = [item("new", b"2", created=False, due_at=due), item("other", b"3", created=True)]
    assert await log.append(batch(after(first), items=changed)) == WRITTEN
    items = (await stored(database_url))["items"]
    assert {row[3]: (row[4], row[5]) for row in items} == {
        "new": (datetime.fromisoformat(due), b"2"),
        "changed": (None, b"1"),
        "other": (None, b"3"),
    }


async def test_the_keys_of_refused_commands_are_looked_up_on_the_way(log: Log) -> None:
    first = whole_batch()
    await log.append(first)
    second = batch(after(first), absent_keys=[KEY, OTHER_KEY])
    assert await log.append(second) == Written(frozenset({KEY}))
    assert await log.append(batch(after(second), absent_keys=[OTHER_KEY])) == WRITTEN


async def test_a_clock_more_than_5_s_ahead_is_refused_and_nothing_is_written(log: Log, database_url: str) -> None:
    before = await stored(database_url)
    with pytest.raises(ClockSkew):
        await log.append(whole_batch(recorded_at=ago(-7)))
    assert await stored(database_url) == before
    assert await log.append(whole_batch(recorded_at=ago(-3))) == WRITTEN


async def test_time_stands_still_where_the_head_is_ahead_of_a_clock_that_was_set_back(
    log: Log, database_url: str
) -> None:
    first = whole_batch(recorded_at=ago(1))
    assert await log.append(first) == WRITTEN
    ahead = ago(-3600)
    await execute(database_url, f"UPDATE ledger.heads SET recorded_at = '{ahead}' WHERE partition = {first.partition}")
    head = await log.head(first.partition)
    with pytest.raises(ClockSkew):
        await log.append(batch(head, recorded_at=ago(-3601)))
    assert await log.append(batch(head, recorded_at=ahead)) == WRITTEN


async def test_what_the_tables_refuse_is_an_error_and_nothing_is_written(log: Log, database_url: str) -> None:
    """Only what is expected is told as an outcome; a batch that makes no sense is a bug, and fails as a whole."""
    before = await stored(database_url)
    twice = [AccountRow("a", 1, b"{}", None), AccountRow("a", 1, b"{}", None)]
    with pytest.raises(asyncpg.CardinalityViolationError):
        await log.append(whole_batch(accounts=twice))
    assert await stored(database_url) == before


async def test_positions_that_are_taken_are_an_error(log: Log, database_url: str) -> None:
    """A head that was set back by hand: nothing is written over what stands there."""
    first = batch()
    await log.append(first)
    await execute(database_url, f"UPDATE ledger.heads SET position = 0, hash = '\\x{START.hash}'")
    with pytest.raises(asyncpg.UniqueViolationError):
        await log.append(batch(START, recorded_at=first.recorded_at))


NEXT_DUE = "SELECT next_due_at FROM ledger.accounts WHERE partition = $1 AND account = 'a'"


async def test_the_next_due_instant_is_only_made_earlier_until_it_passed(log: Log, database_url: str) -> None:
    at = [ago(1000 - 100 * number) for number in range(10)]
    head = START
    connection = await asyncpg.connect(database_url)

    async def kept(recorded_at: Instant, due_at: Instant | None) -> Instant | None:
        nonlocal head
        appended = batch(head, recorded_at=recorded_at, accounts=[AccountRow("a", head.position + 1, b"{}", due_at)])
        assert await log.append(appended) == WRITTEN
        head = after(appended)
        found = await connection.fetchval(NEXT_DUE, PARTITION)
        return None if found is None else instant(found)

    assert await kept(at[0], None) is None
    assert await kept(at[0], at[5]) == at[5], "it appears"
    assert await kept(at[1], at[7]) == at[5], "it is not moved back before it passed"
    assert await kept(at[1], None) == at[5], "nor taken away"
    assert await kept(at[1], at[3]) == at[3], "it is made earlier"
    assert await kept(at[2], at[8]) == at[3], "and kept"
    assert await kept(at[3], at[8]) == at[8], "it passed, in the very instant"
    assert await kept(at[9], None) is None, "it passed, and nothing is due any more"
    await connection.close()


async def test_batches_of_several_partitions_share_a_statement_and_one_that_is_stale_stops_no_other(
    log: Log, database_url: str
) -> None:
    before = batch(partition=2)
    assert await log.append(before) == WRITTEN
    batches = [batch(partition=partition) for partition in (1, 2, 3)]
    batches[2] = whole_batch(partition=3)
    waiting = asyncio.ensure_future(log.append(batch(partition=4)))
    results = await asyncio.gather(*(log.append(each) for each in batches))
    assert results == [WRITTEN, Stale(), WRITTEN]
    assert await waiting == WRITTEN
    found = await stored(database_url)
    assert [row[:2] for row in found["events"]] == [(1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (4, 1)]
    assert {row[0] for row in found["items"]} == {3}


async def test_of_many_batches_at_once_each_learns_of_its_own_keys(log: Log) -> None:
    for partition in (1, 3):
        assert (
            await log.append(batch(partition=partition, events=lines(0, 1, keys=[bytes([partition]) * 16]))) == WRITTEN
        )
    heads = {partition: await log.head(partition) for partition in range(1, 9)}
    batches = [
        batch(heads[partition], partition=partition, events=lines(heads[partition].position, 1), absent_keys=[key])
        for partition in heads
        for key in [bytes([partition]) * 16]
    ]
    results = await asyncio.gather(*(log.append(each) for each in batches))
    assert results == [
        Written(frozenset({bytes([partition]) * 16} if partition in (1, 3) else ())) for partition in heads
    ]


async def test_an_item_may_have_any_id(log: Log, database_url: str) -> None:
    names = ["one\nof two lines", "\n", "other,\x1f\t\\n", "é"]
    assert await log.append(batch(items=[item(name, b"1", created=True) for name in names])) == WRITTEN
    assert {row[3] for row in (await stored(database_url))["items"]} == set(names)
