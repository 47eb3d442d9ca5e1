"""How fast all projections are built again from a log, and what an event costs on the way.

`python -m bench --only projections`. The ledger writes a log of its own on 10,000 accounts: half of its commands are
pairs of reserve and consume, a quarter direct consumptions and their refunds, a quarter reserves and their releases. Then
every projection is built again by what `credit-ledger projections verify` runs, in this process, some times over. The
rate is that of events through all of them, until the last one has the last event; comparing with what was read before
is told apart. Nothing else is at work.
"""

from collections.abc import Sequence
from statistics import median
from time import perf_counter, process_time

from bench.jobs import InProcess, Load
from bench.processes import children_cpu_seconds, until_quiet
from bench.rounds import FULL, QUICK
from bench.stage import Stage
from service.benching.pump import BenchError
from service.process import tune_collector
from service.projection_commands import build_again
from service.store.log import Log
from service.store.projected import PROJECTIONS
from service.store.projecting import Generation

NAME = "projections"
EVENTS = 150_000
EVENTS_QUICK = 3_000
ROUNDS = 5
IN_FLIGHT = 512
FILL_SECONDS_MAX = 600.0
TARGET_PER_SECOND = 40_000.0


async def projections(*, quick: bool) -> dict[str, float]:
    """The figures; medians of the rounds."""
    accounts, events, rounds = (QUICK.accounts, EVENTS_QUICK, 1) if quick else (FULL.accounts, EVENTS, ROUNDS)
    async with Stage(accounts) as stage:
        await fill(stage, events)
        log = await Log.connect(stage.url(NAME), connections=4)
        tune_collector()
        try:
            found = [await build(stage, log) for _ in range(1 + rounds)]
        finally:
            await log.close()
    del found[0]  # it builds what was never built as well
    return {
        "projections.events": found[0]["events"],
        **{
            f"projections.{name}": round(median(each[name] for each in found), 2)
            for name in ("per_second", "python_us", "postgres_us", "compare_seconds")
        },
        "projections.per_second.target": TARGET_PER_SECOND,
    }


async def fill(stage: Stage, events: int) -> None:
    """Has a ledger in process write the log."""
    process = await stage.start_in_process(NAME)
    load = Load(run="fill", accounts=stage.accounts, in_flight=IN_FLIGHT, seconds=FILL_SECONDS_MAX, pairs=events // 2)
    await process.run(InProcess(load, stage.url(NAME), stage.catalog, "mixed"))


async def build(stage: Stage, log: Log) -> dict[str, float]:
    """One time over; the figures of this round.

    Raises:
        BenchError: what was built says something else than what was read before.
    """
    await until_quiet()
    events = await stage.logged_events(NAME)
    began_at, cpu, cpu_of_servers = perf_counter(), process_time(), children_cpu_seconds()
    figures: dict[str, float] = {}

    def show(generations: Sequence[Generation]) -> None:
        if not figures and all(each.position == each.head for each in generations):
            figures["events"] = events
            figures["per_second"] = events / (perf_counter() - began_at)
            figures["python_us"] = (process_time() - cpu) / events * 1e6
            figures["postgres_us"] = (children_cpu_seconds() - cpu_of_servers) / events * 1e6

    differing = await build_again(log, sorted(PROJECTIONS), show)
    if differing:
        raise BenchError(f"built again, something else is said by {', '.join(differing)}")
    figures["compare_seconds"] = perf_counter() - began_at - events / figures["per_second"]
    return figures
