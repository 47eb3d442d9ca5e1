"""Kills of the service, of NATS and of PostgreSQL under load: no command lost or applied twice, and the stream is the log.

The long run has the reference generation service in the same world, and kills that too: every job is settled once.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest

from tests.bus.generating import TEAM, Generating
from tests.bus.world import World, ask, check, open_account, post, settled, submit, world
from tests.servers import eventually

KILLED = ("service", "nats", "postgres")
GENERATION = "generation"
KILLS_OF_EACH = int(os.environ.get("LEDGER_SOAK_KILLS", "100"))

Spend = Callable[[World, str, int], Awaitable[None]]


async def durably(under_load: World, account: str, number: int) -> None:
    """Hold a credit and consume it by durable commands."""
    hold = {"account": account, "reservation_id": f"{account}-{number}"}
    await submit(under_load, "reserve", {**hold, "amount": 1, "idempotency_key": f"r{number}"})
    await submit(under_load, "consume", {**hold, "idempotency_key": f"c{number}"})


async def over_http(under_load: World, account: str, number: int) -> None:
    """Hold a credit and consume it over HTTP, again with the same keys for as long as there is no answer."""
    path = f"/v1/accounts/{account}/reservations"
    await post(under_load, path, {"reservation_id": f"{account}-{number}", "amount": 1}, f"r{number}")
    await post(under_load, f"{path}/{account}-{number}/consume", {}, f"c{number}")


async def over_nats(under_load: World, account: str, number: int) -> None:
    """Consume a credit over NATS, again with the same key for as long as there is no answer."""
    await ask(under_load, "consume", {"account": account, "amount": 1, "idempotency_key": f"c{number}"})


SPENDERS: dict[str, Spend] = {
    **{f"d{number}": durably for number in range(6)},
    **{f"h{number}": over_http for number in range(2)},
    **{f"n{number}": over_nats for number in range(2)},
}


class UnderLoad:
    """A world in which credits are spent in three ways until told to stop."""

    def __init__(self, of: World, generating: Generating | None = None) -> None:
        self.world = of
        self.generating = generating
        self.spent: Counter[str] = Counter()
        self._told = asyncio.Event()
        self._spending: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for account in SPENDERS:
            await open_account(self.world, account)
        if self.generating is not None:
            await self.generating.start()
        await settled(self.world)
        self._spending = [asyncio.create_task(self._spend(account, spend)) for account, spend in SPENDERS.items()]

    async def _spend(self, account: str, spend: Spend) -> None:
        while not self._told.is_set():
            await spend(self.world, account, self.spent[account] + 1)
            self.spent[account] += 1

    async def goes_on(self, number: int, *, answered: bool = True) -> None:
        """Wait until so many more were spent, and some of them answered by the service itself, a job too where there are any."""
        enough, answers, jobs = self.spent.total() + number, self._answers() + answered, self._jobs() + answered

        def is_enough() -> bool:
            taken = self.generating is None or self._jobs() >= jobs
            spent = self.spent.total() >= enough and self._answers() >= answers and taken
            return spent or any(task.done() for task in self._spending)

        await eventually(is_enough, "the load goes on")
        for task in self._spending:
            if task.done():
                task.result()
        if self.generating is not None:
            self.generating.check()

    async def kill(self, what: str) -> None:
        """Kill one of all that runs here and start it again."""
        if what == GENERATION and self.generating is not None:
            await self.generating.kill()
        else:
            await self.world.kill(what)

    def _jobs(self) -> int:
        return 0 if self.generating is None else self.generating.jobs

    def _answers(self) -> int:
        return sum(count for account, count in self.spent.items() if SPENDERS[account] is not durably)

    async def stop(self) -> None:
        """Stop at once, as after a failure."""
        for task in self._spending:
            task.cancel()
        if self.generating is not None:
            await self.generating.stop()

    async def is_sound(self) -> None:
        """Stop, wait for the outcomes, and look at everything."""
        self._told.set()
        await asyncio.gather(*self._spending)
        spent, accounts = dict(self.spent), len(SPENDERS)
        if self.generating is not None:
            spent[TEAM] = await self.generating.cost()
            accounts += 1
        await settled(self.world)
        await check(self.world, spent, 2 * self.durable + 2 * accounts)

    def tell(self, of: str) -> None:
        """Print what was done."""
        spends = Counter(spend.__name__ for account, spend in SPENDERS.items() for _ in range(self.spent[account]))
        print(f"{of}, spent {dict(spends)}, {self._jobs()} jobs")  # noqa: T201 - the figures of a soak are its result

    @property
    def durable(self) -> int:
        """How many credits were spent by durable commands."""
        return sum(count for account, count in self.spent.items() if SPENDERS[account] is durably)


async def survives(seed: int, order: list[str], *, generating: bool) -> None:
    chosen = random.Random(seed)
    chosen.shuffle(order)
    began = monotonic()
    async with world() as of:
        load = UnderLoad(of, Generating(of) if generating else None)
        try:
            await load.start()
            for what in order:
                # Some kills come while the last one is still being recovered from.
                await load.goes_on(chosen.randrange(1, 60), answered=chosen.random() < 0.75)
                await load.kill(what)
            await load.is_sound()
        finally:
            await load.stop()
    load.tell(f"seed {seed}, {monotonic() - began:.0f} s, killed {dict(Counter(order))}")


async def test_a_kill_of_each_loses_nothing_and_applies_nothing_twice() -> None:
    await survives(1, [*KILLED], generating=False)


@pytest.mark.soak
async def test_a_service_that_was_frozen_while_another_took_over_changes_nothing_when_it_wakes_up() -> None:
    async with world() as of:
        await of.add_service()
        load = UnderLoad(of)
        await load.start()
        js = of.client.jetstream()
        for number in (0, 1, 0, 1):
            await load.goes_on(20)
            before = (await js.stream_info("CREDITS_RESULTS")).state.messages

            async def goes_on(before: int = before) -> bool:
                return (await js.stream_info("CREDITS_RESULTS")).state.messages > before + 600

            await of.freeze(number, goes_on)
        await load.is_sound()


@pytest.mark.soak
@pytest.mark.timeout(7200)
async def test_a_hundred_kills_of_each_lose_nothing_and_apply_nothing_twice() -> None:
    """LEDGER_SOAK_KILLS says how many of each; LEDGER_SOAK_SEED which ones, when. -rP shows what was done."""
    order = [*KILLED] * KILLS_OF_EACH + [GENERATION] * (KILLS_OF_EACH // 5)
    await survives(int(os.environ.get("LEDGER_SOAK_SEED", "2")), order, generating=True)
