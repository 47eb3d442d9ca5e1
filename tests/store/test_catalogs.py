"""Catalogs in the database: a version never changes, the history only grows, and one is in force."""

import asyncio

import asyncpg
import pytest

from events.instants import just_before
from service import in_force as following
from service.store.catalogs import StoredCatalog, StoredCatalogs
from service.store.log import Log

ONE = StoredCatalog("1", "1" * 64, 'version = "1"')
TWO = StoredCatalog("2", "2" * 64, 'version = "2"')


@pytest.fixture
def stored(log: Log) -> StoredCatalogs:
    """The catalogs of the test's own database, none yet."""
    return StoredCatalogs(log)


async def in_force(stored: StoredCatalogs) -> str | None:
    """The version in force."""
    found = await stored.in_force()
    assert (await stored.newest()) == (None if found is None else found[0].number)
    return None if found is None else found[1].version


async def test_the_newest_activation_is_in_force_and_history_only_grows(stored: StoredCatalogs) -> None:
    assert await in_force(stored) is None
    assert await stored.activate(ONE, by="a", again=True) == "activated"
    assert await stored.activate(TWO, by="b", again=True) == "activated"
    assert await in_force(stored) == "2"
    assert await stored.activate(ONE, by="c", again=True) == "activated"
    assert await in_force(stored) == "1"
    history = await stored.history(10)
    assert [(row.number, row.version, row.by) for row in history] == [(3, "1", "c"), (2, "2", "b"), (1, "1", "a")]
    assert sorted(row.activated_at for row in history) == [row.activated_at for row in reversed(history)]
    assert await stored.stored("2") == TWO


async def test_activating_what_is_in_force_writes_nothing(stored: StoredCatalogs) -> None:
    await stored.activate(ONE, by="a", again=True)
    assert await stored.activate(ONE, by="a", again=True) == "in_force"
    assert await stored.activate(ONE, by="a", again=False) == "in_force"
    assert len(await stored.history(10)) == 1


async def test_a_start_brings_a_new_catalog_into_force_and_an_old_one_not_back(stored: StoredCatalogs) -> None:
    assert await stored.activate(ONE, by="start", again=False) == "activated"
    assert await stored.activate(TWO, by="start", again=False) == "activated"
    assert await stored.activate(ONE, by="start", again=False) == "known"
    assert await in_force(stored) == "2"


@pytest.mark.parametrize("again", [True, False])
async def test_a_version_whose_content_changed_is_refused_and_nothing_is_written(
    stored: StoredCatalogs, again: bool
) -> None:
    await stored.activate(ONE, by="a", again=True)
    await stored.activate(TWO, by="a", again=True)
    changed = ONE._replace(hash="f" * 64, source="other")
    assert await stored.activate(changed, by="a", again=again) == "changed"
    assert await stored.stored("1") == ONE
    assert await in_force(stored) == "2"


async def test_activations_at_once_are_one_after_the_other(stored: StoredCatalogs) -> None:
    catalogs = [StoredCatalog(str(n), f"{n:064x}", "") for n in range(20)]
    assert set(await asyncio.gather(*(stored.activate(one, by="a", again=True) for one in catalogs))) == {"activated"}
    assert [row.number for row in await stored.history(100)] == list(range(20, 0, -1))


@pytest.mark.parametrize("table", ["catalogs", "activations"])
async def test_not_even_the_superuser_rewrites_the_history(
    stored: StoredCatalogs, database_url: str, table: str
) -> None:
    await stored.activate(ONE, by="a", again=True)
    connection = await asyncpg.connect(database_url)
    try:
        for rewrite in (f"UPDATE ledger.{table} SET hash = hash", f"DELETE FROM ledger.{table}"):
            with pytest.raises(asyncpg.RestrictViolationError, match=f"ledger.{table} is append-only"):
                await connection.execute(rewrite)
    finally:
        await connection.close()


async def test_what_was_in_force_when_is_known_from_the_history(stored: StoredCatalogs) -> None:
    """A catalog that this release cannot read is passed over: the one before it counts."""
    for each in (ONE, TWO, StoredCatalog("3", "3" * 64, "plans = 7"), ONE):
        await stored.activate(each, by="a", again=True)
    past = [at for at, _ in reversed(await stored.past(10))]
    _, present, history = await following.in_force(stored)
    assert present.version == "1"
    versions = [history.at(at, present).version for at in (just_before(past[0]), *past)]
    assert versions == ["1", "1", "2", "2", "1"]
    assert history.next_after(past[0]) == past[1]
