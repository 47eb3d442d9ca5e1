"""Projections against the replay: what is read from them must be what a fresh fold of the same lines comes to.

The folds are added up beside the verifier, up to where each projection has come, and compared by the digests that the
projector compares generations with, so nothing is kept but sums. When a digest differs, the lines are read again with
the stored rows beside them, event by event, to name the first event where the two part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from hashlib import md5
from typing import NamedTuple

from events.recorded import Event, decode
from projections import accounts, finance, history, usage
from service.auditing.faults import Fault, Faulty
from service.store.auditing_projections import ProjectedView

Key = tuple[object, ...]
Row = tuple[object, ...]


class Folded(ABC):
    """One projection as a fold of lines; `take` returns the rows that changed, as they are now."""

    name = ""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self._sum = 0

    @abstractmethod
    def take(self, events: Sequence[Event], sources: usage.Sources) -> Iterable[Key]:
        """Add the next events; returns the keys of the rows that changed."""

    def settle(self, hour: str) -> None:  # noqa: B027 - most projections have no such rows
        """Let go of rows that no event of this hour or a later one changes."""

    def put_away(self, keys: Iterable[Key]) -> None:
        """Add rows that will not change any more to the digest."""
        total = 0
        for key in keys:
            text = "|".join(map(_text, (*key, *self.rows.pop(key))))
            total += int.from_bytes(md5(text.encode(), usedforsecurity=False).digest()[:8], signed=True)
        self._sum += total

    def digest(self) -> str:
        """Return the digest of all rows, as the projection's statement computes it; the rows are gone then."""
        self.put_away(list(self.rows))
        return str(self._sum)


def _text(value: object) -> str:
    return ("t" if value else "f") if isinstance(value, bool) else str(value)


class _History(Folded):
    name = history.NAME

    def take(self, events: Sequence[Event], sources: usage.Sources) -> Iterable[Key]:
        del sources
        keys: list[Key] = list(history.fold(events))
        self.rows.update(dict.fromkeys(keys, ()))
        return keys

    def settle(self, hour: str) -> None:
        del hour
        self.put_away(list(self.rows))


class _Usage(Folded):
    name = usage.NAME
    _hour = ""

    def take(self, events: Sequence[Event], sources: usage.Sources) -> Iterable[Key]:
        folded = usage.fold(events, sources)
        folded.update(usage.totals(folded))
        for key, work in folded.items():
            before = self.rows.get(key)
            self.rows[key] = work if before is None else usage.Work(*before).plus(work)  # type: ignore[arg-type]  # it was one
        return folded

    def settle(self, hour: str) -> None:
        if hour != self._hour:
            self._hour = hour
            self.put_away([key for key in self.rows if str(key[1]) < hour])


class _Finance(Folded):
    name = finance.NAME

    def __init__(self) -> None:
        super().__init__()
        self._origins: finance.Origins = {}

    def take(self, events: Sequence[Event], sources: usage.Sources) -> Iterable[Key]:
        del sources
        needed = finance.needed(events)
        folded = finance.fold(events, {key: self._origins[key] for key in needed if key in self._origins})
        self._origins.update(folded.grants)
        for key, moved in folded.rows.items():
            before = self.rows.get(key)
            self.rows[key] = moved if before is None else finance.Movements(*before).plus(moved)  # type: ignore[arg-type]  # it was one
        return folded.rows


class _Accounts(Folded):
    name = accounts.NAME

    def take(self, events: Sequence[Event], sources: usage.Sources) -> Iterable[Key]:
        del sources
        changed: list[Key] = []
        for row in accounts.fold(events):
            _, status, opened_at = self.rows.get((row.account,), ("", "active", ""))
            self.rows[row.account,] = (row.plan, row.status or status, opened_at or row.opened_at or "")
            changed.append((row.account,))
        return changed


FOLDS: tuple[type[Folded], ...] = (_History, _Usage, _Finance, _Accounts)


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

    @classmethod
    async def begin(cls, view: ProjectedView, partition: int) -> ProjectionCheck:
        """Return the check of the projections that are read and that this release can fold."""
        return cls(view, partition, {name: Reached(*found) for name, *found in await view.reached()})

    async def take(self, events: Sequence[Event]) -> None:
        """Fold the next events."""
        if not self._folds or not events:
            return
        sources = await self._view.sources(events)
        for fold in self._folds:
            known = self._reached[fold.name].position
            fold.take(events if events[-1].position <= known else [e for e in events if e.position <= known], sources)
            fold.settle(usage.hour_of(events[-1].recorded_at))

    async def verify(self) -> None:
        """Compare; raises Faulty."""
        for fold in self._folds:
            if fold.digest() != await self._view.digest(fold.name, self._reached[fold.name].generation):
                raise Faulty(await self._parting(type(fold)(), self._reached[fold.name]))

    async def _parting(self, fold: Folded, reached: Reached) -> Fault:
        """Return the first event where the stored rows part from the replay."""
        stored = {key: row async for key, row in self._view.rows(fold.name, reached.generation)}
        suspects: dict[Key, Event] = {}
        seen: set[Key] = set()
        async for lines in self._view.lines(reached.position):
            for event in map(decode, lines):
                for key in fold.take([event], await self._view.sources([event])):
                    seen.add(key)
                    if fold.rows[key] == stored.get(key):
                        suspects.pop(key, None)
                    else:
                        suspects.setdefault(key, event)
        surplus = [key for key in stored if key not in seen]
        if suspects:
            key, event = min(suspects.items(), key=lambda entry: entry[1].position)
            position, replayed = event.position, fold.rows[key]
        else:
            key = surplus[0] if surplus else ()
            position, replayed = reached.position, None
        return Fault(
            code="wrong_projection",
            partition=self._partition,
            position=position,
            account=str(key[0]) if key and fold.name != finance.NAME and key[0] else None,
            detail=(
                f"{fold.name} parts from the replay here: the row {', '.join(map(_text, key))} is "
                f"{_shown(stored.get(key))}, the replay comes to {_shown(replayed)}; "
                f"{len(suspects) + len(surplus)} rows differ"
            ),
        )


def _shown(row: Row | None) -> str:
    return "missing" if row is None else f"({', '.join(map(_text, row))})" if row else "there"
