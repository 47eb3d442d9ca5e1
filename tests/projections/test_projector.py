"""Laws of the projector: each event is in each projection exactly once, whatever is killed, repeated or built again."""

import asyncio
from random import Random

import asyncpg
import pytest

from service.ledger import Ledger
from service.projection_commands import rebuild
from service.projector import Projector
from service.store.log import Log
from service.store.projected import PROJECTIONS
from service.store.projecting import FAR_LINES
from tests.servers import eventually, execute, value
from tests.writer.asking import accounts_of, ask
from tests.writer.load import crowd, work_through

NAMES = sorted(PROJECTIONS)


async def history(ledger: Ledger, *, commands: int = 40, seed: int = 0) -> None:
    """Some history in accounts of two partitions."""
    accounts = [*accounts_of(3, 3), *accounts_of(5, 2)]
    await work_through([ledger], crowd(6, accounts, seed=seed, name=f"s{seed}-"), commands)


async def projected(log: Log, *, batch_lines_max: int = 500) -> Projector:
    """A projector that has caught up."""
    projector = Projector(log, batch_lines_max=batch_lines_max)
    await projector.store.register()
    await projector.catch_up()
    return projector


async def test_what_is_built_again_says_what_was_there(ledger: Ledger, readers: Log) -> None:
    await history(ledger)
    await projected(readers, batch_lines_max=7)
    await history(ledger, seed=1)
    await projected(readers, batch_lines_max=100)
    assert await rebuild(readers, NAMES) == []
    generations = await Projector(readers).store.generations()
    assert {(each.name, each.generation) for each in generations if each.is_current} == {(name, 2) for name in NAMES}


async def test_what_is_read_goes_on_while_somebody_is_at_a_generation_far_behind(
    ledger: Ledger, readers: Log, database_url: str
) -> None:
    account = accounts_of(3, 1)[0]
    for number in range(FAR_LINES):
        await ledger.execute(ask("consume", account, amount=1, consumption_id=f"c{number}"))
    projector = await projected(readers)
    await projector.builder.replacing.rebuild("usage")
    builder = await asyncpg.connect(database_url)
    await builder.execute("begin")
    await builder.execute("select from projections.checkpoints where name = 'usage' and generation = 2 for update")
    await ledger.execute(ask("consume", account, amount=1))
    assert await asyncio.wait_for(projector.project(), 5) == 1
    assert await projector.builder.build() == 0
    await builder.close()
    await projector.catch_up()
    generations = await projector.store.generations()
    assert [each.generation for each in generations if each.name == "usage" and each.is_current] == [2]
    assert [each.differs for each in generations if each.name == "usage" and each.is_current] == [False]


async def test_any_text_comes_through_as_it_is(ledger: Ledger, readers: Log, database_url: str) -> None:
    references = ["a\tb", "a\nb", "a\\nb", "a\rb", "\\.", "\\N", "ü \u2028"]
    for reference in references:
        await ledger.execute(ask("consume", "a", amount=1, reference=reference))
    await projected(readers)
    terms = await value(database_url, "select array_agg(term) from projections.history where term like 'reference/%'")
    assert sorted(terms) == sorted(f"reference/{reference}" for reference in references)  # type: ignore[call-overload]  # a list
    assert await rebuild(readers, NAMES) == []


async def test_a_row_that_was_changed_is_found_and_replaced(ledger: Ledger, readers: Log, database_url: str) -> None:
    await history(ledger)
    await projected(readers)
    await execute(database_url, "update projections.usage set used = used + 1 where account <> ''")
    assert await rebuild(readers, NAMES) == ["usage"]
    assert await rebuild(readers, NAMES) == []


async def test_what_was_replaced_is_thrown_away(ledger: Ledger, readers: Log, database_url: str) -> None:
    await history(ledger)
    projector = await projected(readers)
    await rebuild(readers, ["history"])
    await projector.builder.switch()
    await projector.builder.switch()
    assert await value(database_url, "select array_agg(distinct generation) from projections.history") == [2]
    assert await value(database_url, "select count(*) from projections.checkpoints where name = 'history'") == 16


async def test_projectors_that_are_killed_again_and_again_add_every_event_once(ledger: Ledger, readers: Log) -> None:
    random = Random(1)
    await Projector(readers).store.register()

    async def write() -> None:
        for seed in range(4):
            await history(ledger, commands=15, seed=seed)

    async def killed() -> None:
        while not writing.done():
            task = asyncio.create_task(Projector(readers, batch_lines_max=random.randint(1, 20)).project())
            await asyncio.wait({task, writing}, timeout=random.random() / 30, return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
            await asyncio.wait({task})

    writing = asyncio.create_task(write())
    await asyncio.gather(writing, killed(), killed())
    await projected(readers)
    assert await rebuild(readers, NAMES) == []


async def test_a_gap_in_the_log_stops_its_partition_and_no_other(
    ledger: Ledger, readers: Log, database_url: str
) -> None:
    await history(ledger)
    await execute(
        database_url,
        "alter table ledger.events disable trigger append_only;"
        "delete from ledger.events where partition = 3 and position = 5;"
        "alter table ledger.events enable always trigger append_only;",
    )
    projector = await projected(readers)
    assert list(projector.stopped) == [3]
    assert "position 5 was expected" in projector.stopped[3]
    reached = {lag.partition: lag.events for lag in await projector.store.lag() if lag.name == "usage"}
    assert reached[3] > 0
    assert reached[5] == 0


async def test_a_log_that_ends_before_the_projections_stops_its_partition(
    ledger: Ledger, readers: Log, database_url: str
) -> None:
    await history(ledger, commands=5)
    await projected(readers)
    await execute(database_url, "update ledger.heads set position = position - 1 where partition = 3")
    await execute(database_url, "update projections.checkpoints set position = position + 2 where partition = 3")
    projector = await projected(readers)
    assert list(projector.stopped) == [3]


async def test_a_commit_wakes_the_projector(ledger: Ledger, readers: Log) -> None:
    projector = Projector(readers, poll_seconds=3600)
    ledger.followers.append(lambda _partition, _position: projector.wake())
    projector.start()
    await ledger.execute(ask("consume", "a", amount=1))
    partition = ledger.partition("a")

    async def seen() -> bool:
        return [lag.events for lag in await projector.store.lag() if lag.partition == partition] == [0] * len(NAMES)

    await eventually(seen, "the projections have what was written")
    await projector.stop()


@pytest.mark.parametrize("table", ["generations", "checkpoints", "history", "usage", "finance", "accounts"])
async def test_the_application_may_write_projections_and_never_the_log(readers: Log, table: str) -> None:
    async with readers.connection() as connection:
        statement = {  # spelled out, for SQL is never put together
            "generations": "truncate projections.generations",
            "checkpoints": "truncate projections.checkpoints",
            "history": "truncate projections.history",
            "usage": "truncate projections.usage",
            "finance": "truncate projections.finance",
            "accounts": "truncate projections.accounts",
        }[table]
        await connection.execute(statement)
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute("truncate ledger.events")
