"""A service process for tests to kill: it runs a ledger and says on its standard output what it does.

It is ready when it says so, gets one job as a line on its standard input, and ends when that input ends. What it says is
written at once, before it goes on: what was `sent` before the command is executed, and what was `told` when its outcome
is known. So whatever the parent has read was true when the process was killed.

It can be made to stand still at two steps that no database sees: right before an append is called, and right after its
answer came. It says that it has `reached` the step and goes no further.
"""

import asyncio
import os
import sys
from random import Random

import msgspec

from service.ledger import Ledger
from service.store.batches import Batch, KnownItems, KnownKeys, Stale, Written
from service.store.log import Log
from tests.writer.asking import CATALOG, Said, Wish, said
from tests.writer.load import Customer, insist

BEFORE_THE_CALL = "before the call"
AFTER_THE_ANSWER = "after the answer"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: the wishes at once, then customers until the end. `stop` is for appends that name the first wish."""

    url: str
    wishes: list[Wish] = []
    customers: int = 0
    accounts: list[str] = []
    name: str = ""
    seed: int = 0
    stop: str = ""
    connections: int = 8


class Ready(msgspec.Struct, frozen=True, tag=True):
    """It can be given its job."""


class Sent(msgspec.Struct, frozen=True, tag=True):
    """The command is about to be executed."""

    wish: Wish


class Told(msgspec.Struct, frozen=True, tag=True):
    """The command is acknowledged, or refused."""

    account: str
    key: str
    said: Said


class Reached(msgspec.Struct, frozen=True, tag=True):
    """It stands still at the step that it was told to stop at."""


Message = Ready | Sent | Told | Reached


def tell(message: Message) -> None:
    """Says something, in one piece and at once."""
    os.write(1, msgspec.json.encode(message) + b"\n")


class StoppingLog(Log):
    """The log, with an append that stands still where it is told to."""

    stop = ""
    key = ""

    async def append(self, batch: Batch) -> Written | Stale | KnownKeys | KnownItems:
        """Appends, or stands still for ever."""
        if not self.stop or not any(self.key.encode() in event.line for event in batch.events):
            return await super().append(batch)
        if self.stop == AFTER_THE_ANSWER:
            await super().append(batch)
        tell(Reached())
        return await asyncio.get_running_loop().create_future()


async def work(job: Job, ends: asyncio.Event) -> None:
    """Does the job."""
    log = await StoppingLog.connect(job.url, connections=job.connections)
    assert isinstance(log, StoppingLog)
    if job.stop:
        log.stop, log.key = job.stop, job.wishes[0].key
    ledger = await Ledger.open(log, CATALOG)

    async def execute(wish: Wish) -> Said:
        tell(Sent(wish))
        return await said(ledger, wish.request())

    async def tells(wish: Wish) -> Said:
        answer = await insist(execute, wish)
        tell(Told(wish.account, wish.key, answer))
        return answer

    await asyncio.gather(*(tells(wish) for wish in job.wishes))
    customers = [Customer(f"{job.name}{n}", job.accounts, Random(job.seed * 1000 + n)) for n in range(job.customers)]
    await asyncio.gather(*(customer.work(tells, lambda: not ends.is_set()) for customer in customers))
    await ends.wait()
    await log.close()


async def main() -> None:
    """Gets the job, does it, and ends with the standard input."""
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    tell(Ready())
    line = await orders.readline()
    if not line:
        return
    ends = asyncio.Event()
    working = asyncio.create_task(work(msgspec.json.decode(line, type=Job), ends))
    ending = asyncio.create_task(orders.read())
    await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
    ends.set()
    await working


if __name__ == "__main__":
    asyncio.run(main())
