"""Several service processes on one database, as a fleet whose nodes do not know each other."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from events.errors import InsufficientCredits
from service.ledger import Ledger
from tests.writer.asking import Wish, accounts_of, ask
from tests.writer.auditing import audited
from tests.writer.crashes import Service, services
from tests.writer.driver import Job
from tests.writer.load import assert_told_the_truth

Spawn = Callable[[], "asyncio.Future[Service]"]

CROWD = 100
COVERED = 20


@pytest.fixture
async def two() -> AsyncGenerator[list[Service]]:
    """Two service processes that wait for their jobs."""
    async with services() as spawn:
        spawned = [spawn(), spawn()]
        yield [await service for service in spawned]


async def test_of_200_parallel_reserves_in_two_processes_exactly_those_pass_that_the_balance_covers(
    two: list[Service], ledger: Ledger, database_url: str
) -> None:
    await ledger.execute(ask("change_plan", "a", plan="twenty"))
    for number, service in enumerate(two):
        wishes = [Wish("reserve", "a", f"{number}:{n}", {"amount": 1}) for n in range(CROWD)]
        await service.give(Job(url=database_url, wishes=wishes))
    for service in two:
        await service.until(lambda service=service: len(service.told) == CROWD)
    told = {command: said for service in two for command, said in service.told.items()}
    assert sum(said.written for said in told.values()) == COVERED
    assert sum(said.code == InsufficientCredits.code for said in told.values()) == 2 * CROWD - COVERED
    book = await audited(database_url)
    assert_told_the_truth(book, told.items())
    assert book.available("a") == 0


async def test_the_same_keys_sent_to_two_processes_count_once(
    two: list[Service], ledger: Ledger, database_url: str
) -> None:
    await ledger.execute(ask("change_plan", "a", plan="small"))
    wishes = [Wish("consume", "a", f"{n}", {"amount": 1}) for n in range(CROWD)]
    for service in two:
        await service.give(Job(url=database_url, wishes=wishes))
    for service in two:
        await service.until(lambda service=service: len(service.told) == CROWD)
    book = await audited(database_url)
    for service in two:
        assert_told_the_truth(book, service.told.items())
    assert book.available("a") == 1000 - CROWD


async def test_every_acknowledged_command_of_two_processes_is_in_the_log_once(
    two: list[Service], database_url: str
) -> None:
    accounts = [*accounts_of(14, 4), *accounts_of(15, 2)]
    for number, service in enumerate(two):
        await service.give(
            Job(url=database_url, customers=16, accounts=accounts, name=f"p{number}-", seed=number, connections=4)
        )
    for service in two:
        await service.until(lambda service=service: len(service.told) > 400)
    for service in two:
        await service.end()
    book = await audited(database_url)
    for service in two:
        assert not service.open_wishes()
        assert_told_the_truth(book, service.told.items())
