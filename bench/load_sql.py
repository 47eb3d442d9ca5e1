"""What PostgreSQL does through asyncpg without a ledger: COPY as the ceiling, hand-written transactions as the field.

`Copy` writes rows of the shape of the ledger's `events` over one connection. That is the most that any append of such
rows can reach with one connection. `Sql` is how services usually keep a balance: lock the row, look, write it and
an audit row, commit (five round trips); or one conditional UPDATE that feeds the audit row's INSERT (one round trip).
All commits are durable. Statements are prepared on each connection before the window opens.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from time import perf_counter

import asyncpg
import orjson
from asyncpg.prepared_stmt import PreparedStatement

from bench.jobs import Copy, Load, Sql, account_name, accounts_to_open
from bench.measure import BenchError, Pump, Window, run_lanes

PARTITIONS = 16
COMMAND_TIMEOUT_SECONDS = 30.0
FUNDS = 10**12
EVENT_COLUMNS = ("partition", "position", "account", "type", "kind", "recorded_at", "key", "line", "hash")

CREATE_EVENTS = """
create table {table} (
    partition integer not null,
    position bigint not null,
    account text not null,
    type text not null,
    kind text not null,
    recorded_at timestamptz not null,
    key bytea,
    line bytea not null,
    hash bytea not null,
    primary key (partition, position)
);
alter table {table} alter column line set storage external"""
INDEX_EVENTS = (
    "create index on copy_indexed (partition, account, position)",
    "create unique index on copy_indexed (partition, key) where key is not null",
)
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

Row = tuple[int, int, str, str, str, datetime, bytes, bytes, bytes]
Spend = tuple[str, str]
Transaction = Callable[[Spend], Awaitable[None]]


async def create_tables(database_url: str, accounts: int) -> None:
    """Makes the tables of all SQL baselines and funds the accounts."""
    connection = await asyncpg.connect(database_url, command_timeout=COMMAND_TIMEOUT_SECONDS)
    try:
        for table in ("copy_indexed", "copy_plain"):
            await connection.execute(CREATE_EVENTS.format(table=table))
        for statement in (*INDEX_EVENTS, *CREATE_SPENDING):
            await connection.execute(statement)
        await connection.copy_records_to_table(
            "spending_account",
            records=[(account, FUNDS) for account in accounts_to_open(accounts)],
            columns=("account", "balance"),
        )
        await connection.execute("vacuum analyze")
    finally:
        await connection.close()


async def copy(job: Copy) -> Window:
    """Times one COPY, from the call to the answer to its commit."""
    rows = event_rows(job.rows, job.first)
    connection = await asyncpg.connect(job.database_url, command_timeout=COMMAND_TIMEOUT_SECONDS)
    try:
        began_at = perf_counter()
        answer = await connection.copy_records_to_table(job.table, records=rows, columns=EVENT_COLUMNS)
        seconds = perf_counter() - began_at
    finally:
        await connection.close()
    if answer != f"COPY {job.rows}":
        raise BenchError(f"copied something else than {job.rows} rows: {answer}")
    return Window(per_second=job.rows / seconds, counted=job.rows, acknowledged=job.rows, seconds=seconds)


def event_rows(count: int, first: int) -> list[Row]:
    """Rows as the ledger writes them: a line of about 900 bytes that no compression would shrink to nothing."""
    draw = random.Random(first)
    start = datetime.now(UTC)
    rows: list[Row] = []
    previous = bytes(32)
    for number in range(count):
        partition, position = number % PARTITIONS, first + number // PARTITIONS
        account, moment = account_name(draw.randrange(10_000)), start + timedelta(microseconds=number)
        line = event_line(partition, position, account, moment, draw, previous)
        previous = hashlib.sha256(line).digest()
        key = draw.randbytes(16)
        rows.append((partition, position, account, "reserved", "hold", moment, key, line, previous))
    return rows


def event_line(
    partition: int, position: int, account: str, moment: datetime, draw: random.Random, previous: bytes
) -> bytes:
    """One line of the log of a `reserved/hold`, with its fields, lengths and amount of entropy."""
    instant = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    balance = {"available": draw.randrange(10**6), "debt": 0, "reserved": draw.randrange(100), "scheduled": 0}
    reservation = f"r-{draw.getrandbits(40):010x}"
    return orjson.dumps(
        {
            "account": account,
            "actor": {"id": "bench", "via": "nats"},
            "balance": {"credits": balance},
            "command": {
                "fingerprint": f"{draw.getrandbits(256):064x}",
                "idempotency_key": f"{reservation}-reserve",
                "name": "reserve",
            },
            "data": {
                "allocation": [{"amount": 5, "grant_id": f"g-{draw.getrandbits(32):08x}"}],
                "amount": 5,
                "expires_at": instant,
                "grace_seconds": 30,
                "lines": [{"amount": 5, "operation": "render", "quantity": 1}],
                "occupies": {},
                "overage": "draw",
                "price": {"base": "5", "catalog": "bench-1", "each": "0", "multipliers": {}, "per_1k": {}},
                "reservation_id": reservation,
                "unit": "credits",
            },
            "delta": {"credits": {"available": -5, "debt": 0, "reserved": 5, "scheduled": 0}},
            "effective_at": instant,
            "id": f"{partition}-{position}",
            "kind": "hold",
            "partition": partition,
            "position": position,
            "prev_hash": previous.hex(),
            "recorded_at": instant,
            "type": "reserved",
            "version": 1,
        }
    )


async def spend(job: Sql) -> Window:
    """Runs one round of spending with a connection for each lane."""
    load = job.load
    prepare = naive if job.style == "naive" else conditional
    pump = Pump[Spend](spends(load), load.in_flight, load.seconds)
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
