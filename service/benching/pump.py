"""What one round of load is: prepared requests handed out to lanes, and the time until each answer.

A lane is one caller that has at most one request under way: a connection, a subject, a task. Requests come in pairs (a
reserve and the consume that ends it) and a lane finishes its pair before it takes the next one, so nothing is left open
at the end. The window ends at the deadline, or earlier when there is nothing more to hand out. Its first fifth only fills
the pipe; the rate is that of the answers behind it. Requests under way at the deadline are awaited and checked too,
and their latency counts: the slowest ones are always among them.

Batches are answered in lumps, and a clock that starts or stops between two lumps counts wrong. So their rate is that of
all that was answered, until the last answer: a little low, because the last ones have fewer beside them.

A `Pump` is a closed loop: each lane sends as soon as it was answered, which finds the maximal rate. An `OpenPump` is an
open loop: pairs arrive at given instants whether or not earlier ones were answered, and a latency counts from the instant
of the arrival, so that a stall is seen by everybody who would have come in the meantime.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter, process_time
from typing import Generic, TypeVar

import msgspec

Request = TypeVar("Request")

DRAIN_SECONDS_MAX = 30.0
TICK_SECONDS = 0.001
FILLING_SHARE = 0.2


class BenchError(Exception):
    """A figure that would be wrong: a refused command, a lost answer, a log that does not add up."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one round of one case.

    Rates and counts are of commands, of which a batch has many; latencies are those of requests. `load_cpu_us` is the CPU
    time of the load process for each command: what the load generator takes from the server, or, for a ledger in process,
    all of the Python that a command costs.
    """

    per_second: float
    counted: int
    acknowledged: int
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    load_cpu_us: float | None = None


class Pump(Generic[Request]):
    """Hands out pairs of requests, each of `weight` commands, to lanes and takes the time of each answer."""

    def __init__(
        self, pairs: Iterable[tuple[Request, Request]], lanes: int, seconds: float, *, weight: int = 1
    ) -> None:
        self.lanes = lanes
        self.wake: Callable[[Sequence[int]], None] = lambda _: None
        """Told which idle lanes have a request to take; a closed loop never idles."""
        self._pairs = iter(pairs)
        self._second: list[Request | None] = [None] * lanes
        self._sent_at = [0.0] * lanes
        self._latencies = array("d")
        self._while_filling = array("d")
        self._busy = lanes
        self._seconds = seconds
        self._weight = weight
        self._counted = 0
        self._acknowledged = 0
        self._began_at = 0.0
        self._counts_from = 0.0
        self._ended_at = 0.0
        self._cpu_seconds = 0.0
        self._cpu_commands = 0
        self._open = False
        self._is_late = False
        self._deadline: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Opens the window; from here on the lanes may take requests."""
        self._open = True
        self._cpu_seconds = -process_time()
        self._began_at = perf_counter()
        self._counts_from = self._began_at + FILLING_SHARE * self._seconds
        self._deadline = asyncio.get_running_loop().call_later(self._seconds, self._come_to_deadline)

    def take(self, lane: int) -> Request | None:
        """The next request of a lane, or None when the lane has nothing to do now."""
        request = self._second[lane]
        if request is not None and not (self._is_late and self._weight > 1):  # a batch leaves nothing open
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
        now, sent_at = perf_counter(), self._sent_at[lane]
        self._acknowledged += self._weight
        if not self._open:
            if sent_at <= self._ended_at:
                self._latencies.append(now - sent_at)
        elif now >= self._counts_from:
            self._counted += self._weight
            self._latencies.append(now - sent_at)
        else:
            self._while_filling.append(now - sent_at)

    def fail(self, error: Exception) -> None:
        """Ends the round with an error; the first one is the one that is told."""
        self._end()
        if not self._done.done():
            self._done.set_exception(error)
            self._done.exception()  # whoever never comes to wait for the result has heard of another error

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
        counted, seconds = self._counted, self._ended_at - self._counts_from
        if self._weight > 1 or not counted or seconds <= 0:
            counted, seconds = self._acknowledged, perf_counter() - self._began_at
        ordered = sorted(self._latencies or self._while_filling)
        return Window(
            per_second=counted / seconds,
            counted=counted,
            acknowledged=self._acknowledged,
            seconds=seconds,
            p50_ms=percentile(ordered, 0.50) * 1e3,
            p99_ms=percentile(ordered, 0.99) * 1e3,
            load_cpu_us=self._cpu_seconds / self._cpu_commands * 1e6 if self._cpu_commands else None,
        )

    def _come_to_deadline(self) -> None:
        self._is_late = True
        self._end()

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._ended_at = perf_counter()
            self._cpu_seconds += process_time()
            self._cpu_commands = self._acknowledged
            if self._deadline is not None:
                self._deadline.cancel()

    def _retire(self) -> None:
        self._end()
        self._busy -= 1
        if not self._busy and not self._done.done():
            self._done.set_result(None)


class OpenPump(Pump[Request]):
    """Hands out pairs as they arrive, `pairs_per_second` of them at even distances."""

    def __init__(
        self,
        pairs: Iterable[tuple[Request, Request]],
        lanes: int,
        seconds: float,
        *,
        pairs_per_second: float,
        weight: int = 1,
    ) -> None:
        super().__init__(pairs, lanes, seconds, weight=weight)
        self._every = 1 / pairs_per_second
        self._arrived = 0
        self._idle: list[int] = []

    def start(self) -> None:
        """Opens the window and lets pairs arrive."""
        super().start()
        asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def take(self, lane: int) -> Request | None:
        """The second request of the lane's pair at once, else the next pair that has arrived; its time runs already."""
        if self._second[lane] is not None or not self._open:
            return super().take(lane)
        due_at = self._began_at + self._arrived * self._every
        if due_at > perf_counter():
            self._idle.append(lane)
            return None
        self._arrived += 1
        request = super().take(lane)
        self._sent_at[lane] = due_at
        return request

    def _tick(self) -> None:
        if not self._open:
            for _ in range(len(self._idle)):
                self._retire()
            self._idle.clear()
            return
        arrived = int((perf_counter() - self._began_at) / self._every) + 1
        woken = [self._idle.pop() for _ in range(min(len(self._idle), arrived - self._arrived))]
        asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        if woken:
            self.wake(woken)


async def run_lanes(pump: Pump[Request], submits: Sequence[Callable[[Request], Awaitable[None]]]) -> Window:
    """Opens the window and runs a task for each lane, which awaits its `submit` for one request after the other.

    Raises:
        BenchError: a request failed, or one was not answered in time.
    """
    tasks: dict[int, asyncio.Task[None]] = {}

    async def run_lane(lane: int) -> None:
        try:
            while (request := pump.take(lane)) is not None:
                await submits[lane](request)
                pump.answered(lane)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the round and is told
            pump.fail(error)

    def wake(lanes: Iterable[int]) -> None:
        for lane in lanes:
            tasks[lane] = asyncio.create_task(run_lane(lane))

    pump.wake = wake
    pump.start()
    wake(range(pump.lanes))
    try:
        return await pump.result()
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ordered values lie (nearest rank).

    Raises:
        BenchError: there is no value.
    """
    if not ordered:
        raise BenchError("a round without a single answer has no percentile")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
