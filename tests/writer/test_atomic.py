"""Atomic batches: all commands of one account are written in one append, or none is (SEMANTICS.md section 9)."""

import asyncio

import pytest

from events.errors import BatchAborted, IdempotencyMismatch, InsufficientCredits
from service.ledger import Ledger
from service.requests import Outcome, Request
from tests.writer.asking import OpenLedger, accounts_of, ask, said
from tests.writer.auditing import audited
from tests.writer.holding import held_head


def told(results: list[Outcome | BaseException]) -> list[type]:
    """What each command heard: an outcome or the class of a refusal."""
    return [type(result) for result in results]


def pair(account: str, amount: int, name: str) -> list[Request]:
    """Reserve and consume, each by its own key."""
    return [
        ask("reserve", account, key=f"{name}-r", amount=amount, reservation_id=name),
        ask("consume", account, key=f"{name}-c", reservation_id=name),
    ]


@pytest.mark.parametrize("ledgers", [1, 3])
async def test_of_atomic_batches_in_parallel_exactly_those_pass_that_the_balance_covers(
    open_ledger: OpenLedger, database_url: str, ledgers: int
) -> None:
    opened = [await open_ledger() for _ in range(ledgers)]
    await opened[0].execute(ask("change_plan", "a", plan="twenty"))
    results = await asyncio.gather(
        *(opened[n % ledgers].execute_together([*pair("a", 2, f"x{n}"), *pair("a", 1, f"y{n}")]) for n in range(20))
    )
    passed = [each for each in results if told(each) == [Outcome] * 4]
    refused = [each for each in results if BatchAborted in told(each)]
    assert (len(passed), len(refused)) == (6, 14)
    assert all(InsufficientCredits in told(each) for each in refused)
    book = await audited(database_url)
    assert book.available("a") == 2
    assert book.accounts["a"].account.figures["credits"].reserved == 0
    assert len(book.commands) == 1 + 6 * 4


async def test_an_atomic_batch_is_one_append_with_its_events_behind_each_other(
    ledger: Ledger, database_url: str
) -> None:
    a, b = accounts_of(3, 2)
    async with held_head(database_url, 3) as held:
        first = asyncio.create_task(ledger.execute(ask("reserve", a, amount=1)))
        await held.appends_wait()
        batch = [ask("reserve", a, amount=1) for _ in range(300)]
        together = asyncio.create_task(ledger.execute_together(batch))
        others = [asyncio.create_task(ledger.execute(ask("reserve", b, amount=1))) for _ in range(3)]
    await asyncio.gather(first, together, *others)
    results = together.result()
    events = [line.event for result in results if isinstance(result, Outcome) for line in result.lines]
    assert [event.position - events[0].position for event in events] == list(range(300))
    assert len({event.recorded_at for event in events}) == 1
    await audited(database_url)


async def test_a_batch_about_holds_that_are_not_in_memory_loads_them(
    ledger: Ledger, open_ledger: OpenLedger, database_url: str
) -> None:
    for n in range(30):
        await ledger.execute(ask("reserve", "a", amount=1, reservation_id=f"r{n}"))
    cold = await open_ledger()
    results = await cold.execute_together([ask("consume", "a", reservation_id=f"r{n}") for n in range(30)])
    assert told(results) == [Outcome] * 30
    assert (await audited(database_url)).available("a") == 970


async def test_what_an_aborted_batch_tried_leaves_no_trace_in_memory(ledger: Ledger, database_url: str) -> None:
    await ledger.execute(ask("reserve", "a", amount=5, reservation_id="kept"))
    tried = [*pair("a", 3, "tried"), ask("release", "a", reservation_id="kept"), ask("reserve", "a", amount=5000)]
    assert told(await ledger.execute_together(tried))[:3] == [BatchAborted] * 3
    assert (await said(ledger, ask("consume", "a", reservation_id="tried"))).code == "reservation_not_found"
    assert (await said(ledger, ask("consume", "a", reservation_id="kept"))).written
    assert (await audited(database_url)).available("a") == 995


async def test_a_batch_of_which_some_keys_are_known_is_a_mismatch_also_when_another_ledger_wrote_them(
    ledger: Ledger, open_ledger: OpenLedger, database_url: str
) -> None:
    other = await open_ledger()
    one, two = pair("a", 3, "x")
    await ledger.execute(ask("reserve", "a", amount=1))
    await other.execute(one)
    assert told(await ledger.execute_together([one, two])) == [IdempotencyMismatch, BatchAborted]
    await other.execute(two)
    results = await ledger.execute_together([one, two])
    assert all(isinstance(result, Outcome) and result.replayed for result in results)
    assert (await audited(database_url)).available("a") == 996


async def test_a_batch_waits_for_a_command_in_flight_that_has_one_of_its_keys(
    ledger: Ledger, database_url: str
) -> None:
    (a,) = accounts_of(3, 1)
    one, two = pair(a, 3, "x")
    async with held_head(database_url, 3) as held:
        single = asyncio.create_task(ledger.execute(one))
        await held.appends_wait()
        batch = asyncio.create_task(ledger.execute_together([one, two]))
        await asyncio.sleep(0)
        single.cancel()
    assert told(await batch) == [IdempotencyMismatch, BatchAborted]
    assert (await audited(database_url)).available(a) == 997
