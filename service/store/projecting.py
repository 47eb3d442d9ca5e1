"""What the projector asks of the database: generations, checkpoints, and a batch of events added to all of them at once.

A batch is one transaction, of as many partitions as have something new, because most of its cost is round trips: the
checkpoints, which are held until it ends, the lines behind them, what the folds make of these, and the checkpoints moved.
So each event is in each generation exactly once, whatever is killed when, and several processes may be at it.

Generations that stand near each other go on together, each event decoded once for all of them. One that is far behind,
because it is built, has transactions of its own, and those that are read never wait for these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from events.recorded import Event, decode
from service.store.log import Log
from service.store.projected import PROJECTIONS, Batch
from service.store.statements import statements

_SQL = statements("projecting.sql")
LINES_EACH_MIN = 20
FAR_LINES = 200
"""A generation that is so much behind the one that is furthest is built apart."""

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class Advanced(NamedTuple):
    """How many lines were added, and the partitions in which the log does not go on where the projections end."""

    lines: int
    gaps: dict[int, str]


class Behind(NamedTuple):
    """A partition's head, and how far the slowest generation has come: of those near each other, and of the others."""

    partition: int
    head: int
    near: int
    far: int | None


class Generation(NamedTuple):
    """A generation of a projection over all partitions; lag as of now."""

    name: str
    generation: int
    version: int
    is_current: bool
    position: int
    head: int
    lag_seconds: float
    has_caught_up: bool
    differs: bool | None


class Lag(NamedTuple):
    """What a projection that is read lacks in a partition."""

    partition: int
    name: str
    events: int
    seconds: float


def _versions() -> tuple[list[str], list[int]]:
    return list(PROJECTIONS), [projection.version for projection in PROJECTIONS.values()]


class Projecting:
    """The projections' tables as the projector sees them; everything raises Unavailable in an outage."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def register(self) -> None:
        """Make room for the projections of this release, where there is none."""
        async with self._log.connection() as connection, connection.transaction():
            await connection.execute(_SQL["register_partitions"])
            for projection in PROJECTIONS.values():
                await connection.execute(_SQL["register"], projection.name, projection.version)

    async def behind(self) -> list[Behind]:
        """Return how far each partition is."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["behind"], *_versions(), FAR_LINES)
        return [Behind(*row.values()) for row in rows]

    async def advance(self, partitions: Sequence[int], lines_max: int, *, far: bool = False) -> Advanced:
        """Add the next lines of partitions to what lacks them, about `lines_max` of all together, in one transaction.

        Either to the generations that are `far` behind the others, or to these. Those that another process is at are left
        to it; partitions with a gap are told and left alone.
        """
        async with self._log.connection() as connection, connection.transaction():
            if far:
                await connection.execute(_SQL["flush_later"])
            rows = await connection.fetch(_SQL["lock"], partitions, *_versions(), FAR_LINES, far)
            groups = _groups(rows, lines_max, far=far)
            gaps = await _read(connection, groups)
            sound = [group for group in groups if group.events and group.partition not in gaps]
            for name, projection in PROJECTIONS.items():
                batches = [batch for group in sound for batch in group.batches(name)]
                if batches:
                    await projection.apply(connection, batches)
            moved = [moved for group in sound for moved in group.moved()]
            if moved:
                await connection.execute(_SQL["advance"], *zip(*moved, strict=True))
            return Advanced(sum(len(group.events) for group in sound), gaps)

    async def looked(self, partitions: Sequence[int]) -> None:
        """Note that the readers of these partitions are alive."""
        async with self._log.connection() as connection:
            await connection.execute(_SQL["looked"], partitions)

    async def lag(self) -> list[Lag]:
        """Return what each projection that is read lacks."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["lag"])
        return [Lag(row["partition"], row["name"], row["events"], row["seconds"]) for row in rows]

    async def heartbeats(self) -> dict[int, float]:
        """Return for how many seconds no reader has looked at each partition."""
        async with self._log.connection() as connection:
            return {row["partition"]: row["seconds"] for row in await connection.fetch(_SQL["heartbeats"])}

    async def generations(self) -> list[Generation]:
        """Return every generation that there is."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["generations"])
        return [Generation(*row.values()) for row in rows]


@dataclass(slots=True)
class _Group:
    """The generations of a partition that go on together, and the events behind the slowest of them."""

    partition: int
    position: int
    lines_max: int
    generations: list[tuple[str, int, int]]
    """Name, number and position of each."""
    events: list[Event] = field(default_factory=list[Event])

    @property
    def reached(self) -> int:
        """The position of the last event."""
        return self.position + len(self.events)

    def batches(self, wanted: str) -> list[Batch]:
        """Return what is added to the generations of a projection: to each what is behind its own position."""
        return [
            Batch(self.partition, generation, self.events[position - self.position :])
            for name, generation, position in self.generations
            if name == wanted and position < self.reached
        ]

    def moved(self) -> list[tuple[int, str, int, int]]:
        """Return the checkpoints that move."""
        return [
            (self.partition, name, generation, self.reached)
            for name, generation, position in self.generations
            if position < self.reached
        ]


def _groups(rows: Sequence[Any], lines_max: int, *, far: bool) -> list[_Group]:
    """Return the generations that go on together, by partition; near ones go on until they all stand at one position."""
    groups: list[_Group] = []
    for partition, of_partition in groupby(rows, key=lambda row: row["partition"]):
        generations = [(row["name"], row["generation"], row["position"]) for row in of_partition]
        slowest, furthest = generations[0][2], generations[-1][2]
        groups.append(_Group(partition, slowest, 0 if far else furthest - slowest, generations))
    for group in groups:
        group.lines_max += max(LINES_EACH_MIN, lines_max // len(groups))
    return groups


async def _read(connection: Connection, groups: list[_Group]) -> dict[int, str]:
    """Bring in the groups' next events; returns the partitions in which they do not follow, and why that is said."""
    if not groups:
        return {}
    # The heads first: what is written between the two queries is no gap.
    found = await connection.fetch(_SQL["heads"], [group.partition for group in groups])
    heads: dict[int, int] = {row["partition"]: row["position"] for row in found}
    asked = [(group.partition, group.position, group.lines_max) for group in groups]
    gaps: dict[int, str] = {}
    for row in await connection.fetch(_SQL["lines"], *zip(*asked, strict=True)):
        number: int = row["number"]
        group = groups[number - 1]
        if group.partition not in gaps:
            event = decode(row["line"])
            expected = group.position + len(group.events) + 1
            if not row["position"] == event.position == expected or event.partition != group.partition:
                gaps[group.partition] = f"position {expected} was expected, {event.id} stands there"
            group.events.append(event)
    for group in groups:
        head = heads[group.partition]
        furthest = group.generations[-1][2]
        if head < furthest:
            gaps[group.partition] = f"the log ends at {head}, projections have seen it until {furthest}"
        elif head > group.position and not group.events:
            gaps[group.partition] = f"position {group.position + 1} was expected, and is missing"
    return gaps
