"""The double: a ledger's facade over books in memory, and a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from credit_ledger_client.ledger import Ledger
from credit_ledger_client.patience import Patience
from credit_ledger_client.testing.books import LEDGER_ID, Books, View, problem
from credit_ledger_client.testing.reading import answer
from credit_ledger_client.transport import Published, Reply, Request, Result, Start, Transport, Unanswered, Unreached
from events.catalog import Catalog, parse_catalog
from events.errors import CommandNotFound, Refusal
from events.instants import Instant, instant, moment
from events.recorded import Actor, Line

TURNS = 50
"""How often the loop goes round for those whom the clock woke, before time goes on."""
_ONE_ATTEMPT = Patience(seconds=1.0, attempt_seconds=1.0, pause_seconds=10.0, pause_seconds_max=10.0)
"""Here nothing gets better by waiting, and a test should not have to."""


class LedgerDouble(Ledger):
    """A ledger for tests: the same facade and rules, in memory.

    `catalog` is one, its TOML, or the path of its file. The clock begins at `now`, or at the present, and stands still.
    """

    def __init__(
        self, catalog: Catalog | str | Path, *, now: datetime | None = None, patience: Patience | None = None
    ) -> None:
        self._books = Books(_catalog(catalog), instant(now or datetime.now(UTC)))
        self._memory = Memory(self._books)
        super().__init__(self._memory, patience or _ONE_ATTEMPT)

    @property
    def now(self) -> datetime:
        """The instant at which commands and reads come."""
        return moment(self._books.now)

    @property
    def written(self) -> list[Line]:
        """Every event so far, as the lines of a log, oldest first."""
        return list(self._books.order)

    def activate(self, catalog: Catalog | str | Path) -> None:
        """Bring another catalog into force."""
        self._books.activate(_catalog(catalog))

    async def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0, to: datetime | None = None
    ) -> None:
        """Let time pass: holds are renewed or run out, grants end, periods turn, each at its instant."""
        step = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        await self._memory.advance(instant(to if to is not None else self.now + step))

    @contextmanager
    def away(self) -> Generator[None]:
        """Let the ledger be away: nothing reaches it."""
        yield from self._memory.broken("away")

    @contextmanager
    def losing_answers(self) -> Generator[None]:
        """Let commands be executed and their answers be lost, as when a connection breaks."""
        yield from self._memory.broken("mute")


def _catalog(given: Catalog | str | Path) -> Catalog:
    if isinstance(given, Catalog):
        return given
    return parse_catalog(given.read_text(encoding="utf-8") if isinstance(given, Path) else given)


class Memory(Transport):
    """Carries requests to books in memory; sleeping there takes until the books' clock was moved far enough."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._sleepers: list[tuple[Instant, asyncio.Future[None]]] = []
        self._results: list[Result] = []
        self._refused: dict[tuple[str, str], View] = {}
        """What durable commands were refused with, by account and key."""
        self._failure: str | None = None
        self._is_closed = False
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Nothing is to be opened but what was closed."""
        self._is_closed = False

    async def close(self) -> None:
        """Let go of those who wait for outcomes."""
        self._is_closed = True
        self._tell()

    def broken(self, how: str) -> Generator[None]:
        """Fail in one way for a while."""
        before, self._failure = self._failure, how
        try:
            yield
        finally:
            self._failure = before

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved so far."""
        until = instant(moment(self._books.now) + timedelta(seconds=seconds))
        sleeper = (until, asyncio.get_running_loop().create_future())
        self._sleepers.append(sleeper)
        try:
            if until > self._books.now:
                await sleeper[1]
        finally:
            self._sleepers.remove(sleeper)

    async def advance(self, target: Instant) -> None:
        """Move the clock, stopping wherever somebody wakes up or something is due; raises ValueError to go back."""
        if target < self._books.now:
            raise ValueError("time does not go back")
        await self._settle()  # who has just begun to sleep shall be known
        while (stop := self._next_stop()) is not None and stop <= target:
            self._books.now = max(stop, self._books.now)
            self._books.sweep()
            for until, sleeper in self._sleepers:
                if until <= self._books.now and not sleeper.done():
                    sleeper.set_result(None)
            await self._settle()
        self._books.now = target
        self._tell()

    def _next_stop(self) -> Instant | None:
        stops = [until for until, sleeper in self._sleepers if not sleeper.done()]
        due = self._books.next_due()
        return min([*stops, due] if due is not None else stops, default=None)

    async def _settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self._tell()

    def _tell(self) -> None:
        """Wake those who follow."""
        self._news.set()
        self._news = asyncio.Event()

    async def send(self, request: Request) -> Reply:
        """Execute at once; raises Unreached and Unanswered when the test wants it so."""
        if self._failure == "away":
            raise Unreached("the ledger is away")
        reply = self._executed(request)
        self._tell()
        if self._failure == "mute" and request.kind != "query":
            raise Unanswered("the answer was lost")
        return reply

    def _executed(self, request: Request) -> Reply:
        actor = Actor(id="double", via="test", on_behalf_of=request.on_behalf_of)
        fields, dry_run = request.fields, request.dry_run
        try:
            if request.kind == "query":
                status, view = answer(self._books, request.name, fields)
            elif request.kind == "batch":
                status, view = self._books.batch(fields, actor=actor, dry_run=dry_run)
            else:
                status, view = self._books.execute(request.name, fields, key=request.key, actor=actor, dry_run=dry_run)
        except CommandNotFound as unknown:
            told = self._refused.get((str(fields["account"]), str(fields["idempotency_key"])))
            is_asked = told is not None and "submitted_seconds_ago" in fields
            status, view = unknown.status, problem(unknown) | ({"refusal": told} if is_asked else {})
        except Refusal as refusal:
            status, view = refusal.status, problem(refusal)
        return Reply(status, orjson.dumps(view))

    async def submit(self, request: Request, message_id: str) -> None:  # noqa: ARG002 - it is stored once, here
        """Execute at once what a real ledger would execute soon."""
        if self._failure == "away":
            raise Unreached("the ledger is away")
        reply, key = self._executed(request), request.key or ""
        self._results.append(Result(request.name, key, reply))
        if reply.status >= 300:
            self._refused[str(request.fields["account"]), key] = reply.json
        self._tell()

    async def listen(self) -> None:
        """Nothing is to be listened to."""

    async def heard(self, name: str, account: str, key: str) -> Reply:
        """Return the outcome of a durable command; raises Unanswered when this is closed first."""
        while not self._is_closed:
            for result in reversed(self._results):  # an older one was told to others
                if (result.command, result.key) == (name, key) and result.reply.json.get("account", account) == account:
                    return result.reply
            await self._news.wait()
        raise Unanswered("the ledger's client is closed")

    async def results(self) -> AsyncIterator[Result]:
        """Yield the outcomes of durable commands."""
        number = 0
        while True:
            if number == len(self._results):
                await self._news.wait()
                continue
            number += 1
            yield self._results[number - 1]

    async def stream(self, start: Start) -> AsyncIterator[Published]:
        """Yield the events as the real stream has them."""
        if start.stream != LEDGER_ID:
            start.sequence = len(self._books.order) if start.only_new else 0
        start.stream = LEDGER_ID
        while True:
            if start.sequence >= len(self._books.order):
                await self._news.wait()
                continue
            line = self._books.order[start.sequence]
            start.sequence += 1
            if start.partitions is None or line.event.partition in start.partitions:
                yield Published(start.sequence, _cloud_event(line))

    async def log(self, partition: int, after: int, limit: int) -> AsyncIterator[bytes]:
        """Yield lines of the log."""
        for line in self._books.lines_in(partition, after, limit):
            yield line.line


def _cloud_event(line: Line) -> bytes:
    event = line.event
    envelope = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"urn:credit-ledger:{LEDGER_ID}",
        "type": f"credits.{event.type}.{event.kind}.v{event.version}",
        "subject": event.account,
        "time": event.recorded_at,
        "datacontenttype": "application/json",
        "sequence": str(event.position),
        "partitionkey": str(event.partition),
    }
    data = b'%b,"hash":"%b"}' % (line.line[:-1], line.hash.encode())
    return orjson.dumps(envelope)[:-1] + b',"data":' + data + b"}"
