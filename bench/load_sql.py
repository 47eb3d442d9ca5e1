"""What PostgreSQL does through asyncpg without a ledger: COPY as the ceiling, hand-written transactions as the field.

`Copy` writes rows that the ledger wrote a second time, over one connection. That is the most that any append of such
rows can reach with one connection. `Sql` is how services usually keep a balance: lock the row, look, write it and
an audit row, commit (five round trips); or one conditional UPDATE that feeds the audit row's INSERT (one round trip).
All commits are durable. Statements are prepared on each connection before the window opens.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from bench.jobs import Copy, Load, Sql
from service.benching.pump import BenchError, Window, run_lanes
from service.benching.requests import account_names

COMMAND_TIMEOUT_SECONDS = 30.0
FUNDS = 10**12

CREATE_COPIES = (
    "create table if not exists copy_plain (like ledger.events including storage, primary key (partition, position))",
    "create table if not exists copy_indexed (like ledger.events including all)",
)
COPIED_ROWS = "select * from ledger.events where type in ('reserved', 'consumed') order by partition, position limit $1"
CREATE_SPENDING = (
    "create table spending_account (account text primary key, balance bigint not null)",
    """create table spending_audit (
        id bigint generated always as identity primary key,
        account text not null,
        idempotency_key text not null,
        amount bigint not null,
        balance bigint not null,
        recorded_at timestamptz not null default now(),
        unique (account, idempotency_key)
    )""",
)

SELECT_FOR_UPDATE = "select balance from spending_account where account = $1 for update"
UPDATE_BALANCE = "update spending_account set balance = $2 where account = $1"
INSERT_AUDIT = "insert into spending_audit (account, idempotency_key, amount, balance) values ($1, $2, $3, $4)"
CONDITIONAL = """
with spent as (
    update spending_account set balance = balance - $3 where account = $1 and balance >= $3 returning balance
)
insert into spending_audit (account, idempotency_key, amount, balance)
select $1, $2, -$3, balance from spent
returning balance"""

Spend = tuple[str, str]
Transaction = Callable[[Spend], Awaitable[None]]


async def create_tables(database_url: str, accounts: int) -> None:
    """Makes the tables of hand-written spending and funds the accounts."""
    connection = await asyncpg.connect(database_url, command_timeout=COMMAND_TIMEOUT_SECONDS)
    try:
        for statement in CREATE_SPENDING:
            await connection.execute(statement)
        await connection.copy_records_to_table(
            "spending_account",
            records=[(account, FUNDS) for account in account_names(accounts)],
            columns=("account", "balance"),
        )
        await connection.execute("vacuum analyze")
    finally:
        await connection.close()


async def create_copies(database_url: str) -> None:
    """Makes the tables that rows of the log are copied into: with its primary key only, and with all its indexes."""
    connection = await asyncpg.connect(database_url, command_timeout=COMMAND_TIMEOUT_SECONDS)
    try:
        for statement in CREATE_COPIES:
            await connection.execute(statement)
    finally:
        await connection.close()


async def copy(job: Copy) -> Window:
    """Times one COPY of rows that the ledger wrote, from the call to the answer to its commit."""
    connection = await asyncpg.connect(job.database_url, command_timeout=COMMAND_TIMEOUT_SECONDS)
    try:
        rows = await connection.fetch(COPIED_ROWS, job.rows)
        if len(rows) < job.rows:
            raise BenchError(f"the log has {len(rows)} rows to copy, not {job.rows}")
        columns, records = list(rows[0].keys()), [tuple(row) for row in rows]
        await connection.execute(f"truncate table {job.table}")
        began_at = perf_counter()
        answer = await connection.copy_records_to_table(job.table, records=records, columns=columns)
        seconds = perf_counter() - began_at
    finally:
        await connection.close()
    if answer != f"COPY {job.rows}":
        raise BenchError(f"copied something else than {job.rows} rows: {answer}")
    return Window(per_second=job.rows / seconds, counted=job.rows, acknowledged=job.rows, seconds=seconds)


async def spend(job: Sql) -> Window:
    """Runs one round of spending with a connection for each lane."""
    load = job.load
    prepare = naive if job.style == "naive" else conditional
    pump = load.pump(spends(load))
    connections = await asyncio.gather(
        *(asyncpg.connect(job.database_url, command_timeout=COMMAND_TIMEOUT_SECONDS) for _ in range(load.in_flight))
    )
    try:
        transactions = await asyncio.gather(*(prepare(connection) for connection in connections))
        return await run_lanes(pump, transactions)
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))


def spends(load: Load) -> list[tuple[Spend, Spend]]:
    """Two transactions for each drawn pair, so that keys and accounts are as in the ledger's scenarios."""
    return [((account, f"{id_}-reserve"), (account, f"{id_}-consume")) for account, id_ in load.draw()]


async def naive(connection: asyncpg.Connection) -> Transaction:
    """BEGIN, SELECT FOR UPDATE, check, UPDATE, INSERT, COMMIT."""
    look: PreparedStatement = await connection.prepare(SELECT_FOR_UPDATE)
    move: PreparedStatement = await connection.prepare(UPDATE_BALANCE)
    note: PreparedStatement = await connection.prepare(INSERT_AUDIT)

    async def transaction(request: Spend) -> None:
        account, key = request
        async with connection.transaction():
            balance = await look.fetchval(account)
            if balance is None or balance < 1:
                raise BenchError(f"{account} has no funds")
            await move.fetch(account, balance - 1)
            await note.fetch(account, key, -1, balance - 1)

    return transaction


async def conditional(connection: asyncpg.Connection) -> Transaction:
    """One statement that checks, spends and writes the audit row."""
    statement: PreparedStatement = await connection.prepare(CONDITIONAL)

    async def transaction(request: Spend) -> None:
        if await statement.fetchval(*request, 1) is None:
            raise BenchError(f"{request[0]} has no funds")

    return transaction
