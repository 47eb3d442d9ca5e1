"""The log refuses to be rewritten, and the application may do nothing but read and append."""

from collections.abc import AsyncGenerator

import asyncpg
import pytest

from service.store.batches import Written
from service.store.log import Log
from tests.store.batches import batch

TABLES = ["identity", "heads", "events", "accounts", "items", "migrations", "catalogs", "activations"]
REWRITES = [
    "UPDATE ledger.events SET kind = 'x'",
    "UPDATE ledger.events SET kind = 'x' WHERE false",
    "DELETE FROM ledger.events",
    "TRUNCATE ledger.events",
    "TRUNCATE ledger.heads, ledger.events, ledger.accounts CASCADE",
    "MERGE INTO ledger.events e USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    "INSERT INTO ledger.events SELECT * FROM ledger.events ON CONFLICT (partition, position) DO UPDATE SET kind = 'x'",
]
OTHER_CHANGES = [
    "INSERT INTO ledger.{table} SELECT * FROM ledger.{table}",
    "DELETE FROM ledger.{table}",
    "TRUNCATE ledger.{table}",
    "ALTER TABLE ledger.{table} ADD COLUMN x int",
    "DROP TABLE ledger.{table}",
    "CREATE TRIGGER t BEFORE INSERT ON ledger.{table} FOR EACH ROW EXECUTE FUNCTION ledger.refuse_rewrite()",
]


@pytest.fixture
async def superuser(database_url: str, log: Log) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of the superuser to a log that has an event."""
    assert await log.append(batch()) == Written(frozenset())
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def application(
    superuser: "asyncpg.Connection[asyncpg.Record]",
) -> "asyncpg.Connection[asyncpg.Record]":
    """The same, as the application's role."""
    await superuser.execute("SET ROLE credit_ledger_app")
    return superuser


@pytest.mark.parametrize("replication", ["origin", "replica", "local"])
@pytest.mark.parametrize("rewrite", REWRITES)
async def test_not_even_the_superuser_rewrites_the_log(
    superuser: "asyncpg.Connection[asyncpg.Record]", rewrite: str, replication: str
) -> None:
    await superuser.execute(f"SET session_replication_role = {replication}")
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await superuser.execute(rewrite)


@pytest.mark.parametrize("rewrite", REWRITES)
async def test_the_application_may_not_rewrite_the_log(
    application: "asyncpg.Connection[asyncpg.Record]", rewrite: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.execute(rewrite)


@pytest.mark.parametrize("table", TABLES)
async def test_the_application_may_read_a_table_and_nothing_else(
    application: "asyncpg.Connection[asyncpg.Record]", table: str
) -> None:
    await application.fetch(f"SELECT * FROM ledger.{table}")
    columns = await application.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'ledger' AND table_name = $1", table
    )
    assert columns
    updates = [f"UPDATE ledger.{table} SET {row['column_name']} = {row['column_name']}" for row in columns]
    for change in [*updates, *(each.format(table=table) for each in OTHER_CHANGES)]:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await application.execute(change)


async def test_every_table_is_known_to_these_laws(superuser: "asyncpg.Connection[asyncpg.Record]") -> None:
    tables = await superuser.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'ledger'")
    assert {row["tablename"] for row in tables} >= set(TABLES)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE ledger.mine (x int)",
        "CREATE FUNCTION ledger.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TABLE public.mine (x int)",
        "CREATE SCHEMA mine",
        "DROP FUNCTION ledger.append",
        "ALTER FUNCTION ledger.append SECURITY INVOKER",
        "SET session_replication_role = replica",
        "ALTER TABLE ledger.events DISABLE TRIGGER append_only",
    ],
)
async def test_the_application_may_not_change_what_there_is(database_url: str, log: Log, change: str) -> None:
    """Not even for lack of a table that it could change: the role owns nothing and may create nothing."""
    async with log.connection() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(change)


async def test_the_application_is_not_the_owner_of_anything(superuser: "asyncpg.Connection[asyncpg.Record]") -> None:
    owned = (
        "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = 'credit_ledger_app'"
    )
    assert await superuser.fetchval(owned) == 0
    role = await superuser.fetchrow("SELECT * FROM pg_roles WHERE rolname = 'credit_ledger_app'")
    assert role is not None
    for right in ("rolsuper", "rolcreaterole", "rolcreatedb", "rolcanlogin", "rolreplication", "rolbypassrls"):
        assert role[right] is False, right


async def test_only_the_application_and_the_owner_may_append(superuser: "asyncpg.Connection[asyncpg.Record]") -> None:
    granted = """
        SELECT coalesce(r.rolname, 'public') AS name
        FROM pg_proc p, aclexplode(p.proacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE p.oid = 'ledger.append'::regproc AND a.privilege_type = 'EXECUTE'
    """
    assert {row["name"] for row in await superuser.fetch(granted)} == {"credit_ledger_app", "postgres"}


async def test_the_search_path_of_a_caller_changes_nothing(log: Log, database_url: str) -> None:
    """The append runs with the owner's rights, so a caller's own tables must never stand in for the ledger's."""
    async with log.connection() as connection:
        for table in ("heads", "events", "accounts", "items"):
            await connection.execute(f"CREATE TEMP TABLE {table} (LIKE ledger.{table})")
        await connection.execute("SET search_path = pg_temp")
    assert await log.append(batch()) == Written(frozenset())
    assert (await log.head(3)).position == 1
