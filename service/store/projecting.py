"""What the projector asks of the database: generations, checkpoints, and a batch of events added to all of them at once.

A batch is one transaction, of as many partitions as have something new, because most of its cost is round trips: the
readers' locks, the checkpoints, the lines behind them, what the folds make of these, and the checkpoints moved. So each event is in each generation exactly once, whatever is killed when, and two
processes that read the same partition take turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import asyncpg

from events.recorded import Event, decode
from service.store.log import Log
from service.store.projected import PROJECTIONS, Batch
from service.store.statements import statements

_SQL = statements("projecting.sql")
LONG_SECONDS_MAX = 3600.0
LINES_EACH_MIN = 20

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


Switched = Literal["same", "different", "other_version", "not_yet"]
"""Whether a generation is read now, and how it compared with the one that was."""


class Advanced(NamedTuple):
    """How many lines were added, and the partitions in which the log does not go on where the projections end."""

    lines: int
    gaps: dict[int, str]


class Behind(NamedTuple):
    """A partition's head, and how far the slowest generation has come."""

    partition: int
    head: int
    reached: int


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
            await connection.execute(_SQL["register_readers"])
            for projection in PROJECTIONS.values():
                await connection.execute(_SQL["register"], projection.name, projection.version)

    async def behind(self) -> list[Behind]:
        """Return the partitions in which something is missing."""
        async with self._log.connection() as connection:
            rows = await connection.fetch(_SQL["behind"], *_versions())
        found = [Behind(row["partition"], row["head"], row["reached"]) for row in rows]
        return [each for each in found if each.reached != each.head]

    async def advance(self, partitions: Sequence[int], lines_max: int) -> Advanced:
        """Add the next lines of partitions to what lacks them, about `lines_max` of all together, in one transaction.

        Partitions that another process is at are left to it, those with a gap are told and left alone.
        """
        async with self._log.connection() as connection, connection.transaction():
            locked = [row["partition"] for row in await connection.fetch(_SQL["lock_readers"], partitions)]
            if not locked:
                return Advanced(0, {})
            rows = await connection.fetch(_SQL["checkpoints"], locked, *_versions())
            groups = _groups(rows, lines_max)
            gaps = await _read(connection, groups)
            sound = [group for group in groups if group.events and group.partition not in gaps]
            for name, projection in PROJECTIONS.items():
                batches = [
                    Batch(group.partition, generation, group.events)
                    for group in sound
                    for of_name, generation in group.generations
                    if of_name == name
                ]
                if batches:
                    await projection.apply(connection, batches)
            moved = [
                (group.partition, *generation, group.position + len(group.events))
                for group in sound
                for generation in group.generations
            ]
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

    async def rebuild(self, name: str) -> int:
        """Begin a generation of a projection beside those that there are; returns its number."""
        async with self._log.connection() as connection:
            return int(await connection.fetchval(_SQL["rebuild"], name, PROJECTIONS[name].version))

    async def switch(self, name: str, generation: int) -> Switched:
        """Let a generation be the one that is read if it has come as far; one of the same version is compared first."""
        async with self._log.connection() as connection, connection.transaction():
            row = await connection.fetchrow(_SQL["versions"], name, generation)
            if row is None:
                return "not_yet"
            outcome = await _compare(
                connection, name, row["generation"], generation, may_differ=row["version"] != row["other_version"]
            )
            if outcome != "not_yet":
                differs = None if outcome == "other_version" else outcome == "different"
                await connection.execute(_SQL["switch"], name, generation, differs)
            return outcome

    async def remove(self, name: str, generation: int) -> None:
        """Throw a generation away that is not read."""
        async with self._log.connection() as connection:
            await connection.execute(_SQL["forget"], name, generation)
            for row in await connection.fetch(_SQL["partitions"]):
                for statement in PROJECTIONS[name].removes:
                    await connection.execute(statement, row["partition"], generation, timeout=LONG_SECONDS_MAX)


@dataclass(slots=True)
class _Group:
    """Generations that stand at the same position of a partition, and the events that come next."""

    partition: int
    position: int
    lines_max: int
    generations: list[tuple[str, int]]
    events: list[Event] = field(default_factory=list[Event])


def _groups(rows: Sequence[Any], lines_max: int) -> list[_Group]:
    """Return the generations that go on together, by partition and position."""
    groups = [
        _Group(partition, position, 0, [(row["name"], row["generation"]) for row in group])
        for (partition, position), group in groupby(rows, key=lambda row: (row["partition"], row["position"]))
    ]
    lines_each = max(LINES_EACH_MIN, lines_max // len(groups)) if groups else 0
    for group, following in zip(groups, [*groups[1:], None], strict=True):
        group.lines_max = lines_each
        if following is not None and following.partition == group.partition:
            # Whoever catches up stops where the others were, to go on together with them.
            group.lines_max = min(lines_each, following.position - group.position)
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
        if head < group.position:
            gaps[group.partition] = f"the log ends at {head}, projections have seen it until {group.position}"
        elif head > group.position and group.lines_max and not group.events:
            gaps[group.partition] = f"position {group.position + 1} was expected, and is missing"
    return gaps


async def _compare(connection: Connection, name: str, current: int, generation: int, *, may_differ: bool) -> Switched:
    rows = await connection.fetch(_SQL["lock_generations"], name, [current, generation])
    reached: dict[int, dict[int, int]] = {}
    for row in rows:
        reached.setdefault(row["partition"], {})[row["generation"]] = row["position"]
    if any(both[generation] < both[current] for both in reached.values()):
        return "not_yet"
    if may_differ:
        return "other_version"
    if any(both[generation] != both[current] for both in reached.values()):
        return "not_yet"
    digest = PROJECTIONS[name].digest
    for partition in reached:
        digests = [
            await connection.fetchval(digest, partition, each, timeout=LONG_SECONDS_MAX)
            for each in (current, generation)
        ]
        if digests[0] != digests[1]:
            return "different"
    return "same"
