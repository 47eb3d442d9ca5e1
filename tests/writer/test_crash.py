"""kill -9 of the service and of PostgreSQL between every two steps of an append.

After each: what was acknowledged is in the log, what was not is there once when it was sent again with its key, and the
audit finds nothing wrong. The command that the crash hits creates an item and changes another one, so that every
statement of the append has something to do.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from service.ledger import Ledger
from service.store.log import Log
from tests.servers import throwaway_directory
from tests.writer.asking import CATALOG, Wish, ask, said
from tests.writer.auditing import Book, audited
from tests.writer.crashes import STEPS, Cluster, Service, appends_stop, services
from tests.writer.driver import AFTER_THE_ANSWER, BEFORE_THE_CALL, Job
from tests.writer.proxy import Fault, proxy_to

HIT = Wish("consume", "a", "the-command-that-is-hit", {"reservation_id": "r", "amount": 7, "final": False})
BEFORE = [ask("reserve", "a", amount=100, reservation_id="r"), ask("grant", "a", amount=50)]
ON_THE_WIRE = {"the call was sent": Fault.HELD_BACK, "it is committed and the answer not read": Fault.ANSWER_HELD}
IN_THE_PROCESS = [BEFORE_THE_CALL, AFTER_THE_ANSWER]

Spawn = Callable[[], "asyncio.Future[Service]"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncGenerator[Cluster]:
    """A PostgreSQL for this module alone, which is killed many times."""
    with throwaway_directory() as directory:
        cluster = Cluster(directory / "data")
        await cluster.start()
        yield cluster
        await cluster.stop()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience for as long as it takes a busy machine to start a server, which these laws are not about."""
    monkeypatch.setattr("service.writer.PATIENCE_SECONDS", 60.0)


@pytest.fixture
async def spawn() -> AsyncGenerator[Spawn]:
    """Spawns service processes."""
    async with services() as spawn:
        yield spawn


@pytest.fixture
async def url(cluster: Cluster) -> AsyncGenerator[str]:
    """A database with an account and a hold."""
    url = await cluster.clone()
    async with AsyncExitStack() as stack:
        ledger = await opened(stack, url)
        for request in BEFORE:
            await ledger.execute(request)
    yield url
    await cluster.drop(url)


async def opened(stack: AsyncExitStack, url: str) -> Ledger:
    """A ledger, closed with the stack."""
    log = await Log.connect(url, connections=2)
    stack.push_async_callback(log.close)
    return await Ledger.open(log, CATALOG)


def assert_it_counts_once(book: Book, events: tuple[str, ...]) -> None:
    """What was there before and the command that was hit: each once, and nothing else."""
    assert [key for _, key in book.commands] == [*(request.key for request in BEFORE), HIT.key]
    assert book.hashes(HIT.account, HIT.key) == events
    hold = book.accounts["a"].hold("r")
    assert hold is not None
    assert (hold.charged, hold.held, hold.partials) == (7, 93, 1)


@pytest.mark.parametrize("step", STEPS)
async def test_the_service_is_killed_and_its_append_goes_on_without_it(url: str, spawn: Spawn, step: str) -> None:
    """The next service already sends the command again while the orphan still holds the head."""
    async with AsyncExitStack() as stack, appends_stop(url, step) as stopped:
        service = await spawn()
        await service.give(Job(url=url, wishes=[HIT]))
        await stopped.appends_wait()
        await service.kill()
        assert not service.told
        again = asyncio.create_task(said(await opened(stack, url), HIT.request()))
        await stopped.appends_wait(2)
        await stopped.let_go()
        assert (await again).written
        assert_it_counts_once(await audited(url), (await again).events)


@pytest.mark.parametrize("step", STEPS)
async def test_postgresql_is_killed_and_the_service_gets_over_it(cluster: Cluster, url: str, step: str) -> None:
    async with AsyncExitStack() as stack, appends_stop(url, step) as stopped:
        task = asyncio.create_task(said(await opened(stack, url), HIT.request()))
        await stopped.appends_wait()
        await cluster.kill()
        await cluster.restart()
        answer = await task
        assert answer.written
        assert not answer.replayed
        assert_it_counts_once(await audited(url), answer.events)


@pytest.mark.parametrize("step", ["the events are in", "at the commit"])
async def test_the_machine_goes_down(cluster: Cluster, url: str, spawn: Spawn, step: str) -> None:
    async with appends_stop(url, step) as stopped:
        service = await spawn()
        await service.give(Job(url=url, wishes=[HIT]))
        await stopped.appends_wait()
        await asyncio.gather(cluster.kill(), service.kill())
    await cluster.restart()
    assert not service.told
    assert HIT.key not in {key for _, key in (await audited(url)).commands}
    async with AsyncExitStack() as stack:
        answer = await said(await opened(stack, url), HIT.request())
    assert not answer.replayed
    assert_it_counts_once(await audited(url), answer.events)


@pytest.mark.parametrize("moment", ON_THE_WIRE)
async def test_the_service_is_killed_while_the_call_is_on_the_wire(url: str, spawn: Spawn, moment: str) -> None:
    """What is still on the wire arrives after the next service has sent the command again."""
    async with AsyncExitStack() as stack, proxy_to(url) as proxy:
        trap = proxy.set_trap(HIT.key, ON_THE_WIRE[moment])
        service = await spawn()
        await service.give(Job(url=proxy.url, wishes=[HIT]))
        await trap.sprung.wait()
        await service.kill()
        assert not service.told
        next_one = await opened(stack, url)
        answer = await said(next_one, HIT.request())
        assert answer.replayed == (trap.fault is Fault.ANSWER_HELD)
        trap.let_go()
        assert (await said(next_one, HIT.request())).events == answer.events
        assert_it_counts_once(await audited(url), answer.events)


@pytest.mark.parametrize("moment", ON_THE_WIRE)
async def test_postgresql_is_killed_while_the_call_is_on_the_wire(cluster: Cluster, url: str, moment: str) -> None:
    async with AsyncExitStack() as stack, proxy_to(url) as proxy:
        trap = proxy.set_trap(HIT.key, ON_THE_WIRE[moment])
        task = asyncio.create_task(said(await opened(stack, proxy.url), HIT.request()))
        await trap.sprung.wait()
        await cluster.kill()
        proxy.cut()
        await cluster.restart()
        answer = await task
        assert answer.written
        assert_it_counts_once(await audited(url), answer.events)


@pytest.mark.parametrize("moment", IN_THE_PROCESS)
async def test_the_service_is_killed_on_its_own_side_of_the_call(url: str, spawn: Spawn, moment: str) -> None:
    service = await spawn()
    await service.give(Job(url=url, wishes=[HIT], stop=moment))
    await service.until(lambda: service.reached)
    await service.kill()
    assert not service.told
    async with AsyncExitStack() as stack:
        answer = await said(await opened(stack, url), HIT.request())
    assert answer.replayed == (moment == AFTER_THE_ANSWER)
    assert_it_counts_once(await audited(url), answer.events)
