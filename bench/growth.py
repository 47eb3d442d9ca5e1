"""What a command costs when there is much: the same load again and again while a ledger of its own grows.

One database, one process, one thing after the other: first events, then accounts, then open holds, 10 times as many
as at the start, and with `--long` 100 times. After each step the load of `in_process.uniform.512` runs once to warm up
and three times to be measured, with accounts drawn from all there are. `cost` is the rate at the start divided by the rate now. A step stands on those before
it, so the last figure is that of a ledger which has all of it. On the way the log is verified and replayed, once.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import asyncpg
import psutil

from bench.jobs import InProcess, InProcessShape, Load, Replay
from bench.processes import LoadProcess, run_ledger_command, until_quiet
from bench.stage import Stage
from service.benching.figures import Figures
from service.benching.pump import BenchError

NAME = "growth"
ROUNDS = 3
IN_FLIGHT = 512
FILL_BATCH = 1000
FILL_IN_FLIGHT = 4
FILL_PAIRS_MAX = 500_000
FILL_SECONDS_MAX = 3600.0
REPLAYED_EVENTS = 250_000
SIZES = """
select pg_total_relation_size('ledger.events') as log, pg_total_relation_size('ledger.accounts') as accounts,
       pg_total_relation_size('ledger.items') as items"""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Growth:
    """How far a ledger grows: to so many events, accounts and open holds, in steps."""

    events: tuple[int, ...]
    accounts: tuple[int, ...]
    holds: tuple[int, ...]
    seconds: float

    @property
    def steps(self) -> int:
        """How many steps the progress bar has."""
        return 2 + len(self.events) + len(self.accounts) + len(self.holds)


NORMAL = Growth(events=(1_000_000,), accounts=(100_000,), holds=(100_000,), seconds=1.2)
LONG = Growth(
    events=(1_000_000, 10_000_000), accounts=(100_000, 1_000_000), holds=(10_000, 100_000, 1_000_000), seconds=3.0
)
QUICK = Growth(events=(20_000,), accounts=(2_500,), holds=(2_000,), seconds=0.3)


async def grow(stage: Stage, plan: Growth, on_step: Step) -> Figures:
    """Lets a ledger grow and gives the figures on the way.

    Raises:
        BenchError: something was refused, or the log is not sound.
    """
    on_step("growth: the start")
    growing = Growing(stage, plan, await stage.start_in_process(NAME))
    await growing.measure("start")
    for events in plan.events:
        on_step(f"growth: {events:,} events")
        await growing.fill_events(events)
        await growing.measure(f"events.{events}")
        if events == plan.events[0]:
            on_step("growth: verify and replay")
            await growing.read_back()
    for accounts in plan.accounts:
        on_step(f"growth: {accounts:,} accounts")
        await growing.fill_accounts(accounts)
        await growing.measure(f"accounts.{accounts}")
    for holds in plan.holds:
        on_step(f"growth: {holds:,} open holds")
        await growing.fill_holds(holds)
        await growing.measure(f"holds.{holds}")
    await growing.weigh()
    return growing.found


class Growing:
    """A ledger that grows."""

    def __init__(self, stage: Stage, plan: Growth, process: LoadProcess) -> None:
        self.found: Figures = {}
        self._stage = stage
        self._plan = plan
        self._process = process
        self._accounts = stage.accounts
        self._holds = 0
        self._runs = 0

    async def measure(self, step: str) -> None:
        """Takes the rate, and what a command costs now."""
        rates: list[float] = []
        for _ in range(1 + ROUNDS):
            await until_quiet()
            pairs = int(max([*rates, 30_000]) * self._plan.seconds)
            rates.append(await self._run("pairs", pairs, seconds=self._plan.seconds))
        del rates[0]  # what the step left behind: cold caches, statistics that are not there yet
        self.found[f"growth.{step}.per_second"] = round(median(rates), 1)
        self.found[f"growth.{step}.memory_mib"] = round(self._process.memory_mib(), 1)
        start = float(self.found["growth.start.per_second"])
        self.found[f"growth.{step}.cost"] = round(start / median(rates), 3)

    async def fill_events(self, events: int) -> None:
        """Writes pairs in batches until the log has so many events."""
        began_at, before = perf_counter(), await self._stage.logged_events(NAME)
        while (missing := events - await self._stage.logged_events(NAME)) > 0:
            pairs = -(-missing // (2 * FILL_BATCH)) * FILL_BATCH  # batches leave in pairs
            await self._run("pairs", min(pairs, FILL_PAIRS_MAX), batch=FILL_BATCH)
        if (filled := events - before) > 0:
            self.found["growth.fill.per_second"] = round(filled / (perf_counter() - began_at), 1)

    async def fill_accounts(self, accounts: int) -> None:
        """Opens accounts until there are so many."""
        await self._run("opening_more", 0, batch=FILL_BATCH, first=self._accounts, accounts=accounts)
        self._accounts = accounts

    async def fill_holds(self, holds: int) -> None:
        """Makes holds that stay open, until there are so many."""
        await self._run("holds", holds - self._holds, batch=FILL_BATCH)
        self._holds = holds

    async def read_back(self) -> None:
        """Verifies the log as an auditor does, and replays a part of it."""
        directory, settings = self._stage.directory, self._stage.settings_of(NAME)
        peak = Peak()
        report = json.loads(await run_ledger_command("audit verify --json", settings, directory, watch=peak))
        if not report["sound"]:
            raise BenchError(f"the log is not sound: {report['faults']}")
        seconds, events = float(report["seconds"]), int(report["events"])
        self.found |= {
            "verify.events": events,
            "verify.seconds": round(seconds, 2),
            "verify.seconds_for_a_million": round(seconds * 1e6 / events, 2),
            "verify.per_second": round(events / seconds, 1),
            "verify.memory_mib": round(peak.mib, 1),
        }
        await until_quiet()
        window = await self._stage.wire.run(Replay(self._stage.url(NAME), REPLAYED_EVENTS))
        self.found |= {"replay.events": window.counted, "replay.per_second": round(window.per_second, 1)}

    async def weigh(self) -> None:
        """Takes the sizes of the tables, and the memory of a process that has had to do with all accounts."""
        connection = await asyncpg.connect(self._stage.url(NAME))
        try:
            sizes = (await connection.fetch(SIZES))[0]
        finally:
            await connection.close()
        events = await self._stage.stored_events(NAME)
        self.found |= {
            "growth.end.accounts": self._accounts,
            "growth.end.events": events,
            "growth.end.holds": self._holds,
            "growth.end.memory_mib": round(self._process.memory_mib(), 1),
            "growth.end.log_bytes_an_event": round(sizes["log"] / events, 1),
            **{f"growth.end.{name}_mib": round(size / 2**20, 1) for name, size in sizes.items()},
        }
        if events != await self._stage.logged_events(NAME):
            raise BenchError("the heads and the log of the ledger that grew do not agree")

    async def _run(
        self,
        shape: InProcessShape,
        pairs: int,
        *,
        seconds: float = FILL_SECONDS_MAX,
        batch: int = 0,
        first: int = 0,
        accounts: int | None = None,
    ) -> float:
        """Runs one job; its rate."""
        self._runs += 1
        load = Load(
            run=f"growth-{self._runs}",
            accounts=accounts or self._accounts,
            in_flight=FILL_IN_FLIGHT if batch else IN_FLIGHT,
            seconds=seconds,
            pairs=pairs,
            batch=batch,
            first=first,
        )
        stage = self._stage
        return (await self._process.run(InProcess(load, stage.url(NAME), stage.catalog, shape))).per_second


class Peak:
    """The most memory that a process and those below it had at once, each with what it shares."""

    def __init__(self) -> None:
        self.mib = 0.0

    def __call__(self, process_id: int) -> None:
        """Looks at a process."""
        total = 0
        try:
            process = psutil.Process(process_id)
            for each in (process, *process.children(recursive=True)):
                total += each.memory_info().rss
        except psutil.Error:
            return
        self.mib = max(self.mib, total / 2**20)
