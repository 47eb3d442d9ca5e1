"""What a round measures: pairs to their end, commands of batches, and times from the instant at which a caller came."""

import pytest

from service.benching import pump as pump_module
from service.benching.pump import BenchError, OpenPump, Pump, percentile, run_lanes

PAIRS = [(f"reserve-{n}", f"consume-{n}") for n in range(1000)]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pump_module, "perf_counter", clock)
    return clock


async def test_a_lane_finishes_its_pair_before_it_takes_the_next_one() -> None:
    pump = Pump(PAIRS[:3], 2, 10)
    pump.start()
    assert [pump.take(0), pump.take(1), pump.take(0), pump.take(0)] == [
        "reserve-0",
        "reserve-1",
        "consume-0",
        "reserve-2",
    ]
    assert pump.take(1) == "consume-1"


async def test_nothing_is_begun_behind_the_deadline_and_what_was_begun_is_finished(clock: Clock) -> None:
    pump = Pump(PAIRS, 1, 10)
    pump.start()
    assert pump.take(0) == "reserve-0"
    clock.now += 5
    pump.answered(0)
    assert pump.take(0) == "consume-0"
    pump._come_to_deadline()
    clock.now += 9
    pump.answered(0)
    assert pump.take(0) is None
    window = await pump.result()
    assert window.acknowledged == 2
    assert window.p99_ms == pytest.approx(9000)  # the one that was under way at the deadline counts as well


async def test_the_rate_is_that_of_the_answers_behind_the_filling(clock: Clock) -> None:
    pump = Pump(PAIRS, 1, 10)
    pump.start()
    for _ in range(100):  # ten a second, the first fifth of which is not counted
        assert pump.take(0) is not None
        clock.now += 0.1
        pump.answered(0)
    pump._come_to_deadline()
    assert pump.take(0) is None
    window = await pump.result()
    assert window.per_second == pytest.approx(10, rel=0.02)
    assert (window.counted, window.acknowledged) == (pytest.approx(80, abs=1), 100)


async def test_batches_that_are_answered_in_lumps_have_the_rate_of_the_lumps(clock: Clock) -> None:
    pump = Pump(PAIRS, 8, 10, weight=1000)
    pump.start()
    for lump in range(4):  # every 3 s, the last one behind the deadline
        for lane in range(8):
            assert pump.take(lane) is not None
        if lump == 3:
            pump._come_to_deadline()
        clock.now += 3
        for lane in range(8):
            pump.answered(lane)
    assert [pump.take(lane) for lane in range(8)] == [None] * 8
    assert (await pump.result()).per_second == pytest.approx(8000 / 3)


async def test_a_pump_that_runs_empty_hands_out_all_that_it_has(clock: Clock) -> None:
    pump = Pump(PAIRS[:3], 2, 10, weight=1000)
    pump.start()
    taken: list[str | None] = []
    for _ in range(4):
        for lane in range(2):
            taken.append(pump.take(lane))
            clock.now += 0.01
            if taken[-1] is not None:
                pump.answered(lane)
        if pump._done.done():
            break
    assert sorted(filter(None, taken)) == sorted(request for pair in PAIRS[:3] for request in pair)
    assert (await pump.result()).acknowledged == 6000


async def test_who_comes_while_the_ledger_stalls_waits_from_the_instant_at_which_they_came(clock: Clock) -> None:
    pump = OpenPump(PAIRS, 1, 10, pairs_per_second=1)
    pump.start()
    assert pump.take(0) == "reserve-0"
    clock.now += 4  # a stall, in which four more come
    pump.answered(0)
    assert pump.take(0) == "consume-0"
    pump.answered(0)
    assert pump.take(0) == "reserve-1"
    pump.answered(0)
    assert pump._latencies[-1] == pytest.approx(3)  # it was due at 1


async def test_a_lane_of_an_open_loop_rests_until_somebody_comes(clock: Clock) -> None:
    woken: list[int] = []
    pump = OpenPump(PAIRS, 3, 10, pairs_per_second=2)
    pump.wake = woken.extend
    pump.start()
    assert pump.take(0) == "reserve-0"
    assert pump.take(1) is None
    assert pump.take(2) is None
    pump._tick()
    assert woken == []
    clock.now += 0.6
    pump._tick()
    assert woken == [2]
    assert pump.take(2) == "reserve-1"
    pump._come_to_deadline()
    pump._tick()
    pump.answered(0)
    assert [pump.take(0), pump.take(2)] == ["consume-0", "consume-1"]
    assert [pump.take(0), pump.take(2)] == [None, None]
    assert pump._done.done()


async def test_an_open_loop_of_tasks_hands_out_what_is_due_and_ends() -> None:
    async def submit(_: str) -> None:
        """Answered at once."""

    pump = OpenPump(PAIRS, 16, 0.3, pairs_per_second=100)
    window = await run_lanes(pump, [submit] * 16)
    assert 2 <= window.acknowledged <= 2 * 31
    assert window.acknowledged % 2 == 0


async def test_a_refusal_ends_the_round_with_its_reason() -> None:
    async def submit(request: str) -> None:
        raise BenchError(f"{request} was refused")

    with pytest.raises(BenchError, match="reserve-0 was refused"):
        await run_lanes(Pump(PAIRS, 2, 10), [submit] * 2)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [51, 100, 100]
    with pytest.raises(BenchError):
        percentile([], 0.5)
