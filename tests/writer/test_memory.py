"""What a writer has in memory makes it fast and changes nothing: whatever it forgot, it decides the same."""

import asyncio
from random import Random

import pytest

from service.cache import StateCache
from service.ledger import Ledger
from tests.writer.asking import Clock, OpenLedger, accounts_of, ask, said
from tests.writer.auditing import audited
from tests.writer.holding import held_head
from tests.writer.load import assert_told_the_truth, crowd, work_through


def shrink(ledger: Ledger, accounts_max: int, items_max: int) -> None:
    """Lets the ledger remember next to nothing."""
    for writer in ledger._writers:
        writer._decider.cache = StateCache(accounts_max, items_max)


@pytest.mark.parametrize(("accounts_max", "items_max"), [(1, 1), (2, 0), (3, 5)])
async def test_a_small_memory_changes_nothing(
    open_ledger: OpenLedger, database_url: str, monkeypatch: pytest.MonkeyPatch, accounts_max: int, items_max: int
) -> None:
    monkeypatch.setattr("service.writer.BATCH_COMMANDS_MAX", 7)
    ledger = await open_ledger()
    shrink(ledger, accounts_max, items_max)
    customers = crowd(16, accounts_of(11, 6), seed=11)
    await work_through([ledger], customers, 25)
    book = await audited(database_url)
    for customer in customers:
        assert_told_the_truth(book, customer.told.items())


async def test_an_account_and_its_items_that_nobody_remembers_are_read(
    open_ledger: OpenLedger, database_url: str
) -> None:
    """Each step is done by a ledger that has just been opened."""
    steps = [
        ask("reserve", "a", amount=10, reservation_id="r", ttl_seconds=60),
        ask("consume", "a", reservation_id="r", amount=2, final=False),
        ask("consume", "a", reservation_id="r", amount=3),
        ask("refund", "a", consumption_id="r:1", amount=1),
        ask("refund", "a", consumption_id="r", amount=3),
        ask("consume", "a", amount=5, consumption_id="c"),
        ask("refund", "a", consumption_id="c"),
        ask("reserve", "a", amount=1, reservation_id="s"),
        ask("release", "a", reservation_id="s"),
    ]
    for step in steps:
        assert (await said(await open_ledger(connections=1), step)).written, step
    assert (await audited(database_url)).available("a") == 1000 - 1


async def test_holds_that_fell_due_while_nobody_remembered_them_have_ended(
    open_ledger: OpenLedger, database_url: str
) -> None:
    """Some holds are remembered and some are not; an early one must not be overlooked beside them."""
    clock = Clock()
    first = await open_ledger(clock=clock)
    for number in range(6):
        ttl = 100 * (number + 1)
        await first.execute(ask("reserve", "a", amount=100, reservation_id=f"r{number}", ttl_seconds=ttl))
    later = await open_ledger(clock=clock)
    clock.advance(10)
    assert (await said(later, ask("release", "a", reservation_id="r4"))).written
    clock.advance(331)  # r0 to r2 ended, each with 30 s of grace
    assert (await said(later, ask("release", "a", reservation_id="r1"))).code == "reservation_finalized"
    assert (await said(later, ask("reserve", "a", amount=800))).written
    assert (await said(later, ask("reserve", "a", amount=1))).code == "insufficient_credits"
    book = await audited(database_url)
    kinds = [event.kind for event in book.events]
    assert kinds.count("hold_expired") == 3
    assert book.accounts["a"].account.figures["credits"].reserved == 1000
    assert (await said(first, ask("consume", "a", reservation_id="r3", amount=100))).written
    await audited(database_url)


async def test_an_account_where_everything_fell_due_gets_a_command_from_a_crowd(
    open_ledger: OpenLedger, database_url: str
) -> None:
    """Expired holds, ended and started grants, on accounts that are cold, beside accounts that are warm."""
    clock = Clock()
    opening = await open_ledger(clock=clock)
    accounts = accounts_of(12, 8)
    for account in accounts:
        await opening.execute(ask("reserve", account, amount=50, reservation_id="r", ttl_seconds=50))
        ends = clock.now.timestamp() + 80
        await opening.execute(ask("grant", account, amount=40, expires_at=_at(ends)))
        await opening.execute(ask("grant", account, amount=30, effective_at=_at(ends + 1)))
        await opening.execute(ask("reserve", account, amount=20, reservation_id="s", ttl_seconds=500))
    clock.advance(90)
    ledger = await open_ledger(clock=clock)
    shrink(ledger, 3, 1)
    random = Random(12)
    requests = [ask("consume", random.choice(accounts), amount=1) for _ in range(100)]
    async with held_head(database_url, 12) as held:
        tasks = [asyncio.create_task(said(ledger, request)) for request in requests]
        await held.appends_wait()
    assert all([(await task).written for task in tasks])
    book = await audited(database_url)
    for account in accounts:
        kinds = [event.kind for event in book.events if event.account == account]
        assert kinds.count("hold_expired") == 1
        assert kinds.count("activated") == 1
        assert kinds.count("expired") == 1
        assert book.available(account) + kinds.count("direct") == 1000 + 30 - 20


async def test_the_instant_of_the_next_due_fact_is_kept_when_others_are_done(
    open_ledger: OpenLedger, database_url: str
) -> None:
    """A ledger that knows only some of the open holds must not move the account's wake-up past the others."""
    clock = Clock()
    first = await open_ledger(clock=clock)
    for name, ttl in (("early", 1000), ("middle", 2000), ("late", 3000)):
        await first.execute(ask("reserve", "a", amount=1, reservation_id=name, ttl_seconds=ttl))
    clock.advance(1100)
    later = await open_ledger(clock=clock)
    await later.execute(ask("release", "a", reservation_id="late"))
    await audited(database_url)
    clock.advance(1000)
    assert (await said(later, ask("release", "a", reservation_id="middle"))).code == "reservation_finalized"
    assert (await said(later, ask("reserve", "a", amount=1000))).written
    await audited(database_url)


def _at(timestamp: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(timestamp, UTC).isoformat()


async def test_an_account_that_never_rests_is_remembered_in_part_too(
    open_ledger: OpenLedger, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch is decided on top of the one before, so its state never comes out of the cache."""
    monkeypatch.setattr("service.writer.BATCH_COMMANDS_MAX", 8)
    ledger = await open_ledger()
    shrink(ledger, 10, 80)
    most = 0

    async def customer(name: str) -> None:
        nonlocal most
        for number in range(12):
            for wish in (
                ask("reserve", "a", amount=1, reservation_id=f"{name}-{number}"),
                ask("consume", "a", reservation_id=f"{name}-{number}"),
            ):
                most = max(most, len((await ledger.execute(wish)).state.known))

    await asyncio.gather(*(customer(f"c{number}") for number in range(40)))
    book = await audited(database_url)
    assert [event.kind for event in book.events].count("settle") == 480
    assert most < 200, "of 480 items, of which 40 are open at once"
