"""20 kills of the service and 20 of PostgreSQL under load, at random moments.

Every acknowledged command is in the log exactly once, with the events that were acknowledged; every command without an
answer is sent again with its key and counts once; the audit finds nothing wrong.
"""

import asyncio
from collections.abc import AsyncGenerator
from random import Random

import pytest
import pytest_asyncio

from service.ledger import Ledger
from service.store.log import Log
from tests.servers import throwaway_directory
from tests.writer.asking import CATALOG, Said, Wish, accounts_of, said
from tests.writer.auditing import Book, audited
from tests.writer.crashes import Cluster, services
from tests.writer.driver import Job
from tests.writer.load import assert_told_the_truth, insist

CUSTOMERS = 32
ACCOUNTS = [*accounts_of(1, 6), *accounts_of(2, 2), *accounts_of(3, 2)]

Told = dict[tuple[str, str], Said]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncGenerator[Cluster]:
    """A PostgreSQL for this module alone, which is killed many times."""
    with throwaway_directory() as directory:
        cluster = Cluster(directory / "data")
        await cluster.start()
        yield cluster
        await cluster.stop()


@pytest.fixture
async def url(cluster: Cluster) -> str:
    """An empty database."""
    return await cluster.clone()


def job(url: str, number: int, again: list[Wish] | None = None) -> Job:
    """A crowd of customers that nobody was before."""
    name = f"s{number}-"
    return Job(url=url, customers=CUSTOMERS, accounts=ACCOUNTS, name=name, seed=number, wishes=again or [])


async def settled(url: str, told: Told, left: list[Wish]) -> Book:
    """The log, once the commands without an answer were sent again; all that was ever told is held against it."""
    log = await Log.connect(url)
    ledger = await Ledger.open(log, CATALOG)
    for wish in left:
        told[wish.account, wish.key] = await insist(lambda wish: said(ledger, wish.request()), wish)
    await log.close()
    book = await audited(url)
    assert_told_the_truth(book, told.items())
    assert set(book.commands) == {command for command, answer in told.items() if answer.written}
    return book


def remember(told: Told, news: Told) -> None:
    """Takes over what was told; what was told twice was the same."""
    for command, answer in news.items():
        before = told.get(command)
        assert before is None or not before.written or before.events == answer.events, command
        told[command] = answer


async def kill_services(url: str, kills: int, seed: int) -> Book:
    """Kills one service after the other; the next one begins with what the last one left open."""
    random, told, left = Random(seed), dict[tuple[str, str], Said](), list[Wish]()
    killed_in_flight = 0
    async with services() as spawn:
        coming = spawn()
        for number in range(kills):
            service = await coming
            coming = spawn()
            await service.give(job(url, number, left))
            enough = len(left) + random.randint(1, 150)
            await service.until(lambda service=service, enough=enough: len(service.told) >= enough)
            await service.kill()
            remember(told, service.told)
            left = service.open_wishes()
            killed_in_flight += bool(left)
    assert killed_in_flight > kills // 2, "most kills came while commands were under way"
    return await settled(url, told, left)


async def kill_postgresql(cluster: Cluster, url: str, kills: int, seed: int) -> Book:
    """Kills the database again and again under one service, which is to get over it."""
    random = Random(seed)
    async with services() as spawn:
        service = await spawn()
        await service.give(job(url, 0))
        for _ in range(kills):
            enough = len(service.told) + random.randint(1, 300)
            await service.until(lambda enough=enough: len(service.told) >= enough)
            await cluster.kill()
            await cluster.restart()
        await service.end()
        assert not service.open_wishes()
    return await settled(url, service.told, [])


async def kill_both(cluster: Cluster, url: str, kills: int, seed: int) -> Book:
    """Kills two services and the database in any order, also at once."""
    random, told, left = Random(seed), dict[tuple[str, str], Said](), list[Wish]()
    async with services() as spawn:
        number = 2
        running = [await spawn(), await spawn()]
        for index, service in enumerate(running):
            await service.give(job(url, index))
        for _ in range(kills):
            enough = sum(len(service.told) for service in running) + random.randint(1, 300)
            watched = random.choice(running)
            heard = len(watched.told) + enough // 10 + 1
            await watched.until(lambda watched=watched, heard=heard: len(watched.told) >= heard)
            victims = random.choice(["service", "postgresql", "both"])
            killing = [cluster.kill()] if victims != "service" else []
            killing += [watched.kill()] if victims != "postgresql" else []
            await asyncio.gather(*killing)
            if victims != "service":
                await cluster.restart()
            if victims != "postgresql":
                remember(told, watched.told)
                running[running.index(watched)] = fresh = await spawn()
                await fresh.give(job(url, number, watched.open_wishes()))
                number += 1
        for service in running:
            await service.end()
            remember(told, service.told)
            left += service.open_wishes()
    return await settled(url, told, left)


async def test_20_kills_of_the_service_under_load_lose_nothing(url: str) -> None:
    assert (await kill_services(url, 20, seed=1)).events


async def test_20_kills_of_postgresql_under_load_lose_nothing(cluster: Cluster, url: str) -> None:
    assert (await kill_postgresql(cluster, url, 20, seed=2)).events


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
async def test_many_kills_of_anything_lose_nothing(cluster: Cluster, url: str, seed: int) -> None:
    await kill_services(url, 30, seed)
    await kill_postgresql(cluster, await cluster.clone(), 30, seed)
    await kill_both(cluster, await cluster.clone(), 30, seed)
