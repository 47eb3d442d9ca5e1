"""Migrations: once each, in order, noticed when they were changed, and never two at a time."""

import asyncio
from itertools import count

import asyncpg
import pytest

from service.store import migrate as migrations
from service.store.log import Log
from service.store.migrate import Migration, MigrationError, available, compare, migrate
from tests.servers import create_database, execute, value

_numbers = count(1)

ALL = [migration.name for migration in available()]


@pytest.fixture
async def empty_url(postgres_url: str) -> str:
    """A database without a ledger."""
    return await create_database(postgres_url, f"migrations_{next(_numbers)}")


async def fingerprint(url: str) -> object:
    """What a migration could have changed."""
    return await value(
        url,
        """SELECT jsonb_build_array(
            (SELECT jsonb_agg(to_jsonb(m) ORDER BY name) FROM ledger.migrations m),
            (SELECT jsonb_agg(to_jsonb(i)) FROM ledger.identity i),
            (SELECT jsonb_agg(to_jsonb(h) ORDER BY partition) FROM ledger.heads h),
            (SELECT jsonb_agg(relname ORDER BY relname) FROM pg_class WHERE relnamespace = 'ledger'::regnamespace))""",
    )


async def test_a_database_is_migrated_once_and_again_is_harmless(empty_url: str) -> None:
    assert await migrate(empty_url, 8) == ALL
    before = await fingerprint(empty_url)
    assert await migrate(empty_url, 8) == []
    assert await fingerprint(empty_url) == before
    assert await value(empty_url, "SELECT count(*) FROM ledger.heads WHERE position = 0") == 8


async def test_a_migration_that_was_changed_after_it_was_applied_is_refused(empty_url: str) -> None:
    await migrate(empty_url)
    await execute(empty_url, "UPDATE ledger.migrations SET checksum = repeat('0', 64)")
    with pytest.raises(MigrationError, match="was changed after it was applied"):
        await migrate(empty_url)


async def test_another_number_of_partitions_is_refused(empty_url: str) -> None:
    await migrate(empty_url, 8)
    before = await fingerprint(empty_url)
    with pytest.raises(MigrationError, match="LEDGER_PARTITIONS=8"):
        await migrate(empty_url, 16)
    assert await fingerprint(empty_url) == before


async def test_a_database_of_a_newer_release_is_refused(empty_url: str) -> None:
    await migrate(empty_url)
    await execute(empty_url, "INSERT INTO ledger.migrations VALUES ('9999_from_the_future.sql', 'x')")
    with pytest.raises(MigrationError, match=r"9999_from_the_future\.sql.*upgrade"):
        await migrate(empty_url)


async def test_a_release_knows_what_the_database_lacks_and_what_it_has_beyond(empty_url: str) -> None:
    first, *_, last = await migrate(empty_url)
    log = await Log.connect(empty_url)
    try:
        assert await compare(log) == ([], [])
        await execute(
            empty_url, f"UPDATE ledger.migrations SET name = '9999_from_the_future.sql' WHERE name = '{last}'"
        )
        await execute(empty_url, f"DELETE FROM ledger.migrations WHERE name = '{first}'")
        assert await compare(log) == ([first, last], ["9999_from_the_future.sql"])
    finally:
        await log.close()


async def test_two_migrations_at_once_are_one_after_the_other(empty_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_url) for _ in range(4)))
    assert sorted(applied) == [[], [], [], ALL]


async def test_a_migration_that_waits_for_a_lock_gives_up_and_says_so(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_SECONDS_MAX", 1)
    holder = await asyncpg.connect(empty_url)
    try:
        await holder.execute(migrations._SQL["lock"].replace("_xact", ""))
        with pytest.raises(MigrationError, match="held a lock"):
            await migrate(empty_url)
    finally:
        await holder.close()
    assert await migrate(empty_url)


async def test_databases_of_one_server_may_be_migrated_at_once(postgres_url: str) -> None:
    """The application's role is shared by all of them."""
    urls = [await create_database(postgres_url, f"migrations_{next(_numbers)}") for _ in range(4)]
    assert await asyncio.gather(*(migrate(url) for url in urls)) == [ALL] * 4


async def test_a_migration_that_fails_changes_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Migration("9000_broken.sql", "CREATE TABLE ledger.half (); SELECT 1 / 0;")
    with monkeypatch.context() as release:
        release.setattr(migrations, "available", lambda: [*available(), broken])
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(empty_url)
    assert await value(empty_url, "SELECT to_regnamespace('ledger')") is None
    assert await migrate(empty_url) == ALL


async def test_a_newer_release_applies_only_what_is_new(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(empty_url)
    newer = Migration("9000_newer.sql", "CREATE TABLE ledger.newer ();")
    monkeypatch.setattr(migrations, "available", lambda: [*available(), newer])
    assert await migrate(empty_url) == [newer.name]
    assert await migrate(empty_url) == []


@pytest.mark.usefixtures("_template")  # which made the application's role, for all databases of the server
async def test_a_database_without_a_ledger_says_so(empty_url: str) -> None:
    log = await Log.connect(empty_url)
    try:
        with pytest.raises(LookupError, match="credit-ledger migrate"):
            await log.identity()
    finally:
        await log.close()


@pytest.mark.usefixtures("_template")
async def test_a_server_without_a_ledger_says_so(empty_url: str) -> None:
    """There the application's role is missing too; for the length of this test it has another name."""
    await execute(empty_url, "ALTER ROLE credit_ledger_app RENAME TO credit_ledger_gone")
    try:
        with pytest.raises(LookupError, match="credit-ledger migrate"):
            await Log.connect(empty_url)
    finally:
        await execute(empty_url, "ALTER ROLE credit_ledger_gone RENAME TO credit_ledger_app")
