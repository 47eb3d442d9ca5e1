"""The builder: lets new generations of projections catch up behind those that are read, and switches to them.

A generation is begun by a release with another fold or by `credit-ledger projections rebuild`. It is built in
transactions of its own, partition after partition, because the more lines of the same accounts one has, the less it
writes. When it has come near, the projector carries it on together with the others; what it says is then compared with
what was read until now if it is of the same version, a difference is an alarm, and it is switched to. The rows of the one
that it replaced are thrown away.

While others write, all of this takes a share of the time only: the database and often the machine are theirs too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from time import monotonic

from service.store.log import Log
from service.store.projecting import Projecting
from service.store.replacing import Replacing, Switched

_log = logging.getLogger(__name__)

LINES_MAX = 500
"""Of one partition in one transaction; in a process that serves, which must not be kept busy for long."""
BESIDE_LINES_MAX = 1000
"""The same while others write, whoever builds: they wait for a long transaction's share of the processors and the disk."""
SHARE = 0.2
"""Of the time that is worked while others write."""


class Pace:
    """Lets those who work rest between two pieces, for as long as leaves them their share of the time."""

    def __init__(self, share: float, are_others_at_work: Callable[[], bool]) -> None:
        self._share = share
        self._are_others_at_work = are_others_at_work
        self._since = monotonic()

    def begin(self) -> None:
        """Say that a piece of work begins."""
        self._since = monotonic()

    async def rest(self) -> None:
        """Rest after a piece of work, unless nobody else is at work; the next piece begins then."""
        if self._are_others_at_work():
            await asyncio.sleep((monotonic() - self._since) * (1 / self._share - 1))
        self.begin()


class Builder:
    """Builds what is far behind, by `lanes` transactions over different partitions at a time.

    So the database works on one while the folds of another are made.
    """

    def __init__(
        self,
        log: Log,
        store: Projecting,
        *,
        lines_max: int = LINES_MAX,
        lanes: int = 1,
        share: float = SHARE,
    ) -> None:
        self.store = store
        self.replacing = Replacing(log)
        self.differences = 0
        """How many generations said something else than the one that they replaced."""
        self.gaps: dict[int, str] = {}
        """Partitions in which the log does not go on where a generation ends, and why that is said."""
        self._lines_max = lines_max
        self._lanes = lanes
        self._share = share
        self._heads = -1
        self._are_others_at_work = True

    def _pace(self) -> Pace:
        return Pace(self._share, lambda: self._are_others_at_work)

    async def build(self) -> int:
        """Add a batch of each partition to what is far behind there; returns how many lines. Raises Outage."""
        behind = await self.store.behind()
        heads = sum(each.head for each in behind)
        self._are_others_at_work = self._heads not in (-1, heads)
        self._heads = heads
        far = [each.partition for each in behind if each.far is not None and each.partition not in self.gaps]
        waiting = iter(far)
        made = await asyncio.gather(*(self._work_through(waiting) for _ in range(self._lanes)), return_exceptions=True)
        for each in made:
            if isinstance(each, BaseException):
                raise each
        return sum(lines for lines in made if isinstance(lines, int))

    async def _work_through(self, partitions: Iterator[int]) -> int:
        lines = 0
        pace = self._pace()
        for partition in partitions:
            lines_max = min(self._lines_max, BESIDE_LINES_MAX) if self._are_others_at_work else self._lines_max
            advanced = await self.store.advance([partition], lines_max, far=True)
            self.gaps.update(advanced.gaps)
            lines += advanced.lines
            await pace.rest()
        return lines

    async def switch(self) -> None:
        """Switch to each generation that has caught up, and throw the older ones away. Raises Outage."""
        generations = await self.store.generations()
        for name in {each.name for each in generations}:
            of_name = [each for each in generations if each.name == name]
            current = max((each.generation for each in of_name if each.is_current), default=0)
            newer = [each for each in of_name if each.generation > current and each.has_caught_up]
            if newer and current:
                pace = self._pace()
                outcome = await self.replacing.switch(name, newer[-1].generation, pace.rest)
                if outcome != "not_yet":
                    self._tell(name, current, newer[-1].generation, outcome)
        for name, generation in await self.replacing.replaced():
            await self.replacing.remove(name, generation, self._pace().rest)

    def _tell(self, name: str, before: int, after: int, outcome: Switched) -> None:
        if outcome == "different":
            self.differences += 1
        level = logging.ERROR if outcome == "different" else logging.INFO
        _log.log(level, "projection %s: generation %d replaces %d, which is: %s", name, after, before, outcome)
