"""Several writers on one partition: slower than one, and just as right (DESIGN.md, "The log")."""

import asyncio

import pytest

from events.errors import InsufficientCredits
from service.ledger import Ledger
from tests.servers import execute
from tests.writer.asking import OpenLedger, accounts_of, ask, said
from tests.writer.auditing import audited
from tests.writer.holding import held_head
from tests.writer.load import assert_told_the_truth, crowd, work_through

CROWD = 200
COVERED = 20


@pytest.mark.parametrize("ledgers", [1, 2])
async def test_of_200_parallel_reserves_exactly_those_pass_that_the_balance_covers(
    open_ledger: OpenLedger, database_url: str, ledgers: int
) -> None:
    opened = [await open_ledger() for _ in range(ledgers)]
    await opened[0].execute(ask("change_plan", "a", plan="twenty"))
    requests = [ask("reserve", "a", amount=1) for _ in range(CROWD)]
    answers = await asyncio.gather(*(said(opened[n % ledgers], request) for n, request in enumerate(requests)))
    assert sum(answer.written for answer in answers) == COVERED
    assert sum(answer.code == InsufficientCredits.code for answer in answers) == CROWD - COVERED
    book = await audited(database_url)
    told = [("a", request.key) for request in requests]
    assert_told_the_truth(book, zip(told, answers, strict=True))
    assert book.available("a") == 0
    assert book.accounts["a"].account.figures["credits"].reserved == COVERED


@pytest.mark.parametrize(("ledgers", "batch"), [(1, 200), (1, 3), (2, 200), (3, 3)])
async def test_every_acknowledged_command_of_a_crowd_is_in_the_log_once(
    open_ledger: OpenLedger, database_url: str, monkeypatch: pytest.MonkeyPatch, ledgers: int, batch: int
) -> None:
    """Small batches are decided on top of others that are still being written; with other writers many of them fail."""
    monkeypatch.setattr("service.writer.BATCH_COMMANDS_MAX", batch)
    opened = [await open_ledger() for _ in range(ledgers)]
    accounts = [*accounts_of(5, 6), *accounts_of(6, 2)]
    customers = crowd(24, accounts, seed=ledgers * 1000 + batch)
    await work_through(opened, customers, 40)
    book = await audited(database_url)
    for customer in customers:
        assert_told_the_truth(book, customer.told.items())
    assert sum(answer.written for customer in customers for answer in customer.told.values()) == len(book.commands)


async def test_a_refusal_of_a_stale_memory_never_reaches_a_caller(open_ledger: OpenLedger, database_url: str) -> None:
    drained, other = await open_ledger(), await open_ledger()
    await drained.execute(ask("change_plan", "a", plan="small"))
    await drained.execute(ask("reserve", "a", amount=1000))
    assert (await said(drained, ask("reserve", "a", amount=1))).code == InsufficientCredits.code
    await other.execute(ask("grant", "a", amount=1))
    assert (await said(drained, ask("reserve", "a", amount=1))).written
    assert (await audited(database_url)).available("a") == 0


async def test_an_acceptance_of_a_stale_memory_never_reaches_a_caller(open_ledger: OpenLedger) -> None:
    remembers, other = await open_ledger(), await open_ledger()
    await remembers.execute(ask("change_plan", "a", plan="small"))
    await other.execute(ask("reserve", "a", amount=1000, reservation_id="r"))
    assert (await said(remembers, ask("reserve", "a", amount=1))).code == InsufficientCredits.code
    assert (await said(remembers, ask("release", "a", reservation_id="r"))).written
    assert (await said(other, ask("release", "a", reservation_id="r"))).code == "reservation_finalized"


async def test_a_dry_run_of_a_stale_memory_never_reaches_a_caller(open_ledger: OpenLedger) -> None:
    remembers, other = await open_ledger(), await open_ledger()
    await remembers.execute(ask("change_plan", "a", plan="small"))
    await other.execute(ask("reserve", "a", amount=1000))
    dry = ask("reserve", "a", amount=1, dry_run=True)
    assert (await said(remembers, dry)).code == InsufficientCredits.code


async def test_an_id_that_another_writer_took_is_taken(open_ledger: OpenLedger, database_url: str) -> None:
    """What was created long ago is not in memory; the append finds it, and only that command is refused."""
    one, other = await open_ledger(), await open_ledger()
    await one.execute(ask("change_plan", "a", plan="small"))
    await one.execute(ask("reserve", "a", amount=1, reservation_id="r"))
    await one.execute(ask("release", "a", reservation_id="r"))
    async with held_head(database_url, one.partition("a")) as held:
        waking = asyncio.create_task(said(other, ask("grant", "a", amount=1)))
        await held.appends_wait()
        asked = [ask("reserve", "a", amount=1), ask("reserve", "a", amount=1, reservation_id="r")]
        tasks = [asyncio.create_task(said(other, request)) for request in (*asked, ask("grant", "a", amount=1))]
    assert (await waking).written
    assert [(await task).code for task in tasks] == ["", "already_exists", ""]
    await audited(database_url)


async def test_ledgers_of_one_database_agree_on_its_partitions(open_ledger: OpenLedger) -> None:
    one, other = await open_ledger(), await open_ledger()
    assert (one.id, one.partitions) == (other.id, other.partitions)


async def test_no_command_of_an_account_overtakes_another_one(ledger: Ledger, database_url: str) -> None:
    """They are sent in this order without waiting; some accounts are known, some have to be read first."""
    accounts = accounts_of(7, 5)
    for account in accounts[:2]:
        await ledger.execute(ask("change_plan", account, plan="small"))
    requests = [ask("reserve", account, amount=1) for _ in range(60) for account in accounts]
    await asyncio.gather(*(ledger.execute(request) for request in requests))
    book = await audited(database_url)
    for account in accounts:
        sent = [request.key for request in requests if request.command.account == account]
        written = [key for of, key in book.commands if of == account and key in sent]
        assert written == sent


@pytest.mark.parametrize("others", [0, 1, 2])
async def test_a_history_that_was_replaced_under_a_writer_is_not_built_upon(
    open_ledger: OpenLedger, database_url: str, others: int
) -> None:
    """As after a failover that lost the latest commits: what a writer remembers never happened.

    Meanwhile others wrote to another account: nothing, up to the position that the writer knows, or beyond it.
    """
    mine, other = accounts_of(2, 2)
    ledger = await open_ledger()
    for account in (mine, other):
        await ledger.execute(ask("change_plan", account, plan="small"))
    await execute(database_url, KEEP)
    await ledger.execute(ask("reserve", mine, amount=1000))
    await execute(database_url, RESTORE)
    second = await open_ledger()
    for _ in range(others):
        await second.execute(ask("reserve", other, amount=1))
    assert (await said(ledger, ask("reserve", mine, amount=1))).written
    assert (await audited(database_url)).available(mine) == 999


TABLES = ("heads", "events", "accounts", "items")
KEEP = "CREATE SCHEMA kept; " + "".join(f"CREATE TABLE kept.{name} AS TABLE ledger.{name}; " for name in TABLES)
RESTORE = (
    "ALTER TABLE ledger.events DISABLE TRIGGER append_only; "
    + "".join(f"DELETE FROM ledger.{name}; INSERT INTO ledger.{name} TABLE kept.{name}; " for name in TABLES)
    + "ALTER TABLE ledger.events ENABLE ALWAYS TRIGGER append_only"
)
