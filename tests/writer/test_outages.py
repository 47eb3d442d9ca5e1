"""The database goes away at the worst moments: an outcome that is unknown is found out, and nothing counts twice."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from time import monotonic
from urllib.parse import urlsplit

import pytest

from events.errors import InsufficientCredits
from service.ledger import Ledger
from service.outages import Unavailable
from tests.servers import database_at, eventually, execute
from tests.writer.asking import OpenLedger, accounts_of, ask, said
from tests.writer.auditing import audited
from tests.writer.holding import held_head, once_after
from tests.writer.load import assert_told_the_truth, crowd, work_through
from tests.writer.proxy import Fault, Proxy, proxy_to

BREAKING = [Fault.NOT_SENT, Fault.TORN, Fault.NOT_ANSWERED]


@pytest.fixture
async def proxy(database_url: str) -> AsyncGenerator[Proxy]:
    """A proxy between the ledger and the database."""
    async with proxy_to(database_url) as proxy:
        yield proxy


@pytest.fixture
async def ledger(open_ledger: OpenLedger, proxy: Proxy) -> Ledger:
    """A ledger behind the proxy, with an account `a` that is open."""
    ledger = await open_ledger(proxy.url)
    await ledger.execute(ask("change_plan", "a", plan="small"))
    return ledger


@pytest.mark.parametrize("fault", BREAKING)
async def test_a_connection_that_breaks_during_an_append_is_a_success_that_counts_once(
    ledger: Ledger, proxy: Proxy, database_url: str, fault: Fault
) -> None:
    request = ask("reserve", "a", amount=1)
    trap = proxy.set_trap(request.key, fault)
    outcome = await ledger.execute(request)
    assert trap.sprung.is_set()
    assert not outcome.replayed
    book = await audited(database_url)
    assert book.hashes("a", request.key) == (outcome.lines[0].hash,)
    assert (await said(ledger, ask("reserve", "a", amount=999))).written, "the writer goes on from the right head"


async def test_a_connection_that_breaks_again_and_again_is_a_success_that_counts_once(
    ledger: Ledger, proxy: Proxy, database_url: str
) -> None:
    request = ask("reserve", "a", amount=1)
    traps = [proxy.set_trap(request.key, fault) for fault in [*BREAKING, *BREAKING]]
    outcome = await ledger.execute(request)
    assert all(trap.sprung.is_set() for trap in traps)
    assert (await audited(database_url)).hashes("a", request.key) == (outcome.lines[0].hash,)


@pytest.mark.parametrize("fault", BREAKING)
async def test_what_others_wrote_while_an_outcome_was_unknown_is_not_mistaken_for_it(
    ledger: Ledger, proxy: Proxy, open_ledger: OpenLedger, database_url: str, fault: Fault
) -> None:
    """Another writer takes the position at which the batch would stand, or the one behind it."""
    other = await open_ledger()
    await other.execute(ask("reserve", "a", amount=1))
    await ledger.execute(ask("reserve", "a", amount=1))
    request, foreign = ask("reserve", "a", amount=997), ask("reserve", "a", amount=1)
    trap = proxy.set_trap(request.key, fault)
    sent = asyncio.create_task(said(ledger, request))
    await trap.sprung.wait()
    proxy.fall_silent()
    overtaking = await said(other, foreign)
    proxy.speak_again()
    assert (await sent).written
    assert overtaking.written
    book = await audited(database_url)
    assert book.hashes("a", request.key) == (await sent).events
    assert book.available("a") == 0


async def test_a_refusal_in_a_batch_of_unknown_outcome_is_told_when_the_batch_is_found(
    ledger: Ledger, proxy: Proxy, database_url: str
) -> None:
    async with held_head(database_url, ledger.partition("a")) as held:
        first = asyncio.create_task(ledger.execute(ask("reserve", "a", amount=1)))
        await held.appends_wait()
        too_much, request = ask("reserve", "a", amount=1000), ask("reserve", "a", amount=999)
        trap = proxy.set_trap(request.key, Fault.NOT_ANSWERED)
        tasks = [asyncio.create_task(said(ledger, each)) for each in (too_much, request)]
    await first
    assert [(await task).code for task in tasks] == [InsufficientCredits.code, ""]
    assert trap.sprung.is_set()
    assert (await audited(database_url)).hashes("a", too_much.key) == ()


async def test_a_database_that_stays_away_is_an_outage_and_the_key_works_later(
    ledger: Ledger, proxy: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.writer.PATIENCE_SECONDS", 1.0)
    lost, unanswered = ask("reserve", "a", amount=1), ask("reserve", "a", amount=2)
    for request, fault in ((lost, Fault.NOT_SENT), (unanswered, Fault.NOT_ANSWERED)):
        trap = proxy.set_trap(request.key, fault)
        sent = asyncio.create_task(said(ledger, request))
        await trap.sprung.wait()
        proxy.go_away()
        assert (await sent).code == Unavailable.code
        await proxy.come()
    assert await ledger.outcome("a", lost.key) is None
    found = await ledger.outcome("a", unanswered.key)
    assert found is not None
    assert found.replayed
    again = [await ledger.execute(request) for request in (lost, unanswered)]
    assert [outcome.replayed for outcome in again] == [False, True]
    assert (await audited(database_url)).available("a") == 1000 - 1 - 2


async def test_those_who_wait_in_the_queue_wait_no_longer_than_the_patience(
    ledger: Ledger, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue of many batches must not wait for the patience of each batch in turn."""
    monkeypatch.setattr("service.writer.PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("service.writer.BATCH_COMMANDS_MAX", 2)
    proxy.go_away()
    started = monotonic()
    answers = await asyncio.gather(*(said(ledger, ask("reserve", "a", amount=1)) for _ in range(100)))
    assert {answer.code for answer in answers} == {Unavailable.code}
    assert monotonic() - started < 10
    await proxy.come()
    assert (await said(ledger, ask("reserve", "a", amount=1000))).written


async def test_a_connection_that_swallows_everything_is_an_outage_after_the_command_timeout(
    open_ledger: OpenLedger, proxy: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.log.COMMAND_TIMEOUT_SECONDS", 1.0)
    ledger = await open_ledger(proxy.url, connections=1)
    await ledger.execute(ask("change_plan", "a", plan="small"))
    request = ask("reserve", "a", amount=1)
    proxy.fall_silent()
    started = monotonic()
    with monkeypatch.context() as impatient:
        impatient.setattr("service.writer.PATIENCE_SECONDS", 0.0)
        assert (await said(ledger, request)).code == Unavailable.code
    assert monotonic() - started < 8
    proxy.speak_again()
    outcome = await ledger.execute(request)
    assert (await audited(database_url)).hashes("a", request.key) == (outcome.lines[0].hash,)


async def test_a_database_that_became_read_only_is_left_for_the_one_that_is_not(
    ledger: Ledger, database_url: str
) -> None:
    """As after a failover: what is read-only is a property of the connection, so the connections must be given up."""
    name = urlsplit(database_url).path.removeprefix("/")
    server = database_at(database_url, "postgres")
    await execute(server, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await execute(server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    request = ask("reserve", "a", amount=1)
    refused = asyncio.Event()
    once_after(ledger.log, "append", refused.set)
    sent = asyncio.create_task(said(ledger, request))
    await refused.wait()
    await execute(server, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert (await sent).written
    assert (await audited(database_url)).hashes("a", request.key) == (await sent).events


async def test_a_database_that_only_reads_or_refuses_the_ledger_is_not_one_to_write_to(
    open_ledger: OpenLedger, database_url: str
) -> None:
    """Reads go on meanwhile, so whoever asks for one of them cannot tell: readiness and durable commands ask this."""
    ledger = await open_ledger()
    name = urlsplit(database_url).path.removeprefix("/")
    server = database_at(database_url, "postgres")
    await ledger.log.writable()
    await execute(server, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await execute(server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    await eventually(lambda: reads(ledger), "connected again")
    with pytest.raises(Unavailable, match="read-only"):
        await ledger.log.writable()
    await execute(server, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await ledger.log.writable()
    await execute(database_url, "ALTER TABLE ledger.accounts RENAME TO elsewhere")
    with pytest.raises(Unavailable, match="not one that this ledger may use"):
        await ledger.log.writable()
    await execute(database_url, "ALTER TABLE ledger.elsewhere RENAME TO accounts")
    await execute(database_url, "REVOKE EXECUTE ON FUNCTION ledger.append FROM credit_ledger_app")
    with pytest.raises(Unavailable, match="not one that this ledger may use"):
        await ledger.log.writable()


async def test_what_keeps_commands_from_being_written_is_an_alarm_until_one_is(
    open_ledger: OpenLedger, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.writer.PATIENCE_SECONDS", 0.0)
    ledger = await open_ledger()
    await ledger.execute(ask("change_plan", "a", plan="small"))
    assert ledger.log.alarm() is None
    await execute(database_url, "ALTER TABLE ledger.events RENAME TO elsewhere")
    assert (await said(ledger, ask("reserve", "a", amount=1))).code == Unavailable.code
    told = ledger.log.alarm()
    assert told is not None
    assert "not one that this ledger may use" in told
    await execute(database_url, "ALTER TABLE ledger.elsewhere RENAME TO events")
    assert (await said(ledger, ask("reserve", "a", amount=1))).written
    assert ledger.log.alarm() is None


async def reads(ledger: Ledger) -> bool:
    """Whether the log can be read."""
    with suppress(Unavailable):
        await ledger.log.identity()
        return True
    return False


async def test_a_decision_made_ahead_that_was_given_up_leaves_nothing_in_memory(
    open_ledger: OpenLedger, proxy: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided on top of a batch is thrown away when a cold account beside it cannot be read."""
    monkeypatch.setattr("service.writer.BATCH_COMMANDS_MAX", 2)
    monkeypatch.setattr("service.writer.PATIENCE_SECONDS", 0)
    ledger = await open_ledger(proxy.url)
    warm, cold = accounts_of(8, 2)
    await ledger.execute(ask("change_plan", warm, plan="small"))
    async with held_head(database_url, 8) as held:
        first = asyncio.create_task(said(ledger, ask("reserve", warm, amount=1)))
        await held.appends_wait()
        trap = proxy.set_trap(cold, Fault.NOT_SENT)
        requests = [
            ask("reserve", warm, amount=1, reservation_id="one"),
            ask("reserve", warm, amount=1, reservation_id="two"),
            ask("reserve", warm, amount=1, reservation_id="three"),
            ask("reserve", cold, amount=1, reservation_id="four"),
        ]
        tasks = [asyncio.create_task(said(ledger, request)) for request in requests]
    answers = [await task for task in (first, *tasks)]
    assert trap.sprung.is_set()
    assert [answer.code for answer in answers] == [""] * 5
    await audited(database_url)


async def test_a_crowd_is_told_the_truth_over_connections_that_keep_breaking(
    open_ledger: OpenLedger, proxy: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.writer.BATCH_COMMANDS_MAX", 5)
    ledgers = [await open_ledger(proxy.url), await open_ledger(proxy.url)]
    customers = crowd(12, [*accounts_of(9, 4), *accounts_of(10, 2)], seed=9)
    traps = [
        proxy.set_trap(f'"{customer.name}:{command}"', BREAKING[(number + command) % 3])
        for number, customer in enumerate(customers)
        for command in (5, 12, 19)
    ]
    await work_through(ledgers, customers, 25)
    assert sum(trap.sprung.is_set() for trap in traps) > 20
    book = await audited(database_url)
    for customer in customers:
        assert_told_the_truth(book, customer.told.items())
