"""Publishes checkpoints: each that the database has stands in the stream once, in the order of their numbers.

Where it stands it asks the stream, so one that was lost is filled again, and after an outage what is missing comes, as
far as the database kept it (migration 0060). The process that publishes events does it.

A stream whose last checkpoint the database does not have, or has otherwise, says that the database was restored from an
old backup, or the stream is another ledger's. Then nothing is published, and the alarm is `history_rolled_back`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from service.bus.checkpoint_stream import CheckpointsMoved, CheckpointStream, PublishedNotes
from service.bus.jetstream import StreamAway
from service.checkpoints.note import Checkpoint, InvalidNote, parse_notes
from service.outages import Outage
from service.store.checkpoints import StoredCheckpoints, StoredNote

EVERY_SECONDS = 1.0
PAGE = 100

_log = logging.getLogger(__name__)


class CheckpointPublisher:
    """Publishes the checkpoints of a ledger."""

    def __init__(self, stored: StoredCheckpoints, stream: CheckpointStream) -> None:
        self._stored = stored
        self._stream = stream
        self._seen: tuple[str, int] | None = None
        """When the stream was made at the last look, and a sequence of which it had a message then, or was given one."""
        self.number: int | None = None
        """The number of the last checkpoint in the stream, None when it is not known."""
        self.alarm: str | None = None
        """What is wrong with the history, in words."""

    async def run(self, is_current: Callable[[], bool]) -> None:
        """Publish until cancelled, as long as the lease is held."""
        self._seen = None
        try:
            while True:
                try:
                    await self.publish(is_current)
                except (CheckpointsMoved, StreamAway, Outage) as error:
                    _log.debug("checkpoints cannot be published now: %s", error)
                    self._seen = None
                except InvalidNote as error:
                    self._tell(f"the last message of the stream {self._stream.name} is no checkpoint: {error}")
                except Exception:  # noqa: BLE001 - the next round may fare better, and events shall go on
                    _log.exception("publishing checkpoints failed")
                await asyncio.sleep(EVERY_SECONDS)
        finally:
            self.number, self.alarm = None, None

    async def publish(self, is_current: Callable[[], bool]) -> None:
        """Publish what is missing; raises CheckpointsMoved, StreamAway, Outage and InvalidNote."""
        latest = await self._stored.latest()
        if latest is None:
            return
        state = await self._stream.open()
        if self._is_wiped(state):
            _log.warning("the stream %s was wiped, and is filled from the database", self._stream.name)
            await self._stream.empty()
            state = state._replace(last_note=None)
        last = None if state.last_note is None else next(parse_notes(state.last_note))
        self._tell(None if last is None else await self._difference(last, latest))
        if self.alarm is not None:
            return
        self.number, sequence = (0 if last is None else last.number), state.last_sequence
        self._seen = (state.created, sequence + 1 if last is None else sequence)
        while is_current() and (page := await self._stored.after(self.number, PAGE)):
            for stored in page:
                if not is_current():
                    return
                sequence = await self._stream.publish(stored.number, stored.note, sequence)
                self.number = stored.number

    async def _difference(self, last: Checkpoint, latest: StoredNote) -> str | None:
        """Say in which way the stream's last checkpoint is not the database's, None when it is."""
        stream, ours = self._stream.name, next(parse_notes(latest.note))
        if last.origin != ours.origin:
            return (
                f"the stream {stream} has checkpoints of another ledger ({last.origin}): give this one another subject "
                "prefix, or delete the stream"
            )
        if last.number > ours.number:
            return f"the stream {stream} has checkpoint {last.number}, the database ends at {ours.number}: an old backup was restored"
        if await self._stored.note(last.number) in {None, last.note()}:
            return None
        return (
            f"checkpoint {last.number} of the stream {stream} is not that of the database: an old backup was restored"
        )

    def _is_wiped(self, state: PublishedNotes) -> bool:
        """Say whether what was in the stream at the last look was deleted at once, which its limits never do."""
        return self._seen is not None and self._seen[0] == state.created and state.first_sequence > self._seen[1]

    def _tell(self, alarm: str | None) -> None:
        if alarm is not None and self.alarm is None:
            _log.error("history_rolled_back: checkpoints are not published: %s", alarm)
        self.alarm = alarm
