"""What callers feel of all projections being built again, and what readers see of it.

`python -m bench --only rebuild --events 1000000`. A ledger in process writes a log of so many events; a service takes it
over and is sent 2,000 commands a second over NATS, at an even pace, answered or not. First alone; then beside `credit-ledger
projections verify`, a process of its own that builds every projection again, compares and switches. All the while this
process reads over HTTP what projections are for, one read after the other. A read fails when it is not answered with
200, and goes back when its `as_of` is before that of the same read earlier.
"""

import asyncio
from statistics import median
from time import perf_counter

import aiohttp
import orjson

from bench.jobs import InProcess, Load
from bench.lag import paced
from bench.processes import run_ledger_command, start_service, stop_process, until_quiet
from bench.stage import Stage, free_port
from service.benching.pump import BenchError, Window, percentile
from service.benching.requests import account_name

NAME = "rebuild"
EVENTS = 100_000
COMMANDS_PER_SECOND = 2_000
FILL_IN_FLIGHT = 512
FILL_SECONDS_MAX = 1800.0
CATCH_UP_SECONDS_MAX = 600.0
SECONDS = 10.0
WINDOWS = 3
READ_SECONDS = 0.02
ACCOUNTS = 10_000
TARGET_TIMES = 2.0
PATHS = (
    "/v1/accounts/{account}/usage",
    "/v1/accounts/{account}/transactions?type=consumed&limit=20",
    "/v1/accounts/{account}/audit?limit=20",
    "/v1/accounts/{account}/statement?limit=20",
    "/v1/usage",
    "/v1/finance/summary",
    "/v1/accounts?limit=20",
    "/v1/reports/reserve-hints",
)


class Reader:
    """Reads again and again."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._reached: dict[tuple[str, str], int] = {}
        self.seconds: list[float] = []
        self.failed: list[str] = []
        self.back = 0

    async def run(self) -> None:
        """Reads until it is cancelled."""
        number = 0
        async with aiohttp.ClientSession() as session:
            while True:
                path = PATHS[number % len(PATHS)].format(account=account_name(number % 7))
                number += 1
                await self._read(session, path)
                await asyncio.sleep(READ_SECONDS)

    async def _read(self, session: aiohttp.ClientSession, path: str) -> None:
        began_at = perf_counter()
        try:
            async with session.get(f"{self._url}{path}") as answer:
                body = await answer.read()
        except aiohttp.ClientError as error:
            self.failed.append(f"{path}: {error!r}")
            return
        self.seconds.append(perf_counter() - began_at)
        if answer.status != 200:
            self.failed.append(f"{path}: {answer.status} {body[:200]!r}")
            return
        for token in str(orjson.loads(body).get("as_of") or "").split(","):
            partition, _, position = token.partition("-")
            if position.isdigit():
                self.back += int(position) < self._reached.get((path, partition), 0)
                self._reached[path, partition] = int(position)


async def rebuild(*, quick: bool, events: int | None = None) -> dict[str, float]:
    """The figures; latencies of commands are the median of windows of ten seconds, and the worst of them."""
    accounts, events = (500, events or 3_000) if quick else (ACCOUNTS, events or EVENTS)
    seconds = 0.5 if quick else SECONDS
    async with Stage(accounts) as stage:
        process = await stage.start_in_process(NAME)
        load = Load(
            run="fill", accounts=accounts, in_flight=FILL_IN_FLIGHT, seconds=FILL_SECONDS_MAX, pairs=events // 2
        )
        await process.run(InProcess(load, stage.url(NAME), stage.catalog, "mixed"))
        await process.stop()
        stage.http_port = free_port()
        settings = stage.settings_of(NAME)
        service = await start_service(settings, stage.directory, stage.http_port)
        try:
            return await beside(stage, settings, seconds)
        finally:
            await stop_process(service)


async def beside(stage: Stage, settings: dict[str, str], seconds: float) -> dict[str, float]:
    """Loads alone and then beside a rebuild, with a reader all the time."""
    await caught_up(stage)
    events = await stage.logged_events(NAME)
    await until_quiet()
    reader = Reader(stage.http_port)
    reading = asyncio.create_task(reader.run())
    await paced(stage, "warm", COMMANDS_PER_SECOND, seconds)
    alone = [await paced(stage, f"alone-{number}", COMMANDS_PER_SECOND, seconds) for number in range(WINDOWS)]
    reads_alone = sorted(reader.seconds)
    reader.seconds.clear()
    began_at = perf_counter()
    building = asyncio.create_task(run_ledger_command("projections verify", settings, stage.directory))
    building.add_done_callback(lambda _: ended_at.append(perf_counter()))
    ended_at: list[float] = []
    during: list[Window] = []
    while not building.done():
        during.append(await paced(stage, f"beside-{len(during)}", COMMANDS_PER_SECOND, seconds))
    await building
    reading.cancel()
    await asyncio.wait({reading})
    if reader.failed:
        raise BenchError(f"{len(reader.failed)} reads failed: {reader.failed[:3]}")
    if reader.back:
        raise BenchError(f"{reader.back} reads went back in time")
    before, after = median(each.p99_ms or 0 for each in alone), median(each.p99_ms or 0 for each in during)
    return {
        "rebuild.events": events,
        "rebuild.seconds": round(ended_at[0] - began_at, 1),
        "rebuild.alone.per_second": round(median(each.acknowledged for each in alone) / seconds, 1),
        "rebuild.per_second": round(median(each.acknowledged for each in during) / seconds, 1),
        "rebuild.alone.p50_ms": round(median(each.p50_ms or 0 for each in alone), 2),
        "rebuild.p50_ms": round(median(each.p50_ms or 0 for each in during), 2),
        "rebuild.alone.p99_ms": round(before, 2),
        "rebuild.p99_ms": round(after, 2),
        "rebuild.p99_ms.worst": round(max(each.p99_ms or 0 for each in during), 2),
        "rebuild.alone.p99_ms.worst": round(max(each.p99_ms or 0 for each in alone), 2),
        "rebuild.p99_ms.times": round(after / before, 2),
        "rebuild.p99_ms.times.target": TARGET_TIMES,
        "rebuild.reads": len(reader.seconds),
        "rebuild.reads.alone.p99_ms": round(percentile(reads_alone, 0.99) * 1e3, 2),
        "rebuild.reads.p99_ms": round(percentile(sorted(reader.seconds), 0.99) * 1e3, 2),
    }


async def caught_up(stage: Stage) -> None:
    """Waits until the service has projected the log that it found."""
    async with asyncio.timeout(CATCH_UP_SECONDS_MAX):
        while await stage.projected_events(NAME) < await stage.logged_events(NAME):  # noqa: ASYNC110 -- nothing announces it
            await asyncio.sleep(0.5)
