"""Laws of turns: who is alone has everything, who floods beside others gets as much as they ask for, nobody waits for ever."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from service.outages import Overloaded
from service.turns import CALLERS_MAX, IDLE_SECONDS, MEMORY_SECONDS, Caller, Turns


async def take(turns: Turns, name: str, weight: int = 1) -> Caller:
    """A turn, as the gateway takes it."""
    return turns.at_once(name, weight) or await turns.wait(name, weight)


class Load:
    """Requests that were sent, and those of them that have their turn."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.at_work: list[tuple[str, Caller]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def send(self, name: str, count: int) -> None:
        """Send requests, and let those come to work that may."""
        self.tasks += [asyncio.create_task(self._one(name)) for _ in range(count)]
        await asyncio.sleep(0)

    async def end(self, name: str, count: int) -> None:
        """Finish the oldest requests of a caller."""
        for number, caller in [entry for entry in self.at_work if entry[0] == name][:count]:
            self.at_work.remove((number, caller))
            self.turns.leave(caller)
        for _ in range(3):
            await asyncio.sleep(0)

    def counts(self) -> Counter[str]:
        return Counter(name for name, _ in self.at_work)

    async def _one(self, name: str) -> None:
        self.at_work.append((name, await take(self.turns, name)))


def turns(now: Callable[[], float] = lambda: 0.0) -> Turns:
    return Turns(at_work_max=100, least=4, idle_least=10, waiting_max=1000, clock=now)


async def test_who_is_alone_has_everything() -> None:
    load = Load(turns())
    await load.send("a", 200)
    assert load.counts() == {"a": 100}


async def test_beside_a_quiet_one_who_floods_gets_little_at_a_time_and_all_in_the_end() -> None:
    load = Load(turns())
    await load.send("quiet", 1)
    await load.send("flood", 500)
    assert load.counts() == {"quiet": 1, "flood": 4}
    done = 0
    while load.counts()["flood"]:
        assert load.counts()["flood"] <= 4
        await load.end("flood", 3)
        done += 3
    assert 500 <= done < 503


async def test_while_the_others_are_idle_who_floods_gets_a_few_more() -> None:
    time = 0.0
    load = Load(turns(lambda: time))
    await load.send("quiet", 1)
    await load.send("flood", 50)
    await load.end("quiet", 1)
    assert load.counts() == {"flood": 4}
    time += IDLE_SECONDS
    await load.end("flood", 1)
    assert load.counts() == {"flood": 10}
    await load.send("quiet", 1)
    await load.end("flood", 7)
    assert load.counts() == {"quiet": 1, "flood": 4}


async def test_who_asks_for_much_beside_one_who_asks_for_half_of_it_has_no_bound() -> None:
    load = Load(turns())
    await load.send("busy", 30)
    await load.send("busier", 60)
    assert load.counts() == {"busy": 30, "busier": 60}
    await load.send("busier", 1)
    await load.end("busier", 46)
    assert load.counts() == {"busy": 30, "busier": 15}


async def test_equally_busy_callers_share_everything() -> None:
    load = Load(turns())
    for _ in range(60):
        await load.send("a", 1)
        await load.send("b", 1)
    assert load.counts() == {"a": 50, "b": 50}
    await load.end("a", 20)
    assert load.counts()["a"] + load.counts()["b"] == 100


async def test_a_quiet_one_is_let_in_however_full_it_is() -> None:
    load = Load(turns())
    await load.send("flood", 500)
    await load.send("quiet", 4)
    assert load.counts() == {"flood": 100, "quiet": 4}


async def test_who_waits_is_served_in_turn_with_the_others() -> None:
    load = Load(Turns(at_work_max=3, least=0, idle_least=0, waiting_max=1000, clock=lambda: 0.0))
    for name in ("a", "b", "c"):
        await load.send(name, 40)
    served: list[str] = []
    for _ in range(30):
        before = load.counts()
        (name, _) = load.at_work[0]
        await load.end(name, 1)
        before[name] -= 1
        served += list((load.counts() - before).elements())
    assert all(abs(served.count(name) - 10) <= 1 for name in ("a", "b", "c"))


async def test_the_others_are_forgotten_when_they_were_not_seen_for_two_seconds() -> None:
    time = 0.0
    load = Load(turns(lambda: time))
    await load.send("quiet", 1)
    await load.end("quiet", 1)
    await load.send("flood", 50)
    assert load.counts()["flood"] == 4
    for _ in range(3):
        time += MEMORY_SECONDS
        await load.send("flood", 1)
    assert load.counts()["flood"] == 53


async def test_a_full_queue_is_overloaded_for_its_caller_only() -> None:
    full = Turns(at_work_max=1, least=1, waiting_max=2)
    load = Load(full)
    await load.send("flood", 4)
    with pytest.raises(Overloaded, match="requests of flood are waiting"):
        await load.tasks[3]
    assert (full.waiting, full.turned_away) == (2, 1)
    await load.send("quiet", 1)
    assert load.counts() == {"flood": 1, "quiet": 1}


async def test_who_goes_away_while_it_waits_or_as_its_turn_comes_leaves_no_hole() -> None:
    load = Load(Turns(at_work_max=1, least=1, waiting_max=10))
    await load.send("a", 4)
    load.tasks[1].cancel()
    (entry,) = load.at_work
    load.at_work.clear()
    load.turns.leave(entry[1])
    load.tasks[2].cancel()  # it has its turn in this very moment
    for _ in range(5):
        await asyncio.sleep(0)
    assert load.counts() == {"a": 1}
    await load.end("a", 1)
    assert (load.turns.at_work, load.turns.waiting) == (0, 0)


async def test_a_heavy_request_goes_alone_when_there_is_no_room_for_it_beside_others() -> None:
    shared = turns()
    await take(shared, "quiet")
    heavy = await take(shared, "flood", 60)
    waiting = asyncio.create_task(take(shared, "flood"))
    await asyncio.sleep(0)
    assert not waiting.done()
    shared.leave(heavy, 60)
    await waiting


async def test_made_up_names_share_one_queue() -> None:
    load = Load(turns())
    for number in range(CALLERS_MAX + 50):
        await load.send(f"name-{number}", 1)
    assert load.turns.at_work == CALLERS_MAX + 4
    for name in list(load.counts()):
        await load.end(name, 1)
    while load.at_work:
        await load.end(load.at_work[0][0], 1)
    assert (load.turns.at_work, load.turns.waiting) == (0, 0)
