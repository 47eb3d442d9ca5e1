"""What a caller feels of another one who floods, and what 100 requests at once cost beside one.

`python -m bench --only fairness`. A quiet caller keeps a few requests in flight, alone and beside a flood, by turns; the
flood is another caller, from a process of its own, with many requests in flight that are sent again as soon as they are
answered. The figures are medians over the rounds.
"""

import asyncio
from collections.abc import Callable
from statistics import median

from bench.jobs import Http, Job, Load, Nats
from bench.processes import LoadProcess, until_quiet
from bench.stage import Stage
from service.benching.pump import Window

QUIET_IN_FLIGHT = 8
FLOOD_IN_FLIGHT = 1024
FLOOD_CONNECTIONS = 512
TARGET_TIMES = 2.0

MakeJob = Callable[[Load], Job]


async def fairness(*, quick: bool) -> dict[str, float]:
    """The figures: p99 alone and beside the flood for each way in, and the time of one and of 100 at once."""
    rounds, seconds = (1, 0.3) if quick else (3, 1.5)
    found: dict[str, float] = {}
    async with Stage(500) as stage:
        await stage.prepare({"service"}, 0)
        flooding = await LoadProcess.start()
        try:
            for name, quiet, flood, lanes in ways(stage):
                alone, beside = list[Window](), list[Window]()
                for number in range(rounds):
                    run = f"{name}-{number}".replace(".", "_")
                    await until_quiet()
                    alone.append(await stage.wire.run(quiet(load(f"{run}-alone", QUIET_IN_FLIGHT, seconds))))
                    others = asyncio.create_task(flooding.run(flood(load(f"{run}-flood", lanes, 2 * seconds))))
                    await asyncio.sleep(seconds / 3)
                    beside.append(await stage.wire.run(quiet(load(f"{run}-beside", QUIET_IN_FLIGHT, seconds))))
                    await others
                found |= compared(name, alone, beside)
            for lanes in (1, 100):
                await until_quiet()
                window = await stage.wire.run(nats(stage, "quiet")(load(f"at-once-{lanes}", lanes, seconds)))
                found[f"fairness.at_once.{lanes}.p50_ms"] = round(window.p50_ms or 0.0, 2)
        finally:
            await flooding.stop()
    return found


def ways(stage: Stage) -> list[tuple[str, MakeJob, MakeJob, int]]:
    """Where the quiet caller comes in, and where the flood does."""

    def http(load_: Load) -> Job:
        return Http(load_, stage.http_port, "pairs", 201)

    return [
        ("fairness.nats.beside.nats", nats(stage, "quiet"), nats(stage, "flood"), FLOOD_IN_FLIGHT),
        ("fairness.http.beside.nats", http, nats(stage, "flood"), FLOOD_IN_FLIGHT),
        ("fairness.nats.beside.http", nats(stage, "quiet"), http, FLOOD_CONNECTIONS),
    ]


def nats(stage: Stage, caller: str) -> MakeJob:
    """A caller over NATS."""
    return lambda load_: Nats(
        load_, stage.nats_port, (f"credits.cmd.{caller}", f"credits.query.{caller}"), "pairs", 201
    )


def load(run: str, in_flight: int, seconds: float) -> Load:
    """More pairs than any of them can use."""
    return Load(run=run, accounts=500, in_flight=in_flight, seconds=seconds, pairs=int(20_000 * seconds))


def compared(name: str, alone: list[Window], beside: list[Window]) -> dict[str, float]:
    """Medians of the rounds, and how many times longer it takes beside the flood."""
    found: dict[str, float] = {}
    for figure in ("p50_ms", "p99_ms"):
        before, after = (median(getattr(window, figure) for window in windows) for windows in (alone, beside))
        found[f"{name}.alone.{figure}"] = round(before, 2)
        found[f"{name}.{figure}"] = round(after, 2)
        found[f"{name}.{figure}.times"] = round(after / before, 2)
    found[f"{name}.p99_ms.times.target"] = TARGET_TIMES
    return found
