"""Callers come and go as they like: a command that was taken on is carried out, and nobody else is disturbed."""

import asyncio

import pytest

from service.ledger import Ledger
from service.outages import Overloaded
from tests.servers import eventually
from tests.writer.asking import accounts_of, ask, said
from tests.writer.auditing import audited
from tests.writer.holding import held_head, once_after


@pytest.fixture
async def account(ledger: Ledger) -> str:
    """An account that is open."""
    name = accounts_of(3, 1)[0]
    await ledger.execute(ask("change_plan", name, plan="small"))
    return name


async def test_a_caller_that_goes_away_while_its_command_is_written_disturbs_nobody(
    ledger: Ledger, account: str, database_url: str
) -> None:
    request = ask("reserve", account, amount=1)
    async with held_head(database_url, 3) as held:
        first = asyncio.create_task(ledger.execute(request))
        await held.appends_wait()
        follower = asyncio.create_task(ledger.execute(request))
        neighbour = asyncio.create_task(ledger.execute(ask("reserve", account, amount=2)))
        await asyncio.sleep(0)
        first.cancel()
        late = asyncio.create_task(ledger.execute(request))
    outcomes = await asyncio.gather(follower, neighbour, late)
    assert first.cancelled()
    book = await audited(database_url)
    assert book.hashes(account, request.key) == (outcomes[0].lines[0].hash,) == (outcomes[2].lines[0].hash,)
    assert book.available(account) == 1000 - 1 - 2


async def test_a_command_whose_caller_went_away_is_sent_again_and_counts_once(
    ledger: Ledger, account: str, database_url: str
) -> None:
    """The caller goes while its command waits, and comes back before the writer saw either of the two."""
    request = ask("reserve", account, amount=1)
    async with held_head(database_url, 3) as held:
        writing = asyncio.create_task(ledger.execute(ask("reserve", account, amount=2)))
        await held.appends_wait()
        first = asyncio.create_task(ledger.execute(request))
        neighbours = [asyncio.create_task(ledger.execute(ask("reserve", account, amount=3))) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        again = asyncio.create_task(ledger.execute(request))
        await asyncio.sleep(0)
        last = asyncio.create_task(ledger.execute(request))
        again.cancel()
    outcomes = await asyncio.gather(writing, last, *neighbours)
    assert first.cancelled()
    assert again.cancelled()
    book = await audited(database_url)
    assert book.hashes(account, request.key) == (outcomes[1].lines[0].hash,)
    assert book.available(account) == 1000 - 1 - 2 - 3 * 3


async def test_a_caller_that_goes_away_as_its_command_is_taken_up_leaves_a_key_that_works(
    ledger: Ledger, account: str, database_url: str
) -> None:
    """It goes in the very step in which the writer takes what waits, so nobody has noticed yet."""
    request = ask("reserve", account, amount=1)
    soon = asyncio.get_running_loop().call_soon
    once_after(ledger.log, "append", lambda: soon(first.cancel))
    async with held_head(database_url, 3) as held:
        writing = asyncio.create_task(ledger.execute(ask("reserve", account, amount=2)))
        await held.appends_wait()
        first = asyncio.create_task(ledger.execute(request))
        await asyncio.sleep(0)
    await asyncio.wait({writing, first})
    assert first.cancelled()
    outcome = await asyncio.wait_for(ledger.execute(request), 60)
    assert (await audited(database_url)).hashes(account, request.key) == (outcome.lines[0].hash,)


@pytest.mark.timeout(60)  # what it guards against is a loop that never lets go
async def test_a_caller_that_comes_before_the_first_one_knows_that_it_is_gone_is_served(
    ledger: Ledger, account: str, database_url: str
) -> None:
    request = ask("reserve", account, amount=1)
    async with held_head(database_url, 3) as held:
        first = asyncio.create_task(ledger.execute(request))
        await held.appends_wait()
        again = asyncio.create_task(ledger.execute(request))
        first.cancel()
    outcome = await again
    assert (await audited(database_url)).hashes(account, request.key) == (outcome.lines[0].hash,)


async def test_a_command_whose_caller_went_away_is_in_progress_until_it_is_written(
    ledger: Ledger, account: str, database_url: str
) -> None:
    request = ask("reserve", account, amount=1)
    async with held_head(database_url, 3) as held:
        first = asyncio.create_task(ledger.execute(request))
        await held.appends_wait()
        first.cancel()
        await asyncio.wait({first})
        assert ledger.in_progress(account, request.key)
    await ledger.drain()
    assert not ledger.in_progress(account, request.key)
    assert (await audited(database_url)).hashes(account, request.key)


async def test_a_refusal_of_a_caller_that_went_away_reaches_those_who_follow(
    ledger: Ledger, account: str, database_url: str
) -> None:
    request = ask("reserve", account, amount=5000)
    async with held_head(database_url, 3) as held:
        writing = asyncio.create_task(ledger.execute(ask("reserve", account, amount=2)))
        await held.appends_wait()
        first = asyncio.create_task(ledger.execute(request))
        await asyncio.sleep(0)
        follower = asyncio.create_task(said(ledger, request))
        await asyncio.sleep(0)
        first.cancel()
    await writing
    assert (await follower).code == "insufficient_credits"


async def test_more_commands_than_the_queue_takes_are_overloaded_and_the_others_written(
    ledger: Ledger, account: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.intake.QUEUE_MAX", 10)
    async with held_head(database_url, 3) as held:
        writing = asyncio.create_task(said(ledger, ask("reserve", account, amount=1)))
        await held.appends_wait()
        requests = [ask("reserve", account, amount=1) for _ in range(15)]
        waiting = [asyncio.create_task(said(ledger, request)) for request in requests]
        await eventually(lambda: sum(task.done() for task in waiting) == 5, "5 of 15 commands are turned away")
        assert [(await task).code for task in waiting[10:]] == [Overloaded.code] * 5
        elsewhere = accounts_of(4, 1)[0]
        assert (await said(ledger, ask("change_plan", elsewhere, plan="small"))).written, "other partitions go on"
    answers = [await task for task in (writing, *waiting[:10])]
    assert all(answer.written for answer in answers)
    book = await audited(database_url)
    assert all(not book.hashes(account, request.key) for request in requests[10:])
    assert (await said(ledger, requests[-1])).written, "it may be sent again"
