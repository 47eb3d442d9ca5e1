"""How a generation of a projection comes to be read in place of another: begun, compared, switched to, thrown away.

Rows and checkpoints change together, so a snapshot in which two generations stand at the same positions has all that
there is to compare. Nothing waits for a comparison; only for the switch, which is the change of one row, both are held.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import asyncpg

from service.store.log import Log
from service.store.projected import PROJECTIONS
from service.store.statements import statements

_SQL = statements("replacing.sql")
_PARTITIONS = statements("projecting.sql")["partitions"]
LONG_SECONDS_MAX = 3600.0

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

Switched = Literal["same", "different", "other_version", "not_yet"]
"""Whether a generation is read now, and how it compared with the one that was."""
Rest = Callable[[], Awaitable[None]]
"""Called between two pieces of work, so that others have their turn."""


class Replacing:
    """Generations that take the place of others; everything raises Unavailable in an outage."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def rebuild(self, name: str) -> int:
        """Begin a generation of a projection beside those that there are; returns its number."""
        async with self._log.connection() as connection:
            return int(await connection.fetchval(_SQL["rebuild"], name, PROJECTIONS[name].version))

    async def switch(self, name: str, generation: int, rest: Rest) -> Switched:
        """Let a generation be the one that is read if it has come as far; one of the same version is compared first."""
        async with self._log.connection() as connection:
            async with connection.transaction(isolation="repeatable_read"):
                row = await connection.fetchrow(_SQL["versions"], name, generation)
                if row is None:
                    return "not_yet"
                current: int = row["generation"]
                may_differ: bool = row["version"] != row["other_version"]
                outcome = (
                    "other_version" if may_differ else await _compared(connection, name, current, generation, rest)
                )
            if outcome == "not_yet":
                return outcome
            async with connection.transaction():
                stand = _stand(await connection.fetch(_SQL["hold"], name, [current, generation]))
                if not _has_come_as_far(stand, current, generation):
                    return "not_yet"
                differs = None if outcome == "other_version" else outcome == "different"
                done = await connection.execute(_SQL["switch"], name, current, generation, differs)
            return outcome if done != "UPDATE 0" else "not_yet"

    async def replaced(self) -> list[tuple[str, int]]:
        """Return the generations that were replaced and are not all gone, by name and number."""
        async with self._log.connection() as connection:
            return [(row["name"], row["generation"]) for row in await connection.fetch(_SQL["replaced"])]

    async def remove(self, name: str, generation: int, rest: Rest) -> None:
        """Throw a generation away that is not read; it can be begun again where it was broken off."""
        async with self._log.connection() as connection:
            await connection.execute(_SQL["end"], name, generation)
            for row in await connection.fetch(_PARTITIONS):
                for statement in PROJECTIONS[name].removes:
                    await connection.execute(statement, row["partition"], generation, timeout=LONG_SECONDS_MAX)
                    await rest()
            await connection.execute(_SQL["forget"], name, generation)


Stand = dict[int, dict[int, int]]
"""The positions of generations, by partition."""


def _stand(rows: Sequence[Any]) -> Stand:
    stand: Stand = {}
    for row in rows:
        stand.setdefault(row["partition"], {})[row["generation"]] = row["position"]
    return stand


def _has_come_as_far(stand: Stand, current: int, generation: int) -> bool:
    return all(both.get(generation, -1) >= both.get(current, 0) for both in stand.values())


async def _compared(connection: Connection, name: str, current: int, generation: int, rest: Rest) -> Switched:
    """Compare two generations in the transaction's snapshot, if they stand at the same positions in it."""
    stand = _stand(await connection.fetch(_SQL["stand"], name, [current, generation]))
    if any(both.get(generation) != both.get(current) for both in stand.values()):
        return "not_yet"
    digest = PROJECTIONS[name].digest
    for partition in stand:
        digests: list[object] = []
        for each in (current, generation):
            digests.append(await connection.fetchval(digest, partition, each, timeout=LONG_SECONDS_MAX))
            await rest()
        if digests[0] != digests[1]:
            return "different"
    return "same"
