"""Following the stream of events: every event once, in the order of its partition, from where one left off.

    async with ledger.events(after=cursor) as events:
        async for event in events:
            ...                      # do something, and keep events.cursor with it, in one transaction

JetStream may deliver an event twice, and a stream that was lost is filled again from its beginning. So what counts is
not the stream's sequence but the position of each partition, which the ledger numbers without a gap: what was seen is
passed over, what is missing is read from the log over HTTP or told as GapFound, and each event must carry the hash of
the one before it. The sequence in a cursor only says where to look first.

Several processes that follow as the same caller take turns: one follows, the others wait until it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Protocol, Self, cast

from pydantic import BaseModel, ValidationError

from credit_ledger_client.errors import GapFound, HistoryChanged, Unavailable
from credit_ledger_client.events import Event, of_cloud_event, of_line
from credit_ledger_client.patience import Patience
from credit_ledger_client.transport import Published, Start, Transport, Unanswered, Unreached

FILL_LINES_MAX = 1000


class Place(BaseModel):
    """The last event of a partition that was seen."""

    position: int
    hash: str


class Cursor(BaseModel):
    """Where somebody is: the last event of each partition, and where in which stream that was."""

    source: str = ""
    stream: str = ""
    sequence: int = 0
    adopts: bool = False
    """Whether a partition that was never seen begins with whatever comes: with what was new when this began."""
    places: dict[int, Place] = {}

    @classmethod
    def parse(cls, text: str | None, *, only_new: bool) -> Cursor:
        """Return the cursor that a text stands for, or a new one; raises ValueError for a text that is none."""
        if not text:
            return cls(adopts=only_new)
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ValueError("this is no cursor of a stream of events") from error


class Log(Protocol):
    """What a gap is filled from."""

    transport: Transport
    patience: Patience


class Following:
    """The events behind a cursor, as an asynchronous context manager and iterator."""

    def __init__(
        self,
        transport: Transport,
        after: str | None,
        *,
        only_new: bool = False,
        partitions: tuple[int, ...] | None = None,
        fill: Log | None = None,
    ) -> None:
        self._cursor = Cursor.parse(after, only_new=only_new)
        self._start = Start(
            sequence=self._cursor.sequence,
            stream=self._cursor.stream,
            only_new=only_new and not after,
            partitions=partitions,
        )
        self._transport = transport
        self._fill = fill
        self._running: AsyncGenerator[Event, None] | None = None
        self.duplicates = 0
        """How many events came again and were passed over."""
        self.filled = 0
        """How many events were missing in the stream and read from the log."""

    @property
    def cursor(self) -> str:
        """Where this is, the present event included, as a text to keep."""
        return self._cursor.model_dump_json()

    async def __aenter__(self) -> Self:
        self._running = self._run()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._running is not None:
            await self._running.aclose()

    def __aiter__(self) -> AsyncIterator[Event]:
        if self._running is None:
            raise RuntimeError("use it as a context manager: async with ledger.events() as events")
        return self._running

    async def _run(self) -> AsyncGenerator[Event, None]:
        stream = cast("AsyncGenerator[Published, None]", self._transport.stream(self._start))
        async with aclosing(stream) as messages:
            async for message in messages:
                event, source = of_cloud_event(message.body)
                if self._cursor.source not in ("", source):
                    raise HistoryChanged(f"the events are of {source}, the cursor is of {self._cursor.source}")
                self._cursor.source, self._cursor.stream = source, self._start.stream
                async with aclosing(self._missing_before(event)) as missing:
                    async for earlier in missing:
                        yield earlier
                if self._is_next(event):
                    self._cursor.sequence = message.sequence
                    yield event
                else:
                    self.duplicates += 1
                    self._cursor.sequence = message.sequence

    def _expected(self, partition: int, found: int) -> int:
        place = self._cursor.places.get(partition)
        if place is not None:
            return place.position + 1
        return found if self._cursor.adopts else 1

    def _is_next(self, event: Event) -> bool:
        """Move on to an event; False for one that was seen. Raises HistoryChanged when it does not follow the last."""
        if event.position < self._expected(event.partition, event.position):
            return False
        place = self._cursor.places.get(event.partition)
        if place is not None and event.prev_hash != place.hash:
            raise HistoryChanged(f"event {event.id} does not follow the one that was seen before it")
        self._cursor.places[event.partition] = Place(position=event.position, hash=event.hash)
        return True

    async def _missing_before(self, event: Event) -> AsyncGenerator[Event, None]:
        """Yield what the stream does not have before an event; raises GapFound when there is nothing to read it from."""
        partition = event.partition
        while (expected := self._expected(partition, event.position)) < event.position:
            if self._fill is None:
                raise GapFound(partition, expected, event.position)
            count = min(FILL_LINES_MAX, event.position - expected)
            lines = await self._lines(self._fill, partition, expected - 1, count)
            if not lines:
                raise GapFound(partition, expected, event.position)
            for line in lines:
                earlier = of_line(line)
                if (earlier.partition, earlier.position) != (partition, expected) or not self._is_next(earlier):
                    raise HistoryChanged(f"{earlier.id} came out of the log where {partition}-{expected} should stand")
                expected += 1
                self.filled += 1
                yield earlier

    async def _lines(self, log: Log, partition: int, after: int, count: int) -> list[bytes]:
        """Return lines of the log; raises Unavailable when it cannot be read now."""
        patience = log.patience
        clock = asyncio.get_running_loop().time
        deadline, pause = clock() + patience.seconds, patience.pause_seconds
        while True:
            try:
                async with asyncio.timeout(max(0.0, deadline - clock())):
                    return [line async for line in log.transport.log(partition, after, count)]
            except (Unreached, Unanswered, TimeoutError) as error:
                if clock() + pause >= deadline:
                    raise Unavailable(f"a gap could not be filled: {error}") from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, patience.pause_seconds_max)
