"""What should never happen, does: a rule that crashes, an event that cannot be recorded, a clock that jumps."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from events.commands import Reserve
from events.facts import Granted, Reserved
from events.instants import instant
from service import attempt, deciding, writer
from service.ledger import Ledger
from service.outages import ClockSkew, Unavailable
from service.requests import Request
from tests.writer.asking import Clock, OpenLedger, Said, accounts_of, ask, said
from tests.writer.auditing import audited
from tests.writer.holding import held_head

POISON = 13


@pytest.fixture
async def account(ledger: Ledger) -> str:
    """An account that is open."""
    name = accounts_of(13, 1)[0]
    await ledger.execute(ask("change_plan", name, plan="small"))
    return name


def poisoned(function: Callable[..., Any], is_poison: Callable[..., bool]) -> Callable[..., Any]:
    """The same function, with a bug that some arguments bring out."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if is_poison(*arguments):
            raise RuntimeError("a bug")
        return function(*arguments, **named)

    return wrapped


async def in_one_batch(ledger: Ledger, url: str, account: str, requests: list[Request]) -> list[Said]:
    """What is said to commands that the writer takes up together."""
    async with held_head(url, ledger.partition(account)) as held:
        first = asyncio.create_task(said(ledger, ask("reserve", account, amount=1)))
        await held.appends_wait()
        tasks = [asyncio.create_task(said(ledger, request)) for request in requests]
    assert (await first).written
    return [await task for task in tasks]


def some_requests(account: str) -> list[Request]:
    """Reserves of 1, with the one that is poisonous among them."""
    return [ask("reserve", account, amount=POISON if number == 20 else 1) for number in range(40)]


async def test_a_command_that_cannot_be_judged_fails_alone(
    ledger: Ledger, account: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_poison(_state: object, command: object, *_: object) -> bool:
        return isinstance(command, Reserve) and command.amount == POISON

    requests = some_requests(account)
    with monkeypatch.context() as bug:
        bug.setattr(deciding, "decide", poisoned(deciding.decide, is_poison))
        answers = await in_one_batch(ledger, database_url, account, requests)
    assert [answer.code for answer in answers] == ["" if number != 20 else Unavailable.code for number in range(40)]
    assert (await said(ledger, requests[20])).written, "it can be sent again when the bug is gone"
    await audited(database_url)


async def test_a_command_that_cannot_be_recorded_fails_alone(
    ledger: Ledger, account: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_poison(fact: Any, *_: object) -> bool:
        return isinstance(fact.data, Reserved) and fact.data.amount == POISON

    requests = some_requests(account)
    with monkeypatch.context() as bug:
        bug.setattr(attempt, "record", poisoned(attempt.record, is_poison))
        answers = await in_one_batch(ledger, database_url, account, requests)
    assert [answer.code for answer in answers] == ["" if number != 20 else Unavailable.code for number in range(40)]
    assert (await said(ledger, requests[20])).written, "it can be sent again when the bug is gone"
    await audited(database_url)


async def test_a_command_whose_second_fact_cannot_be_recorded_writes_nothing(
    ledger: Ledger, account: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_poison(fact: Any, *_: object) -> bool:
        return isinstance(fact.data, Granted)

    opening = ask("change_plan", accounts_of(13, 2)[1], plan="small")
    requests = [*some_requests(account)[:9], opening, *some_requests(account)[:9]]
    with monkeypatch.context() as bug:
        bug.setattr(attempt, "record", poisoned(attempt.record, is_poison))
        answers = await in_one_batch(ledger, database_url, account, requests)
    assert [answer.code for answer in answers] == ["" if number != 9 else Unavailable.code for number in range(19)]
    assert len((await said(ledger, opening)).events) == 2, "it can be sent again when the bug is gone"
    await audited(database_url)


async def test_a_bug_that_comes_once_is_survived(
    ledger: Ledger, account: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when the batch was just written, and nobody was told yet."""
    original = writer.Writer._conclude
    calls: list[int] = []

    async def conclude(self: writer.Writer, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("a bug")
        await original(self, *arguments)

    monkeypatch.setattr(writer.Writer, "_conclude", conclude)
    requests = [ask("reserve", account, amount=1) for _ in range(20)]
    answers = await in_one_batch(ledger, database_url, account, requests)
    assert len(calls) >= 2
    book = await audited(database_url)
    assert [answer.events for answer in answers] == [book.hashes(account, request.key) for request in requests]


async def test_recorded_at_never_goes_back_when_the_clock_does(open_ledger: OpenLedger, database_url: str) -> None:
    clock = Clock()
    ledger = await open_ledger(clock=clock)
    await ledger.execute(ask("change_plan", "a", plan="small"))
    latest = clock()
    clock.advance(-3600)
    assert (await said(ledger, ask("reserve", "a", amount=1))).written
    assert (await said(await open_ledger(clock=clock), ask("reserve", "a", amount=1))).written
    book = await audited(database_url)
    assert {event.recorded_at for event in book.events} == {latest}


@pytest.mark.parametrize("known", [False, True])
async def test_a_clock_that_is_a_day_ahead_writes_nothing(
    open_ledger: OpenLedger, database_url: str, known: bool
) -> None:
    clock = Clock(days_ago=0)
    ledger = await open_ledger(clock=clock)
    if known:
        await ledger.execute(ask("reserve", "a", amount=1, ttl_seconds=60))
    before = await audited(database_url)
    clock.advance(86_400)
    request = ask("reserve", "a", amount=1)
    assert (await said(ledger, request)).code == ClockSkew.code
    assert len((await audited(database_url)).events) == len(before.events)
    clock.advance(-86_400)
    assert (await said(ledger, request)).written
    book = await audited(database_url)
    assert all(event.kind != "hold_expired" for event in book.events)
    assert all(event.recorded_at <= instant(datetime.now(UTC)) for event in book.events)


async def test_who_has_a_clock_that_writes_nothing_knows_it(open_ledger: OpenLedger) -> None:
    clock = Clock(days_ago=0)
    ledger = await open_ledger(clock=clock)
    await ledger.check()
    clock.advance(86_400)
    with pytest.raises(ClockSkew, match=r"86\d{3} s ahead"):
        await ledger.check()
    clock.advance(-2 * 86_400)
    await ledger.check()


async def test_a_clock_that_is_a_little_ahead_is_no_obstacle(open_ledger: OpenLedger, database_url: str) -> None:
    """Within 5 s of the database; the other machines' clocks are behind, and follow what is recorded."""
    ahead, right = Clock(days_ago=0), Clock(days_ago=0)
    ahead.advance(4)
    fast, exact = await open_ledger(clock=ahead), await open_ledger(clock=right)
    for ledger in (fast, exact, fast, exact):
        assert (await said(ledger, ask("reserve", "a", amount=1))).written
    assert {event.recorded_at for event in (await audited(database_url)).events} == {ahead()}
