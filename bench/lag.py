"""How long after its recording an event is in the projections, while a service takes 5,000 commands a second.

`python -m bench --only lag`. A service as `credit-ledger serve` runs it, with its publisher, is sent pairs of reserve and
consume over NATS from a process of its own; they arrive at an even pace, answered or not. Once the service keeps the
projections itself (`inside`), once `credit-ledger projections run` does in a process of its own (`apart`). Beside it this
process asks PostgreSQL every 20 ms how far all projections that are read have come, over a connection of its own. The lag
of an event is the time of the first answer that has it in every projection, less its `recorded_at`, which the writer takes
before it decides: so it is never less than what is meant, and up to 20 ms more. All run on one machine, with one clock.
"""

import asyncio
from collections.abc import Sequence
from time import time

import asyncpg

from bench.cases import SUBJECT
from bench.jobs import Load, Nats
from bench.processes import until_quiet
from bench.stage import Stage
from service.benching.pump import BenchError, Window, percentile

COMMANDS_PER_SECOND = 5_000
IN_FLIGHT = 1024
WARM_UP_SECONDS = 3.0
SECONDS = 15.0
LOOK_SECONDS = 0.02
SETTLE_SECONDS_MAX = 30.0
ACCOUNTS = 2_000
TARGET_P99_MS = 200.0
REACHED = """
select k.partition, min(k.position) as position
from projections.current c join projections.checkpoints k on k.name = c.name and k.generation = c.generation
group by k.partition"""
RECORDED = """
select partition, position, extract(epoch from recorded_at)::float8 as at from ledger.events
where recorded_at >= to_timestamp($1)"""

Look = tuple[float, dict[int, int]]
"""When an answer came, and how far the partitions were."""


async def lag(*, quick: bool) -> dict[str, float]:
    """The figures, in ms."""
    found: dict[str, float] = {}
    for where in ("inside", "apart"):
        figures = await of_projector(where, quick=quick)
        found |= {f"lag.{where}.{name}": value for name, value in figures.items()}
    return {**found, "lag.apart.p99_ms.target": TARGET_P99_MS}


async def of_projector(where: str, *, quick: bool) -> dict[str, float]:
    """The figures with a projector inside of the service or apart from it."""
    per_second, seconds, accounts = (500, 1.0, 200) if quick else (COMMANDS_PER_SECOND, SECONDS, ACCOUNTS)
    async with Stage(accounts) as stage:
        stage.more_settings["LEDGER_PROJECTOR"] = where
        await stage.prepare({"service"}, 0)
        if where == "apart":
            await stage.start_projector("service")
        await until_quiet()
        connection = await asyncpg.connect(stage.url("service"))
        try:
            await paced(stage, "warm", per_second, min(WARM_UP_SECONDS, seconds))
            began_at = time()
            looks: list[Look] = []
            looking = asyncio.create_task(look(connection, looks))
            window = await paced(stage, "lag", per_second, seconds)
            await settled(stage, looks)
            looking.cancel()
            await asyncio.wait({looking})
            rows = await connection.fetch(RECORDED, began_at)
        finally:
            await connection.close()
    lags = lags_of(looks, [(row["partition"], row["position"], row["at"]) for row in rows])
    return {
        "commands.per_second": round(window.acknowledged / seconds, 1),
        "commands.p99_ms": round(window.p99_ms or 0.0, 2),
        "events": len(lags),
        "p50_ms": round(percentile(lags, 0.50), 1),
        "p99_ms": round(percentile(lags, 0.99), 1),
        "max_ms": round(lags[-1], 1),
    }


async def paced(stage: Stage, run: str, per_second: float, seconds: float) -> Window:
    """Commands at an even pace, answered or not."""
    load = Load(
        run=run,
        accounts=stage.accounts,
        in_flight=IN_FLIGHT,
        seconds=seconds,
        pairs=int(per_second * seconds),
        per_second=per_second,
    )
    return await stage.wire.run(Nats(load, stage.nats_port, SUBJECT, "pairs", 201))


async def look(connection: asyncpg.Connection, looks: list[Look]) -> None:
    """Asks again and again how far the projections are."""
    while True:
        rows = await connection.fetch(REACHED)
        looks.append((time(), {row["partition"]: row["position"] for row in rows}))
        await asyncio.sleep(LOOK_SECONDS)


async def settled(stage: Stage, looks: list[Look]) -> None:
    """Waits until the projections have all that was written."""
    async with asyncio.timeout(SETTLE_SECONDS_MAX):
        events = await stage.logged_events("service")
        while sum(looks[-1][1].values()) < events:  # noqa: ASYNC110 -- nothing announces it
            await asyncio.sleep(LOOK_SECONDS)


def lags_of(looks: Sequence[Look], events: Sequence[tuple[int, int, float]]) -> list[float]:
    """From the recording of each event to the first look that saw it; ms, sorted."""
    lags: list[float] = []
    at: dict[int, int] = {}
    for partition, position, recorded_at in sorted(events):
        number = at.get(partition, 0)
        while looks[number][1][partition] < position:
            number += 1
            if number == len(looks):
                raise BenchError(f"event {partition}-{position} never came")
        at[partition] = number
        lags.append((looks[number][0] - recorded_at) * 1e3)
    return sorted(lags)
