"""The publisher: every event of the log in the stream, in log order in each partition, none missing, none twice.

It reads what the log has behind the positions that are published, and sends it in windows, the partitions in ascending
order. Where it stands it asks the stream, never its memory: at the start, and whenever a window was not stored as
predicted, it takes the last event of each partition there and goes on behind it. So a stream that was lost or restored
from an old backup is filled up from the log, and a window of which nobody knows how much was stored costs a look. A
stream that is wiped takes what comes next as if nothing had happened, so it is looked at every second, and filled from
the log's beginning; one from which a part was deleted, or that has limits, is left as it is. The stream refuses whatever does not fit (`bus/event_stream.py`); JetStream is delivery, never the record.

It is woken by the commits of this process, and looks for those of others every fifth of a second. While NATS or the
database is away it tries again, and the ledger goes on without it.

One thing ends its work: events in the stream that the log does not have. Then the log was restored from a backup, or the
stream is another ledger's, and consumers have seen a history that is no more. It publishes nothing, says so in the log
of the process, at /readyz and in the metrics (`history_rolled_back`), and looks again every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic

from events.instants import Instant, moment
from service.bus.event_stream import AlreadyStored, EventStream, LastEvent, StreamMoved, StreamState
from service.bus.jetstream import StreamAway
from service.bus.streams import StreamUnusable
from service.cloud_events import Message, message_of
from service.outages import Outage, Unavailable
from service.store.publishing import Lease, Outbox, PublishedLine

WINDOW_MESSAGES_MAX = 128
PAGE_LINES_MAX = 1024
PAGE_PARTITIONS_MAX = 16
"""So a page has a window's worth of each of its partitions, which docs/adr/0009-one-publisher.md counts on."""
POLL_SECONDS = 0.2
POLLS_FOR_EACH_LOOK = 5
RETRY_SECONDS = 0.05
RETRY_SECONDS_MAX = 2.0
MOVED_MAX = 3
"""So often somebody else may have written into the stream before that is an alarm."""
REMEMBERED_SECONDS = 150.0
"""For longer than the server remembers the ids of messages."""

_log = logging.getLogger(__name__)


class HistoryRolledBack(Exception):
    """The stream has events that the log does not have."""


class StreamWiped(Exception):
    """All messages of the stream were deleted, and not by its limits."""


class Publisher:
    """Publishes the log of a ledger; `source` is that of its CloudEvents."""

    def __init__(self, outbox: Outbox, stream: EventStream, *, prefix: str, source: str, partitions: int) -> None:
        self._outbox = outbox
        self._stream = stream
        self._prefix = prefix
        self._source = source
        self._partitions = partitions
        self._heads = [0] * partitions
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._seen = StreamState("", 0, 0, is_limited=False)
        self._doubt: StreamMoved | StreamWiped | None = None
        self._first_of_page = 0
        self._failures = 0
        self._suffix = ""
        self._suffix_until = 0.0
        self.positions: list[int] | None = None
        """How far each partition is published, as far as this process knows."""
        self.alarm: tuple[str, str] | None = None
        """What keeps it from publishing, a code and words; None when it publishes or is not the one that does."""
        self.published = 0
        """How many events this process published."""
        self.told_delay: Callable[[float], None] = lambda _seconds: None
        """Told, of each window that was stored, for how many seconds its oldest event had been recorded."""

    def note(self, partition: int, position: int) -> None:
        """Say that the log of a partition reaches a position."""
        if position > self._heads[partition]:
            self._heads[partition] = position
            self._idle.clear()
            self._wake.set()

    def standing(self) -> tuple[str, list[int]] | None:
        """Return when the stream was made, and how far each partition is published in it; None when not known."""
        return None if self.positions is None else (self._seen.created, list(self.positions))

    async def check(self) -> None:
        """Raise Unavailable when the history of the log is not that of the stream."""
        if self.alarm is not None and self.alarm[0] == "history_rolled_back":
            raise Unavailable(f"history_rolled_back: {self.alarm[1]}")

    async def lag(self) -> tuple[int, Instant | None] | None:
        """Return how many events wait, and when the first of them was recorded; None when not known. Raises Unavailable."""
        if self.positions is None:
            return None
        places = dict(enumerate(self.positions))
        heads = await self._outbox.heads()
        waiting = sum(max(0, head - places[partition]) for partition, head in heads.items())
        return waiting, await self._outbox.oldest(places) if waiting else None

    async def run(self, lease: Lease, is_current: Callable[[], bool]) -> None:
        """Publish until cancelled; `is_current` says whether the lease is held."""
        watch = asyncio.create_task(self._watch())
        self._failures = 0
        try:
            while True:
                try:
                    await self._follow(await self._resume(lease), is_current)
                except HistoryRolledBack as error:
                    self._tell("history_rolled_back", str(error))
                except StreamWiped:
                    _log.warning("the stream %s was wiped, and is filled from the log", self._stream.name)
                    if is_current():
                        await self._empty()
                except AlreadyStored:
                    # Messages were deleted, and the server still knows their ids: they go out again under other ones.
                    self._suffix_until = monotonic() + REMEMBERED_SECONDS
                except StreamMoved as error:
                    _log.info("the stream of events is not where it was, looking again: %s", error)
                    if self._failures >= MOVED_MAX:
                        self._tell("stream_unavailable", f"nothing can be stored: {error}")
                except (StreamAway, Outage) as error:
                    self._tell(_code_of(error), str(error))
                await asyncio.sleep(min(RETRY_SECONDS * 2**self._failures, RETRY_SECONDS_MAX))
                self._failures = min(self._failures + 1, 10)
        finally:
            watch.cancel()
            self._idle.clear()
            self.positions = None
            self.alarm = None

    async def caught_up(self) -> None:
        """Wait until everything that was noted is published."""
        await self._idle.wait()

    async def republish(self, partition: int, after: int, is_current: Callable[[], bool]) -> int:
        """Publish again what stands behind a position of a partition, up to the end of its log; returns how many.

        Raises HistoryRolledBack, StreamMoved, StreamAway and Unavailable; then it may be begun again.
        """
        sequence = await self._resume(Lease(0, "", ()))
        heads = await self._outbox.heads()
        self._suffix, self._suffix_until = f".{sequence}", float("inf")
        at = after
        while at < heads[partition] and is_current():
            page = await self._outbox.behind({partition: at}, PAGE_LINES_MAX)
            for window in _windows([line for line in page if line.position <= heads[partition]]):
                sequence = await self._stream.publish([self._message(line) for line in window], sequence)
                at = window[-1].position
        return at - after

    async def _resume(self, lease: Lease) -> int:
        """Learn where the stream stands, hold it against the log, and return its last sequence."""
        state = await self._stream.open()
        lasts = await self._stream.lasts(self._partitions)
        self._heads = [0] * self._partitions
        heads = await self._outbox.heads()
        self._hold_against(lasts, await self._outbox.hashes({p: last.position for p, last in lasts.items()}))
        positions = [lasts[p].position if p in lasts else 0 for p in range(self._partitions)]
        if state.is_limited and state.created == lease.stream:
            # Events that the stream's limits deleted were published, and are not sent again.
            kept = dict(enumerate(lease.positions))
            positions = [at or kept.get(p, 0) for p, at in enumerate(positions)]
        if any(at > heads[p] for p, at in enumerate(positions)):
            raise HistoryRolledBack("the log ends before what was published")
        self.positions = positions
        self._seen, self._doubt = state, None
        self._suffix = f".{state.last_sequence}" if monotonic() < self._suffix_until else ""
        self._first_of_page = 0
        for partition, head in heads.items():
            self.note(partition, head)
        return state.last_sequence

    def _hold_against(self, lasts: Mapping[int, LastEvent], hashes: Mapping[int, str]) -> None:
        for partition, last in lasts.items():
            if hashes.get(partition) == last.hash:
                continue
            event = f"{partition}-{last.position}"
            if last.source != self._source:
                raise HistoryRolledBack(
                    f"the stream {self._stream.name} has events of another ledger ({last.source}): give this one another "
                    "subject prefix, or delete the stream"
                )
            raise HistoryRolledBack(
                f"the stream {self._stream.name} has event {event} with the hash {last.hash}, which the log "
                f"{'does not have' if partition not in hashes else 'has with another hash'}: an old backup was restored"
            )

    async def _follow(self, sequence: int, is_current: Callable[[], bool]) -> None:
        """Publish what there is and what comes, behind the stream's last sequence; ends when the lease is lost."""
        assert self.positions is not None  # noqa: S101 - set by _resume
        positions = self.positions
        page: list[PublishedLine] = []
        while is_current():
            if self._doubt is not None:
                raise self._doubt
            if not page:
                self._wake.clear()
                page = await self._page(positions)
                if not page:
                    self._progress()
                    self._idle.set()
                    await self._wake.wait()
                continue
            reached = list(positions)
            for line in page:
                reached[line.partition] = line.position
            ahead = asyncio.create_task(self._page(reached))
            ahead.add_done_callback(lambda task: task.cancelled() or task.exception())  # it may never be needed
            try:
                for window in _windows(page):
                    if not is_current():
                        return
                    if self._doubt is not None:
                        raise self._doubt
                    sequence = await self._stream.publish([self._message(line) for line in window], sequence)
                    self.published += len(window)
                    oldest = moment(min(line.recorded_at for line in window))
                    self.told_delay((datetime.now(UTC) - oldest).total_seconds())
                    self._progress()
                    for line in window:
                        positions[line.partition] = line.position
                page = await ahead
            finally:
                ahead.cancel()

    async def _page(self, positions: Sequence[int]) -> list[PublishedLine]:
        """Return what comes next of some partitions in ascending order; nothing when all that is known is published."""
        news = [p for p in range(self._partitions) if self._heads[p] > positions[p]]
        if not news:
            return []
        chosen = [p for p in news if p >= self._first_of_page] or news
        chosen = chosen[:PAGE_PARTITIONS_MAX]
        self._first_of_page = chosen[-1] + 1
        each = max(WINDOW_MESSAGES_MAX, PAGE_LINES_MAX // len(chosen))
        lines = await self._outbox.behind({p: positions[p] for p in chosen}, each)
        at = {p: positions[p] for p in chosen}
        for line in lines:
            if line.position != at[line.partition] + 1:
                raise HistoryRolledBack(f"the log has a gap before {line.id}")
            at[line.partition] = line.position
        if not lines:
            raise HistoryRolledBack("the log ends before what was committed")
        return lines

    def _message(self, line: PublishedLine) -> Message:
        message = message_of(line, self._prefix, self._source)
        return message._replace(id=message.id + self._suffix) if self._suffix else message

    async def _watch(self) -> None:
        """Find what other processes commit, and whether the stream was wiped."""
        looks = 0
        while True:
            await asyncio.sleep(POLL_SECONDS)
            looks += 1
            try:
                for partition, head in (await self._outbox.heads()).items():
                    self.note(partition, head)
                if looks % POLLS_FOR_EACH_LOOK == 0 and self.positions is not None:
                    await self._look()
            except (Outage, StreamAway) as error:
                _log.debug("what others did is not known now: %s", error)

    async def _look(self) -> None:
        state = await self._stream.open()
        seen, self._seen = self._seen, state
        if state.created != seen.created:
            self._doubt = StreamMoved("it was made anew")
        elif not state.is_limited and state.first_sequence > max(1, seen.first_sequence, seen.last_sequence):
            self._doubt = StreamWiped()
        if self._doubt is not None:
            self._wake.set()

    async def _empty(self) -> None:
        """Begin the stream anew: what came after the wipe goes again, at its place."""
        self._suffix_until = monotonic() + REMEMBERED_SECONDS
        while True:
            try:
                await self._stream.empty()
            except StreamAway as error:
                _log.debug("the stream cannot be emptied now: %s", error)
                await asyncio.sleep(RETRY_SECONDS_MAX)
            else:
                return

    def _progress(self) -> None:
        self._failures = 0
        if self.alarm is not None:
            self._tell(None)

    def _tell(self, code: str | None, detail: str = "") -> None:
        """Log a change of what keeps it from publishing."""
        alarm = None if code is None else (code, detail)
        if alarm is None and self.alarm is not None:
            _log.warning("publishing again after %s", self.alarm[0])
        elif alarm is not None and (self.alarm is None or self.alarm[0] != code):
            _log.error("alarm %s: events are not published: %s", code, detail)
        self.alarm = alarm


def _code_of(error: StreamAway | Outage) -> str:
    if isinstance(error, StreamUnusable):
        return "stream_unusable"
    return "stream_unavailable" if isinstance(error, StreamAway) else "database_unavailable"


def _windows(page: Sequence[PublishedLine]) -> Iterator[Sequence[PublishedLine]]:
    for start in range(0, len(page), WINDOW_MESSAGES_MAX):
        yield page[start : start + WINDOW_MESSAGES_MAX]
