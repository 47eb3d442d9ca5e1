"""The log in PostgreSQL: one call that appends, and the reads that writers and auditors need.

`append` is a compare-and-set of a partition's head; it answers `Written`, `Stale` or `KnownKeys` and raises only for an
outage. An outage leaves the outcome open: the same batch may be sent again at the same head, because it can be written
there at most once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import asyncpg

from events.account import Key
from events.instants import Instant, instant, moment
from service.outages import Unavailable
from service.store.appending import Appender, nothing
from service.store.batches import Appended, Batch, Head
from service.store.refusing import BROKEN, REFUSED, Reasons, words
from service.store.statements import statements

_SQL = statements("log.sql")

CONNECTIONS = 8
COMMAND_TIMEOUT_SECONDS = 10.0
NO_LEDGER = "the database has no ledger; run `credit-ledger migrate`"
if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Lent = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]


class Loaded(NamedTuple):
    """One row of `load`; `due_at` stands on rows of what `next_due`."""

    what: Literal["account", "item", "next_due"]
    account: str
    kind: str
    id: str
    state: bytes
    due_at: Instant | None


class StoredLine(NamedTuple):
    """A line as it stands in the log, and its hash in hex."""

    line: bytes
    hash: str


def _moment(at: Instant | None) -> datetime | None:
    return None if at is None else moment(at)


async def _reset_nothing(_connection: object) -> None:
    """Reset nothing between two uses: every statement stands alone, and a reset would cost a round trip each."""


class Log:
    """The ledger's database as its application sees it."""

    def __init__(self, pool: Pool, kept_max: int) -> None:
        self._pool = pool
        self._kept: list[Lent] = []
        """At hand for appends: to borrow a connection and give it back costs as much as a short append."""
        self._kept_max = kept_max
        self._reasons = Reasons()
        self._trouble: str | None = None
        self._appender = Appender(self._appending)

    @classmethod
    async def connect(cls, database_url: str, *, connections: int = CONNECTIONS) -> Log:
        """Connect as the application's role; raises Unavailable, and LookupError when the server has no ledger."""
        try:
            pool = await asyncpg.create_pool(
                database_url,
                min_size=1,
                max_size=connections,
                command_timeout=COMMAND_TIMEOUT_SECONDS,
                timeout=5,
                reset=_reset_nothing,
                server_settings={"role": "credit_ledger_app", "application_name": "credit-ledger", "jit": "off"},
            )
        except BROKEN as error:
            raise Unavailable("the database cannot be reached") from error
        except asyncpg.InvalidParameterValueError as error:  # no ledger was ever migrated here, so there is no role
            raise LookupError(NO_LEDGER) from error
        return cls(pool, connections // 2)

    async def close(self) -> None:
        """Close all connections, waiting a moment for what runs."""
        try:
            async with asyncio.timeout(5):
                await self._let_go()
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Lend a connection; an outage inside becomes Unavailable, and its outcome is open."""
        async with self._outages(), self._pool.acquire(timeout=5) as connection:
            yield cast("Connection", connection)

    @asynccontextmanager
    async def _appending(self) -> AsyncGenerator[Connection]:
        """Lend a connection that stays at hand for the next append, unless it fails."""
        try:
            async with self._outages():
                connection = self._kept.pop() if self._kept else await self._pool.acquire(timeout=5)
                try:
                    yield cast("Connection", connection)
                except BaseException:
                    await self._pool.release(connection)
                    raise
                await self._keep(connection)
        except Unavailable as outage:
            self._trouble = outage.detail
            raise
        self._trouble = None

    async def _keep(self, connection: Lent) -> None:
        """Keep a connection at hand, or give it back when there are enough."""
        if len(self._kept) < self._kept_max:
            self._kept.append(connection)
        else:
            await self._pool.release(connection)

    def alarm(self) -> str | None:
        """Return what kept the last append from being made, None when it was made: a full disk, say, refuses nothing else."""
        return None if self._trouble is None else f"the last command could not be written: {self._trouble}"

    async def _let_go(self) -> None:
        while self._kept:
            await self._pool.release(self._kept.pop())

    @asynccontextmanager
    async def _outages(self) -> AsyncGenerator[None]:
        """Let errors that mean "not now" be Unavailable, and trust no connection to a server that became read-only."""
        try:
            yield
        except (*BROKEN, *REFUSED) as error:
            self._reasons.tell(error)
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                await self._let_go()
                await self._pool.expire_connections()
            raise Unavailable(words(error)) from error

    async def identity(self) -> tuple[str, int]:
        """Return the ledger's id and its number of partitions."""
        try:
            async with self.connection() as connection:
                row = await connection.fetchrow(_SQL["identity"])
        except Unavailable as outage:
            if not isinstance(outage.__cause__, asyncpg.UndefinedTableError):
                raise
            row = None
        if row is None:
            raise LookupError(NO_LEDGER)
        return row["id"], row["partitions"]

    async def clock(self) -> Instant:
        """Return the instant on the database's clock."""
        async with self.connection() as connection:
            return instant(await connection.fetchval(_SQL["clock"]))

    async def writable(self) -> None:
        """Return when a batch could be appended; raises Unavailable when none can, whatever may still be read.

        It appends nothing, for which the server looks at everything that an append needs but the room on its disk.
        """
        async with self.connection() as connection:
            await connection.fetchrow(_SQL["append"], *nothing())

    def append(self, batch: Batch) -> Awaitable[Appended]:
        """Append a batch if the head is the one it expects; awaited, it raises Unavailable (outcome open) and ClockSkew.

        The batch is on its way when this returns.
        """
        return self._appender.append(batch)

    async def head(self, partition: int) -> Head:
        """Return where a partition ends."""
        async with self.connection() as connection:
            row = await connection.fetchrow(_SQL["head"], partition)
        return _head(row)

    async def touched(self, partition: int, known: Head) -> tuple[Head, list[str] | None]:
        """Return the head, and the accounts whose events stand behind the head `known`; None when it is gone."""
        async with self.connection() as connection:
            row = await connection.fetchrow(_SQL["touched"], partition, known.position, bytes.fromhex(known.hash))
        return _head(row), list(row["accounts"]) if row and row["follows"] else None

    async def load(
        self, partition: int, accounts: Sequence[str], items: Sequence[tuple[str, Key]], due: dict[str, Instant]
    ) -> list[Loaded]:
        """Return what is stored of `accounts`, of single `items` (account, key), and of holds that are `due`."""
        until = max(due.values(), default=None)
        async with self.connection() as connection:
            rows = await connection.fetch(
                _SQL["load"],
                partition,
                list(accounts),
                [account for account, _ in items],
                [key[0] for _, key in items],
                [key[1] for _, key in items],
                list(due),
                _moment(until),
            )
        return [
            Loaded(
                row["what"],
                row["account"],
                row["kind"] or "",
                row["id"] or "",
                row["state"] or b"",
                None if row["due_at"] is None else instant(row["due_at"]),
            )
            for row in rows
        ]

    async def known_keys(self, partition: int, keys: Sequence[bytes]) -> tuple[Head, frozenset[bytes]]:
        """Return the head, and those of `keys` that the log has."""
        async with self.connection() as connection:
            row = await connection.fetchrow(_SQL["keys"], partition, keys)
        return _head(row), frozenset(row["keys"] if row else ())

    async def position_of_key(self, partition: int, key: bytes) -> int | None:
        """Return the position of a command's first event, or None when the log has no such key."""
        async with self.connection() as connection:
            return await connection.fetchval(_SQL["position_of_key"], partition, key)

    async def lines_from(self, partition: int, position: int, limit: int) -> list[StoredLine]:
        """Return up to `limit` lines of a partition, the first at `position`."""
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["lines_from"], partition, position, limit)
        return [StoredLine(row["line"], row["hash"].hex()) for row in rows]

    async def hash_at(self, partition: int, position: int) -> str | None:
        """Return the hash of the line at a position, or None behind the end."""
        async with self.connection() as connection:
            found = await connection.fetchval(_SQL["hash_at"], partition, position)
        return None if found is None else found.hex()

    async def account_lines(
        self, partition: int, account: str, *, after: int, until: Instant, limit: int
    ) -> list[tuple[int, StoredLine]]:
        """Return an account's lines behind position `after` that were recorded until `until`, oldest first."""
        async with self.connection() as connection:
            rows = await connection.fetch(
                _SQL["account_lines_forward"], partition, account, after, moment(until), limit
            )
        return [(row["position"], StoredLine(row["line"], row["hash"].hex())) for row in rows]

    async def snapshots(self, accounts: Sequence[tuple[int, str]]) -> dict[str, bytes]:
        """Return the snapshots of accounts, each named with its partition; unknown ones are left out."""
        async with self.connection() as connection:
            rows = await connection.fetch(
                _SQL["snapshots"], [partition for partition, _ in accounts], [account for _, account in accounts]
            )
        return {row["account"]: row["state"] for row in rows}


def _head(row: asyncpg.Record | None) -> Head:
    if row is None:
        raise LookupError("the partition has no head; run `credit-ledger migrate`")
    return Head(row["position"], row["hash"].hex(), instant(row["recorded_at"]))
