"""The sweeper: what is due is written although nobody asks, once, behind the callers, and whatever else happens."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from events.instants import Instant, instant
from service.ledger import Ledger
from service.outages import Unavailable
from service.requests import Outcome
from service.sweeper import BATCH_MAX, BUSY_BATCH_MAX, Sweeper
from service.telemetry.metrics import Metrics
from tests.servers import eventually, value
from tests.writer.asking import Clock, OpenLedger, accounts_of, ask, said
from tests.writer.auditing import Book, audited
from tests.writer.holding import held_head
from tests.writer.load import assert_told_the_truth, crowd, work_through
from tests.writer.proxy import proxy_to

HOUR = 3600


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until it is set."""
    return Clock()


@pytest.fixture
async def ledger(open_ledger: OpenLedger, clock: Clock) -> Ledger:
    """A ledger by that clock."""
    return await open_ledger(clock=clock)


def swept(book: Book) -> list[tuple[str, str, Instant]]:
    """What the system wrote, in order: account, kind and when it was due."""
    return [(event.account, event.kind, event.effective_at) for event in book.events if event.command.name == "system"]


async def sweep_all(sweeper: Sweeper) -> None:
    """Sweeps until nothing is due."""
    for _ in range(1000):
        if not await sweeper.sweep():
            return
    raise AssertionError("it never ends")


async def with_grants(ledger: Ledger, clock: Clock, accounts: Sequence[str]) -> None:
    """Opens accounts, each with a grant that ends in an hour."""
    ends = instant_in(clock, HOUR)
    await asyncio.gather(*(ledger.execute(ask("change_plan", account, plan="small")) for account in accounts))
    await asyncio.gather(*(ledger.execute(ask("grant", account, amount=5, expires_at=ends)) for account in accounts))


def instant_in(clock: Clock, seconds: float) -> Instant:
    ahead = Clock()
    ahead.now = clock.now
    ahead.advance(seconds)
    return instant(ahead.now)


@asynccontextmanager
async def sweeping(ledger: Ledger) -> AsyncGenerator[Sweeper]:
    """A sweeper that runs, and looks often."""
    sweeper = Sweeper(ledger, look_seconds=0.01, accounts_per_second_max=100_000)
    sweeper.start()
    yield sweeper
    await sweeper.stop()


async def test_what_is_due_in_an_idle_account_is_written_without_any_command(
    ledger: Ledger, clock: Clock, database_url: str
) -> None:
    await ledger.execute(ask("reserve", "a", amount=100, ttl_seconds=60, reservation_id="h"))
    ends, starts = instant_in(clock, HOUR), instant_in(clock, 2 * HOUR)
    await ledger.execute(ask("grant", "a", amount=5, expires_at=ends))
    await ledger.execute(ask("grant", "a", amount=7, effective_at=starts))
    before = clock()
    expired = instant_in(clock, 90)
    sweeper = Sweeper(ledger)
    assert await sweeper.sweep() == 0, "nothing is due yet"
    clock.advance(HOUR - 1)
    assert await sweeper.sweep() == 1
    assert swept(await audited(database_url)) == [("a", "hold_expired", expired)]
    clock.advance(2 * HOUR)
    await sweep_all(sweeper)
    book = await audited(database_url)
    assert swept(book)[1:] == [("a", "expired", ends), ("a", "activated", starts)]
    assert all(event.recorded_at >= before and event.actor.id == "system" for event in book.events[-3:])
    ids = [event.command.id for event in book.events if event.command.name == "system"]
    assert None not in ids
    assert len(set(ids)) == len(ids)
    assert book.available("a") == 1007
    assert sweeper.counts == {"written": 2, "nothing_due": 0, "failed": 0}


async def test_an_instant_at_which_nothing_is_due_any_more_is_looked_at_once(
    ledger: Ledger, clock: Clock, database_url: str
) -> None:
    """A hold that was settled leaves the instant behind at which it would have expired."""
    await ledger.execute(ask("reserve", "a", amount=100, ttl_seconds=60, reservation_id="h"))
    await ledger.execute(ask("consume", "a", reservation_id="h"))
    ends = instant_in(clock, HOUR)
    await ledger.execute(ask("grant", "a", amount=5, expires_at=ends))
    clock.advance(120)
    sweeper = Sweeper(ledger)
    assert [await sweeper.sweep(), await sweeper.sweep()] == [1, 0]
    assert swept(await audited(database_url)) == []
    assert sweeper.counts["nothing_due"] == 1
    clock.advance(HOUR)
    assert [await sweeper.sweep(), await sweeper.sweep()] == [1, 0]
    assert swept(await audited(database_url)) == [("a", "expired", ends)]


async def test_a_look_is_not_put_off_over_what_happened_meanwhile(
    ledger: Ledger, clock: Clock, open_ledger: OpenLedger, database_url: str
) -> None:
    """Another writer makes something due right after the sweep found nothing."""
    await ledger.execute(ask("reserve", "a", amount=1, ttl_seconds=60, reservation_id="h"))
    await ledger.execute(ask("release", "a", reservation_id="h"))
    clock.advance(120)
    other = await open_ledger(clock=clock)
    sweep = ledger.sweep

    async def overtaken(account: str) -> Outcome:
        outcome = await sweep(account)
        assert (await said(other, ask("reserve", "a", amount=1, ttl_seconds=60))).written
        return outcome

    ledger.sweep = overtaken
    sweeper = Sweeper(ledger)
    await sweeper.sweep()
    ledger.sweep = sweep
    assert sweeper.counts["nothing_due"] == 1
    await audited(database_url)  # which looks whether the sweeper would find what is due next
    clock.advance(120)
    await sweep_all(sweeper)
    assert [kind for _, kind, _ in swept(await audited(database_url))] == ["hold_expired"]


async def test_two_sweepers_and_the_callers_write_each_due_fact_once(
    ledger: Ledger, clock: Clock, open_ledger: OpenLedger, database_url: str
) -> None:
    """The other ledger moves the heads that this one knows."""
    other = await open_ledger(clock=clock)
    accounts = [*accounts_of(3, 15), *accounts_of(4, 15)]
    await with_grants(ledger, clock, accounts)
    clock.advance(2 * HOUR)
    async with sweeping(ledger), sweeping(other):
        await asyncio.gather(*(said(other, ask("reserve", account, amount=1)) for account in accounts[:10]))

        async def done() -> bool:
            return len(swept(await audited(database_url))) >= len(accounts)

        await eventually(done, "everything due is written")
    found = swept(await audited(database_url))
    assert sorted(account for account, _, _ in found) == sorted(accounts)


async def test_a_crowd_of_due_accounts_does_not_hold_up_the_callers(
    ledger: Ledger, clock: Clock, database_url: str
) -> None:
    accounts = accounts_of(3, 2 * BATCH_MAX)
    await with_grants(ledger, clock, accounts)
    clock.advance(2 * HOUR)
    sweeper = Sweeper(ledger)
    async with held_head(database_url, 3) as held:
        waiting = asyncio.create_task(said(ledger, ask("reserve", accounts[0], amount=1)))
        await held.appends_wait()
        sweep = asyncio.create_task(sweeper.sweep())
        await eventually(lambda: sweeper.lag_seconds > 0, "it has seen who waits")
    assert await sweep == BUSY_BATCH_MAX, "callers wait in the partition"
    assert (await waiting).written
    assert await sweeper.sweep() == BATCH_MAX, "nobody waits"


async def test_commands_and_sweeps_at_once_tell_the_truth(ledger: Ledger, clock: Clock, database_url: str) -> None:
    busy, due = accounts_of(3, 4), accounts_of(3, 204)[4:]
    await with_grants(ledger, clock, [*busy, *due])
    clock.advance(2 * HOUR)
    customers = crowd(8, busy)
    async with sweeping(ledger) as sweeper:
        await work_through([ledger], customers, 40)
        await eventually(lambda: sweeper.counts["written"] >= len(due), "the crowd is swept")
    book = await audited(database_url)
    assert_told_the_truth(book, (told for customer in customers for told in customer.told.items()))
    assert sorted(account for account, _, _ in swept(book)) == sorted([*busy, *due])


async def test_an_outage_is_waited_out(open_ledger: OpenLedger, clock: Clock, database_url: str) -> None:
    async with proxy_to(database_url) as proxy:
        ledger = await open_ledger(proxy.url, clock=clock)
        await with_grants(ledger, clock, ["a"])
        clock.advance(2 * HOUR)
        proxy.go_away()
        with pytest.raises(Unavailable):
            await Sweeper(ledger).sweep()
        async with sweeping(ledger) as sweeper:
            await proxy.come()
            await eventually(lambda: sweeper.counts["written"] == 1, "it goes on by itself")
    assert len(swept(await audited(database_url))) == 1


async def test_an_account_that_cannot_be_swept_stops_no_other(ledger: Ledger, clock: Clock, database_url: str) -> None:
    accounts = accounts_of(3, 3)
    await with_grants(ledger, clock, accounts)
    clock.advance(2 * HOUR)
    sweep = ledger.sweep

    def broken_for_one(account: str):
        if account == accounts[1]:
            raise ZeroDivisionError
        return sweep(account)

    ledger.sweep = broken_for_one
    sweeper = Sweeper(ledger)
    await sweep_all(sweeper)
    assert sweeper.counts == {"written": 2, "nothing_due": 0, "failed": 1}
    assert {account for account, _, _ in swept(await audited(database_url))} == {accounts[0], accounts[2]}


async def test_it_stops_in_the_middle_and_what_it_began_is_finished(
    ledger: Ledger, clock: Clock, database_url: str
) -> None:
    await with_grants(ledger, clock, ["a"])
    clock.advance(2 * HOUR)
    async with held_head(database_url, ledger.partition("a")) as held:
        sweeper = Sweeper(ledger, look_seconds=0.01)
        sweeper.start()
        await held.appends_wait()
        await sweeper.stop()
    await ledger.drain()
    assert len(swept(await audited(database_url))) == 1


async def test_it_is_measured(ledger: Ledger, clock: Clock) -> None:
    await with_grants(ledger, clock, ["a"])
    clock.advance(HOUR + 60)
    sweeper, metrics = Sweeper(ledger), Metrics()
    sweeper.measure(metrics)
    await sweeper.sweep()
    shown = await metrics.exposition()
    assert 'credit_ledger_swept_accounts_total{result="written"} 1\n' in shown
    assert "credit_ledger_sweeper_lag_seconds 60\n" in shown
    await sweeper.sweep()
    assert "credit_ledger_sweeper_lag_seconds 0\n" in await metrics.exposition()


async def test_a_sweep_of_nothing_opens_no_account(ledger: Ledger, database_url: str) -> None:
    outcome = await ledger.sweep("nobody")
    assert outcome.facts == ()
    assert await value(database_url, "SELECT count(*) FROM ledger.accounts") == 0
