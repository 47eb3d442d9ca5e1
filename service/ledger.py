"""The ledger: the one way to change an account, whatever transport a command came by.

It hands each command to the writer of its account's partition and knows nothing of HTTP or NATS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from time import time_ns

from events.catalog import Catalog
from events.history import NO_HISTORY, History
from events.instants import Instant, instant, moment
from events.partition import partition_of
from events.payments import Paid
from service.ids import new_id
from service.outages import ClockSkew, Outage, Unavailable
from service.recall import recall, recall_payment
from service.requests import Outcome, Request, key_digest
from service.store.log import Log
from service.writer import Writer

CLOCK_AHEAD_SECONDS_MAX = 5.0
"""Ahead of the database's clock; `ledger.append` refuses what is recorded later."""
APPENDS_AT_ONCE = 16
"""How many writers write at the same time. While all of them do, nothing is decided ahead, so that queues and batches grow."""


def system_clock() -> Instant:
    """Return the present instant."""
    seconds, microseconds = divmod(time_ns() // 1000, 1_000_000)
    return Instant(f"{_second(seconds)}{microseconds:06d}Z")


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    """Return an instant up to its fraction: most of it is the same for everything in a second."""
    return instant(datetime.fromtimestamp(seconds, UTC)).removesuffix("000000Z")


class Ledger:
    """Executes commands; one writer for each partition."""

    def __init__(
        self,
        log: Log,
        *,
        ledger_id: str,
        partitions: int,
        catalog: Catalog,
        history: History = NO_HISTORY,
        clock: Callable[[], Instant] = system_clock,
    ) -> None:
        self.id = ledger_id
        self.partitions = partitions
        self.catalog = catalog
        self.history = history
        self.clock = clock
        self.log = log
        self.followers: list[Callable[[int, int], None]] = []
        """Told, after each commit of this process, a partition and the position at which its log now ends."""
        self._held_back: dict[int, str] = {}
        turns = asyncio.Semaphore(APPENDS_AT_ONCE)
        self._writers = [
            Writer(
                partition,
                log,
                turns=turns,
                catalog=lambda: (self.catalog, self.history),
                clock=clock,
                new_id=new_id,
                committed=self._committed,
            )
            for partition in range(partitions)
        ]

    @classmethod
    async def open(
        cls,
        log: Log,
        catalog: Catalog,
        history: History = NO_HISTORY,
        *,
        clock: Callable[[], Instant] = system_clock,
    ) -> Ledger:
        """Open the ledger that the database holds; raises Unavailable, and LookupError when it was never migrated."""
        ledger_id, partitions = await log.identity()
        return cls(log, ledger_id=ledger_id, partitions=partitions, catalog=catalog, history=history, clock=clock)

    def partition(self, account: str) -> int:
        """Return the partition of an account."""
        return partition_of(account, self.partitions)

    async def check(self) -> None:
        """Return when commands can be written: the database takes them, and the clock is right; raises Outage."""
        await self.log.writable()
        ahead = moment(self.clock()) - moment(await self.log.clock())
        if ahead.total_seconds() > CLOCK_AHEAD_SECONDS_MAX:
            raise ClockSkew(f"this machine's clock is {ahead.total_seconds():.0f} s ahead of the database's")

    def hold_back(self, partition: int, reason: str) -> None:
        """Take no more commands for a partition; its reads go on."""
        self._held_back[partition] = reason

    def written_partitions(self) -> list[int]:
        """Return the partitions that are not held back."""
        return [partition for partition in range(self.partitions) if partition not in self._held_back]

    def _writer(self, account: str) -> Writer:
        """Return the writer of an account; raises Unavailable for a partition that takes no commands."""
        partition = self.partition(account)
        if partition in self._held_back:
            raise Unavailable(f"partition {partition} takes no commands: {self._held_back[partition]}")
        return self._writers[partition]

    async def execute(self, request: Request) -> Outcome:
        """Return what a command led to; raises Refusal when it may not be, Outage when that is not known now."""
        outcome = await self._writer(request.command.account).intake.execute(request)
        return outcome if outcome.counted is None else await self._first_told(outcome.account, outcome.counted)

    async def _first_told(self, account: str, paid: Paid) -> Outcome:
        """Return the first outcome of a payment that was counted before; raises Unavailable."""
        first = await recall_payment(self.log, self.partition(account), account, paid)
        if first is None:
            raise LookupError(f"account {account}: payment {paid.id} has no event")
        return first

    async def _all_told(self, waits: Sequence[asyncio.Future[Outcome]]) -> list[Outcome | BaseException]:
        """Return results or exceptions, in their order."""
        results = await _results(waits)
        for number, result in enumerate(results):
            if isinstance(result, Outcome) and result.counted is not None:
                results[number] = await self._first_told(result.account, result.counted)
        return results

    def sweep(self, account: str) -> Coroutine[None, None, Outcome]:
        """Write what is due in an account; the outcome has `facts`, none, when nothing is. Raises Outage."""
        return self._writer(account).intake.sweep(account)

    def waiting(self, partition: int) -> int:
        """Return how many commands of callers wait in a partition or are being written."""
        return self._writers[partition].intake.waiting

    async def execute_all(self, requests: Sequence[Request]) -> list[Outcome | BaseException]:
        """Return what each command led to, a Refusal or Outage where it may not be or is not known; in their order."""
        waits: list[asyncio.Future[Outcome]] = []
        for request in requests:
            try:
                taken = self._writer(request.command.account).intake.take_on(request)
            except Outage as outage:
                taken = asyncio.get_running_loop().create_future()
                taken.set_exception(outage)
            waits.append(asyncio.ensure_future(self.execute(request)) if taken is None else taken)
        return await self._all_told(waits)

    async def execute_together(self, requests: Sequence[Request]) -> list[Outcome | BaseException]:
        """Return what an atomic batch of one account led to: outcomes, or a refusal for each; raises Outage."""
        writer = self._writer(requests[0].command.account)
        return await self._all_told(await writer.intake.execute_together(requests))

    async def outcome(self, account: str, key: str) -> Outcome | None:
        """Return the first outcome of a key, or None when no command with it was accepted."""
        return await recall(self.log, self.partition(account), account, key)

    def in_progress(self, account: str, key: str) -> bool:
        """Say whether a command with this key waits for its outcome in this process."""
        return self._writers[self.partition(account)].intake.is_in_flight(key_digest(account, key))

    def _committed(self, partition: int, position: int) -> None:
        for follower in self.followers:
            follower(partition, position)

    async def drain(self) -> None:
        """Wait until every command that was taken on has its outcome."""
        await asyncio.gather(*(writer.drain() for writer in self._writers))


async def _results(waits: Sequence[asyncio.Future[Outcome]]) -> list[Outcome | BaseException]:
    """Return results or exceptions; a caller who goes away leaves the commands to go on."""
    await asyncio.wait(waits)
    return [wait.exception() or wait.result() for wait in waits]
