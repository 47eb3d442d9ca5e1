"""What one round of load is: prepared requests handed out to lanes, and the time until each answer.

A lane is one caller that always has exactly one request under way: a connection, a subject, a task. Requests come in
pairs (a reserve and the consume that ends it) and a lane finishes its pair before it takes the next one, so nothing is
left open at the end. The window ends at the deadline, or earlier when there is nothing more to hand out; answers
inside the window count for the rate. Requests under way at the deadline are awaited and checked too, and their
latency counts: the slowest ones are always among them.
"""

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter, process_time
from typing import Generic, TypeVar

import msgspec

Request = TypeVar("Request")

DRAIN_SECONDS_MAX = 30.0


class BenchError(Exception):
    """A figure that would be wrong: a refused command, a lost answer, a log that does not add up."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one round of one case.

    `load_cpu_us` is the CPU time of the load process for each answer: what the load generator takes from the server,
    or, for a ledger in process, all of the Python that a command costs.
    """

    per_second: float
    counted: int
    acknowledged: int
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    load_cpu_us: float | None = None


class Pump(Generic[Request]):
    """Hands out pairs of requests to lanes and takes the time of each answer."""

    def __init__(self, pairs: Iterable[tuple[Request, Request]], lanes: int, seconds: float) -> None:
        self._pairs = iter(pairs)
        self._second: list[Request | None] = [None] * lanes
        self._sent_at = [0.0] * lanes
        self._latencies = array("d")
        self._busy = lanes
        self._seconds = seconds
        self._counted = 0
        self._acknowledged = 0
        self._began_at = 0.0
        self._ended_at = 0.0
        self._cpu_seconds = 0.0
        self._open = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Opens the window; from here on the lanes may take requests."""
        self._open = True
        self._cpu_seconds = -process_time()
        self._began_at = perf_counter()
        asyncio.get_running_loop().call_later(self._seconds, self._end)

    def take(self, lane: int) -> Request | None:
        """The next request of a lane, or None when the lane has nothing more to do."""
        request = self._second[lane]
        if request is not None:
            self._second[lane] = None
        else:
            pair = next(self._pairs, None) if self._open else None
            if pair is None:
                self._retire()
                return None
            request, self._second[lane] = pair
        self._sent_at[lane] = perf_counter()
        return request

    def answered(self, lane: int) -> None:
        """Counts the good answer to the lane's request."""
        sent_at = self._sent_at[lane]
        self._acknowledged += 1
        if self._open:
            self._counted += 1
            self._latencies.append(perf_counter() - sent_at)
        elif sent_at <= self._ended_at:
            self._latencies.append(perf_counter() - sent_at)

    def fail(self, error: Exception) -> None:
        """Ends the round with an error; the first one is the one that is told."""
        self._end()
        if not self._done.done():
            self._done.set_exception(error)

    async def result(self) -> Window:
        """Waits until every lane is done and gives the round's figures.

        Raises:
            BenchError: an answer was wrong or one did not come in time.
        """
        try:
            async with asyncio.timeout(self._seconds + DRAIN_SECONDS_MAX):
                await self._done
        except TimeoutError:
            raise BenchError(f"{self._busy} lanes still wait for an answer after the deadline") from None
        seconds = self._ended_at - self._began_at
        ordered = sorted(self._latencies)
        return Window(
            per_second=self._counted / seconds,
            counted=self._counted,
            acknowledged=self._acknowledged,
            seconds=seconds,
            p50_ms=percentile(ordered, 0.50) * 1e3,
            p99_ms=percentile(ordered, 0.99) * 1e3,
            load_cpu_us=self._cpu_seconds / max(1, self._counted) * 1e6,
        )

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._ended_at = perf_counter()
            self._cpu_seconds += process_time()

    def _retire(self) -> None:
        self._end()
        self._busy -= 1
        if not self._busy and not self._done.done():
            self._done.set_result(None)


async def run_lanes(pump: Pump[Request], submits: Sequence[Callable[[Request], Awaitable[None]]]) -> Window:
    """Opens the window and runs a task for each lane, which awaits its `submit` for one request after the other.

    Raises:
        BenchError: a request failed, or one was not answered in time.
    """

    async def run_lane(lane: int, submit: Callable[[Request], Awaitable[None]]) -> None:
        try:
            while (request := pump.take(lane)) is not None:
                await submit(request)
                pump.answered(lane)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it ends the round and is told
            pump.fail(error)

    pump.start()
    lanes = [asyncio.create_task(run_lane(lane, submit)) for lane, submit in enumerate(submits)]
    try:
        return await pump.result()
    finally:
        for task in lanes:
            task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ordered values lie (nearest rank).

    Raises:
        BenchError: there is no value.
    """
    if not ordered:
        raise BenchError("a round without a single answer has no percentile")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
