"""Projections against the replay: what is read from them must be what a fresh fold of the same lines comes to.

The folds are added up beside the verifier, up to where each projection has come, and compared by the digests that the
projector compares generations with, so nothing is kept but sums. When a digest differs, the lines are read again with
the stored rows beside them, event by event, to name the first event where the two part.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

from events.recorded import Event, decode
from projections import usage
from service.auditing.faults import Fault, Faulty
from service.auditing.folds import FOLDS, Folded, Key, Row, text_of
from service.store.auditing_projections import ProjectedView


class Reached(NamedTuple):
    """The generation of a projection that is read, and up to where it has come."""

    generation: int
    position: int


class ProjectionCheck:
    """Folds the lines of one partition beside its verifier."""

    def __init__(self, view: ProjectedView, partition: int, reached: Mapping[str, Reached]) -> None:
        self._view = view
        self._partition = partition
        self._reached = reached
        self._folds = [fold() for fold in FOLDS if fold.name in reached]
        self._waiting: list[Event] = []
        """The last event, until it is known what follows it."""

    @classmethod
    async def begin(cls, view: ProjectedView, partition: int) -> ProjectionCheck:
        """Return the check of the projections that are read and that this release can fold."""
        return cls(view, partition, {name: Reached(*found) for name, *found in await view.reached()})

    async def take(self, events: Sequence[Event]) -> None:
        """Fold the next events."""
        if self._folds and events:
            ready = [*self._waiting, *events]
            self._waiting = [ready.pop()]
            await self._fold(ready, self._waiting[0])

    async def _fold(self, events: Sequence[Event], following: Event | None) -> None:
        if not events:
            return
        sources = await self._view.sources(events)
        for fold in self._folds:
            count = max(0, min(len(events), self._reached[fold.name].position - events[0].position + 1))
            if count:
                within, after = (events, following) if count == len(events) else (events[:count], events[count])
                fold.take(within, after, sources)
                fold.settle(usage.hour_of(within[-1].recorded_at))

    async def verify(self) -> None:
        """Compare; raises Faulty."""
        await self._fold(self._waiting, None)
        end = self._waiting[-1].position if self._waiting else 0
        for fold in self._folds:
            if self._reached[fold.name].position > end:
                raise Faulty(self._beyond(fold.name, end))
            if fold.digest() != await self._view.digest(fold.name, self._reached[fold.name].generation):
                raise Faulty(await self._parting(type(fold)(), self._reached[fold.name]))

    def _beyond(self, name: str, end: int) -> Fault:
        told = f"{name} says that it has come to {self._reached[name].position}; the log ends at {end}"
        return Fault(code="wrong_projection", partition=self._partition, position=end, detail=told)

    async def _parting(self, fold: Folded, reached: Reached) -> Fault:
        """Return the first event where the stored rows part from the replay."""
        stored = {key: _joined(row) async for key, row in self._view.rows(fold.name, reached.generation)}
        suspects: dict[Key, Event] = {}
        seen: set[Key] = set()
        async for event, following in self._events(reached.position):
            for key in fold.take([event], following, await self._view.sources([event])):
                seen.add(key)
                if _joined(fold.row(key)) == stored.get(key):
                    suspects.pop(key, None)
                else:
                    suspects.setdefault(key, event)
        surplus = [key for key in stored if key not in seen]
        if suspects:
            key, event = min(suspects.items(), key=lambda entry: entry[1].position)
            position, replayed = event.position, _joined(fold.row(key))
        else:
            key = surplus[0] if surplus else ()
            position, replayed = reached.position, None
        return Fault(
            code="wrong_projection",
            partition=self._partition,
            position=position,
            account=fold.account(key) if key else None,
            detail=(
                f"{fold.name} parts from the replay here: the row {', '.join(map(text_of, filter(None, key)))} is "
                f"{_shown(stored.get(key))}, the replay comes to {_shown(replayed)}; "
                f"{len(suspects) + len(surplus)} rows differ"
            ),
        )

    async def _events(self, until: int) -> AsyncIterator[tuple[Event, Event | None]]:
        """Yield the events up to a position, each with the one behind it."""
        event: Event | None = None
        async for lines in self._view.lines(until + 1):
            for line in lines:
                following = decode(line)
                if event is not None:
                    yield event, following
                event = following
        if event is not None and event.position <= until:
            yield event, None


def _joined(row: Row | None) -> str | None:
    return None if row is None else "|".join(map(text_of, row))


def _shown(row: str | None) -> str:
    return "missing" if row is None else f"({row.replace('|', ', ')})" if row else "there"
