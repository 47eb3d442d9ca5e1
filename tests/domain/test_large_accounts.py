"""The largest accounts that there may be are decided in a few milliseconds, and what is long past as fast as ever."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import pytest

from events.account import Key, State
from events.commands import Command
from events.decide import decide, due_facts
from events.errors import Refusal
from events.instants import plus
from tests.domain.shop import (
    ACCOUNT,
    START,
    catalog,
    consume,
    direct,
    extend,
    granted,
    line,
    opened,
    refund,
    release,
    reserve,
)

SECONDS_MAX = 0.02
"""Several times what it takes: the machine may be busy, an algorithm that got slower is not mistaken for that."""
ATTEMPTS = 7
SHOP = catalog('[capacities.slots]\n[plans.bare]\nrank = 0\n[operations.image]\neach = "1"')


class Life:
    """An account, and what came of one command after the other, all of it in memory."""

    def __init__(self) -> None:
        self.state = State.unknown(ACCOUNT)
        self.commands = 0
        self.does(opened("bare"))

    def does(self, command: Command) -> None:
        self.commands += 1
        self.state = decide(self.state, command, START, SHOP, f"n{self.commands}").state
        self.state.settle()


def fastest(work: Callable[[], object]) -> float:
    """The seconds of the processor that the fastest of some attempts takes."""
    took: list[float] = []
    for _ in range(ATTEMPTS):
        begun = process_time()
        work()
        took.append(process_time() - begun)
    return min(took)


@pytest.fixture(scope="module")
def large() -> Life:
    """256 grants, 10,000 open slots, and a hold of 1,000 lines that uses a hundred of the grants."""
    life = Life()
    for number in range(256):
        life.does(granted(f"g{number}", 10))
    for number in range(10_000):
        life.does(reserve(f"s{number}", amount=0, occupies={"slots": 1}, ttl_seconds=None))
    life.does(reserve("big", lines=tuple(line("image") for _ in range(1000))))
    life.does(direct("work", amount=1000))
    return life


@pytest.mark.parametrize(
    "command",
    [
        reserve(lines=tuple(line("image") for _ in range(500))),
        reserve(amount=9_000),
        consume("big"),
        consume("big", amount=500, final=False),
        extend("big", amount=200),
        release("big"),
        refund("work"),
        release("s9999"),
        direct(amount=1),
    ],
    ids=["reserve-lines", "denial", "settle", "partial", "extend", "release", "refund", "free-a-slot", "direct"],
)
def test_a_command_to_the_largest_account_takes_a_few_milliseconds(large: Life, command: Command) -> None:
    def decided() -> object:
        try:
            return decide(large.state, command, START, SHOP, "n")
        except Refusal as refusal:
            return refusal

    assert fastest(decided) < SECONDS_MAX


def test_so_does_a_read_that_finds_its_hold_expired(large: Life) -> None:
    state, facts = due_facts(large.state, plus(START, seconds=3600), SHOP)
    assert [fact.kind for fact in facts] == ["hold_expired"]
    assert len(state.account.grants) == 256 - 100
    assert fastest(lambda: due_facts(large.state, plus(START, seconds=3600), SHOP)) < SECONDS_MAX


@pytest.mark.parametrize("events", [2_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_a_consumption_is_refunded_however_many_events_ago_it_was(events: int) -> None:
    """From the snapshot and the two items that it names, as a ledger does that was just started."""
    life = Life()
    life.does(granted("old", 5, priority=1))
    life.does(direct("work", amount=5))
    life.does(granted("rest", 2 * events))
    while life.state.account.events < events:
        life.does(direct(f"c{life.commands}", amount=1))
    cold = State(life.state.account)
    needed: tuple[Key, ...] = ("work", "work"), ("grant", "old")
    cold.known.update({key: life.state.known[key] for key in needed})
    assert decide(cold, refund("work"), START, SHOP, "n").state.account.grants["old"].remaining == 5
    assert fastest(lambda: decide(cold, refund("work"), START, SHOP, "n")) < SECONDS_MAX / 10
