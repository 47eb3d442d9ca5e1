"""What sends alerts on asks of the database: numbers, deliveries, and how far the stream is (migration 0040)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from events.instants import Instant, instant, moment, plus
from service.store.log import Log
from service.store.statements import statements

_SQL = statements("outgoing.sql")
NUMBERED_AT_ONCE_MAX = 1000
HANDED_AT_ONCE_MAX = 500
FORGOTTEN_AT_ONCE_MAX = 1000

DeliveryState = Literal["pending", "delivered", "given_up"]


class Numbered(NamedTuple):
    """An alert with its place among all; `data` is its JSON."""

    id: str
    number: int
    kind: str
    account: str
    raised_at: Instant
    data: bytes


class Due(NamedTuple):
    """A delivery that was taken for an attempt: the how manieth it is, and since when it is tried."""

    attempt: int
    begun_at: Instant
    alert: Numbered


class Result(NamedTuple):
    """What became of an attempt: the status of the answer, or None with the error."""

    state: DeliveryState
    next_at: Instant
    at: Instant
    status: int | None
    error: str | None


class Delivery(NamedTuple):
    """A row of the log of deliveries."""

    endpoint: str
    alert: str
    state: DeliveryState
    attempts: int
    begun_at: Instant
    next_at: Instant
    last_at: Instant | None
    status: int | None
    error: str | None


class Waiting(NamedTuple):
    """How many wait, and since when the first one does."""

    number: int
    oldest: Instant | None


class Outgoing:
    """Alerts on their way out; every method raises Unavailable when the database is away."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def number(self) -> int:
        """Give numbers to alerts that have none, in the order in which they came about; returns how many."""
        async with self._log.connection() as connection:
            if not await connection.fetchval(_SQL["has_unnumbered"]):
                return 0
            async with connection.transaction():
                given = await connection.fetchval(_SQL["lock_numbers"])
                done = await connection.execute(_SQL["number"], given, NUMBERED_AT_ONCE_MAX)
                count = _count(done)
                await connection.execute(_SQL["note_given"], count)
                return count

    async def published(self) -> int:
        """Return the number up to which alerts are in the stream."""
        async with self._log.connection() as connection:
            return int(await connection.fetchval(_SQL["published"]))

    async def note_published(self, number: int) -> None:
        """Keep up to which number alerts are in the stream."""
        async with self._log.connection() as connection:
            await connection.execute(_SQL["note_published"], number)

    async def behind(self, number: int, limit: int) -> list[Numbered]:
        """Return the alerts behind a number, in their order."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["behind"], number, limit)
        return [
            Numbered(row["id"], row["number"], row["kind"], row["account"], instant(row["raised_at"]), row["data"])
            for row in rows
        ]

    async def unpublished(self) -> Waiting:
        """Return what is not in the stream yet."""
        async with self._log.connection() as connection:
            row = await connection.fetchrow(_SQL["unpublished"])
        return Waiting(0, None) if row is None else Waiting(row["waiting"], _instant(row["oldest"]))

    async def register(self, name: str, kinds: Sequence[str] | None, accounts: Sequence[str] | None) -> None:
        """Keep what a receiver wants to hear of; a new one hears what comes from now on."""
        async with self._log.connection() as connection:
            await connection.execute(_SQL["register"], name, kinds, accounts)

    async def hand(self, endpoint: str, now: Instant, *, age_seconds_max: int) -> int:
        """Make deliveries to a receiver of the next alerts; returns how many alerts were looked at."""
        async with self._log.connection() as connection:
            oldest = moment(plus(now, seconds=-age_seconds_max))
            return int(await connection.fetchval(_SQL["hand"], endpoint, moment(now), oldest, HANDED_AT_ONCE_MAX))

    async def claim(self, endpoint: str, now: Instant, until: Instant, limit: int) -> list[Due]:
        """Take deliveries that are due, for nobody else until an instant."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["claim"], endpoint, moment(now), moment(until), limit)
        found = [
            Due(
                row["attempts"],
                instant(row["begun_at"]),
                Numbered(
                    *(row["alert"], row["number"], row["kind"], row["account"]), instant(row["raised_at"]), row["data"]
                ),
            )
            for row in rows
        ]
        return sorted(found, key=lambda due: due.alert.number)

    async def settle(self, endpoint: str, due: Due, result: Result) -> None:
        """Keep what became of an attempt."""
        async with self._log.connection() as connection:
            await connection.execute(
                _SQL["settle"],
                *(endpoint, due.alert.id, result.state, moment(result.next_at), moment(result.at)),
                *(result.status, result.error, due.attempt),
            )

    async def hasten(self, endpoint: str, now: Instant) -> None:
        """Let everything that waits for a receiver be due."""
        async with self._log.connection() as connection:
            await connection.execute(_SQL["hasten"], endpoint, moment(now))

    async def backlog(self) -> dict[str, Waiting]:
        """Return what waits for each receiver."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["backlog"])
        return {row["endpoint"]: Waiting(row["waiting"], _instant(row["oldest"])) for row in rows}

    async def endpoints(self) -> list[str]:
        """Return the names of the receivers that were ever in the settings."""
        async with self._log.connection() as connection:
            return [row["name"] for row in await connection.fetch(_SQL["endpoints"])]

    async def deliveries(self, endpoint: str | None, state: str | None, limit: int) -> list[Delivery]:
        """Return the log of deliveries, the newest alert first."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["deliveries"], endpoint, state, limit)
        return [
            Delivery(
                *(row["endpoint"], row["alert"], row["state"], row["attempts"]),
                *(instant(row["begun_at"]), instant(row["next_at"]), _instant(row["last_at"])),
                *(row["status"], row["error"]),
            )
            for row in rows
        ]

    async def replay(self, now: Instant, endpoint: str | None, ids: Sequence[str], since: Instant | None) -> int:
        """Let alerts be sent again to a receiver, or to all: those of these ids and those since an instant."""
        async with self._log.connection() as connection:
            since_ = None if since is None else moment(since)
            return _count(await connection.execute(_SQL["replay"], moment(now), endpoint, ids, since_))

    async def forget(self, before: Instant) -> int:
        """Delete some of what was raised before an instant and is delivered; returns how many alerts."""
        async with self._log.connection() as connection:
            await connection.execute(_SQL["forget_deliveries"], moment(before), FORGOTTEN_AT_ONCE_MAX)
            return _count(await connection.execute(_SQL["forget_alerts"], moment(before), FORGOTTEN_AT_ONCE_MAX))


def _count(tag: str) -> int:
    """Return how many rows a statement touched, from its tag."""
    return int(tag.rpartition(" ")[2])


def _instant(at: object) -> Instant | None:
    return None if at is None else instant(at)  # type: ignore[arg-type]  # a timestamptz
