"""What an auditor reads of the projections of a partition, in the transaction in which he reads its lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from events.recorded import Event
from projections import holds, usage
from service.store.projected import PROJECTIONS, reservations, sources
from service.store.statements import statements

if TYPE_CHECKING:
    from service.store.log import Connection

_SQL = statements("auditing_projections.sql")
LINES_PER_PAGE = 1_000
LONG_SECONDS_MAX = 3600.0
_KEYS = {"history": 3, "usage": 5, "finance": 5, "accounts": 1, "alerts": 1, "holds": 7}
"""How many columns of each projection's rows name them."""


class Sources(NamedTuple):
    """Earlier events that events are about: the consumptions of refunds, and what made the holds that end."""

    consumed: usage.Sources
    reserved: holds.Sources


class ProjectedView:
    """The projections of a partition, by a connection that holds a transaction."""

    def __init__(self, connection: Connection, partition: int) -> None:
        self._connection = connection
        self._partition = partition

    async def reached(self) -> list[tuple[str, int, int]]:
        """Return each projection that is read and that this release folds: its name, generation and position."""
        versions = list(PROJECTIONS), [projection.version for projection in PROJECTIONS.values()]
        rows = await self._connection.fetch(_SQL["reached"], self._partition, *versions)
        return [(row["name"], row["generation"], row["position"]) for row in rows]

    async def digest(self, name: str, generation: int) -> str:
        """Return the digest of the stored rows."""
        statement = PROJECTIONS[name].digest
        return str(await self._connection.fetchval(statement, self._partition, generation, timeout=LONG_SECONDS_MAX))

    async def rows(self, name: str, generation: int) -> AsyncIterator[tuple[tuple[object, ...], tuple[object, ...]]]:
        """Yield the stored rows, each as its key and the rest."""
        width = _KEYS[name]
        async for row in self._connection.cursor(_SQL[f"{name}_rows"], self._partition, generation):
            values = tuple(row.values())
            yield values[:width], values[width:]

    async def lines(self, until: int) -> AsyncIterator[list[bytes]]:
        """Yield the lines up to a position, in pages."""
        after = 0
        while after < until:
            rows = await self._connection.fetch(_SQL["lines_until"], self._partition, after, until, LINES_PER_PAGE)
            if not rows:
                return
            yield [row["line"] for row in rows]
            after = rows[-1]["position"]

    async def sources(self, events: Sequence[Event]) -> Sources:
        """Return the earlier events that some events are about."""
        these = [(self._partition, events)]
        return Sources(await sources(self._connection, these), await reservations(self._connection, these))
