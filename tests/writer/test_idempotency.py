"""One key, one command, one outcome, whoever sends it how often and to whom (SEMANTICS.md section 8)."""

import asyncio

import pytest

from events.errors import IdempotencyMismatch, InsufficientCredits
from service.ledger import Ledger
from service.requests import Request
from tests.writer.asking import Clock, OpenLedger, Said, ask, said, view
from tests.writer.auditing import audited
from tests.writer.holding import once_after

SAME = 100


async def test_the_same_key_a_hundred_times_in_parallel_counts_once(ledger: Ledger, database_url: str) -> None:
    request = ask("reserve", "a", amount=7)
    outcomes = await asyncio.gather(*(ledger.execute(request) for _ in range(SAME)))
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    assert all(view(outcome) == view(outcomes[0]) for outcome in outcomes)
    book = await audited(database_url)
    assert book.hashes("a", request.key) == tuple(line.hash for line in outcomes[0].lines)
    assert book.available("a") == 1000 - 7


async def test_the_same_key_in_parallel_to_two_ledgers_counts_once(open_ledger: OpenLedger, database_url: str) -> None:
    ledgers = [await open_ledger(), await open_ledger()]
    request = ask("reserve", "a", amount=7)
    outcomes = await asyncio.gather(*(ledgers[n % 2].execute(request) for n in range(SAME)))
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    assert all(view(outcome) == view(outcomes[0]) for outcome in outcomes)
    assert (await audited(database_url)).available("a") == 1000 - 7


@pytest.mark.parametrize("ledgers", [1, 2])
async def test_of_two_commands_with_one_key_one_is_written_and_the_other_is_a_mismatch(
    open_ledger: OpenLedger, database_url: str, ledgers: int
) -> None:
    opened = [await open_ledger() for _ in range(ledgers)]
    seven, eight = ask("reserve", "a", key="k", amount=7), ask("reserve", "a", key="k", amount=8)
    requests = [seven if n % 3 else eight for n in range(SAME)]
    answers = await asyncio.gather(*(said(opened[n % ledgers], request) for n, request in enumerate(requests)))
    book = await audited(database_url)
    written = book.hashes("a", "k")
    taken = 1000 - book.available("a")
    assert taken in {7, 8}
    first = seven if taken == 7 else eight
    for request, answer in zip(requests, answers, strict=True):
        if request is first:
            assert answer.events == written
        else:
            assert answer.code == IdempotencyMismatch.code
    assert sum(answer.written and not answer.replayed for answer in answers) == 1


async def test_the_first_outcome_is_told_whatever_happened_since(ledger: Ledger, open_ledger: OpenLedger) -> None:
    requests = [
        ask("reserve", "a", amount=10, reservation_id="r"),
        ask("consume", "a", reservation_id="r", amount=4, final=False),
        ask("consume", "a", reservation_id="r", amount=3),
        ask("refund", "a", consumption_id="r:1", amount=2),
        ask("refund", "a", consumption_id="r:1", amount=2),
        ask("grant", "a", amount=50, grant_id="g"),
        ask("change_plan", "a", plan="large"),
    ]
    firsts = [view(await ledger.execute(request)) for request in requests]
    for teller in (ledger, await open_ledger()):
        again = await asyncio.gather(*(teller.execute(request) for request in requests))
        assert all(outcome.replayed for outcome in again)
        assert [view(outcome) for outcome in again] == firsts


async def test_what_was_accepted_in_time_is_answered_past_its_deadline(open_ledger: OpenLedger) -> None:
    clock = Clock()
    ledger = await open_ledger(clock=clock)
    deadline = clock()
    request = ask("reserve", "a", amount=1, deadline=deadline)
    first = await ledger.execute(request)
    clock.advance(3600)
    for teller in (ledger, await open_ledger(clock=clock)):
        again = await teller.execute(request)
        assert (again.replayed, view(again)) == (True, view(first))
        late = await said(teller, ask("reserve", "a", amount=1, deadline=deadline))
        assert late.code == "command_expired"


async def test_a_refusal_stores_nothing_and_is_judged_again(ledger: Ledger, database_url: str) -> None:
    request = ask("reserve", "a", amount=1001)
    assert (await said(ledger, request)).code == InsufficientCredits.code
    await ledger.execute(ask("change_plan", "a", plan="small"))
    assert (await said(ledger, request)).code == InsufficientCredits.code
    await ledger.execute(ask("grant", "a", amount=1))
    assert (await said(ledger, request)).written
    assert len((await audited(database_url)).hashes("a", request.key)) == 1


async def test_a_refusal_leaves_its_key_to_another_command(ledger: Ledger) -> None:
    """Many rounds at once, so that a command arrives just when another one with its key was refused."""
    await ledger.execute(ask("change_plan", "a", plan="small"))
    too_much, right = ask("reserve", "a", key="k", amount=5000), ask("reserve", "a", key="k", amount=1)

    async def sends(request: Request) -> str:
        return (await said(ledger, request)).code

    refused = await asyncio.gather(*(sends(too_much) for _ in range(20)))
    assert set(refused) == {InsufficientCredits.code}
    mixed = await asyncio.gather(*(sends(right if n % 2 else too_much) for n in range(20)))
    assert {mixed[n] for n in range(1, 20, 2)} == {""}
    assert {mixed[n] for n in range(0, 20, 2)} <= {InsufficientCredits.code, IdempotencyMismatch.code}


async def test_a_command_that_arrives_as_another_one_with_its_key_is_refused_is_judged_by_itself(
    ledger: Ledger,
) -> None:
    """It asks in the very step in which the other one is answered, before anybody was woken."""
    await ledger.execute(ask("change_plan", "a", plan="small"))
    too_much, right = ask("reserve", "a", key="k", amount=5000), ask("reserve", "a", key="k", amount=1)
    arrived: list[asyncio.Task[Said]] = []
    once_after(ledger.log, "known_keys", lambda: arrived.append(asyncio.create_task(said(ledger, right))))
    assert (await said(ledger, too_much)).code == InsufficientCredits.code
    assert (await arrived[0]).written


async def test_a_free_operation_takes_no_key_from_others(ledger: Ledger) -> None:
    free, right = ask("reserve", "a", key="k", operation="note"), ask("reserve", "a", key="k", amount=1)
    answers = await asyncio.gather(ledger.execute(free), ledger.execute(right), ledger.execute(free))
    assert [outcome.free for outcome in answers] == [True, False, True]
    assert not answers[1].replayed


async def test_a_dry_run_takes_no_key_and_writes_nothing(ledger: Ledger, database_url: str) -> None:
    dry = ask("reserve", "a", key="k", amount=1, dry_run=True)
    right = ask("reserve", "a", key="k", amount=2)
    answers = await asyncio.gather(*(ledger.execute(request) for request in (dry, right, dry)))
    assert [bool(outcome.lines) for outcome in answers] == [False, True, False]
    assert set((await audited(database_url)).commands) == {("a", "k")}
