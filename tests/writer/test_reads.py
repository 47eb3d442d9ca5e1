"""Reads answer what the log says: now, at a past instant, behind a token, and to a crowd."""

import asyncio
from time import monotonic
from typing import Any

import pytest

from events.errors import AccountNotFound, InvalidRequest
from service.gathering import Snapshots
from service.ledger import Ledger
from service.outages import Unavailable
from service.queries import BalanceQuery, OutcomeQuery, QuotaQuery
from service.reads import Reads
from service.store.batches import Head
from service.store.log import Loaded, Log
from tests.servers import execute
from tests.writer.asking import Clock, OpenLedger, accounts_of, ask, said
from tests.writer.auditing import audited
from tests.writer.holding import held_head

SECONDS = 40


async def balance(reads: Reads, account: str, **fields: Any) -> dict[str, Any]:
    """The balance of an account."""
    status, view = await reads.answer("balance", BalanceQuery(account=account, **fields))
    assert status == 200
    return view


async def test_a_read_includes_every_command_that_was_answered_before(open_ledger: OpenLedger) -> None:
    one, other = await open_ledger(), await open_ledger()
    reads = Reads(other)
    for number in range(1, 30):
        outcome = await one.execute(ask("consume", "a", amount=1))
        view = await balance(reads, "a")
        assert view["available"] == 1000 - number
        assert view["token"] == outcome.lines[-1].event.id


async def test_a_token_that_the_log_has_not_reached_is_waited_for(ledger: Ledger, database_url: str) -> None:
    reads = Reads(ledger)
    first = await ledger.execute(ask("reserve", "a", amount=1))
    partition, position = (int(part) for part in first.lines[-1].event.id.split("-"))
    token = f"{partition}-{position + 1}"
    async with held_head(database_url, partition) as held:
        writing = asyncio.create_task(ledger.execute(ask("reserve", "a", amount=2)))
        await held.appends_wait()
        reading = asyncio.create_task(balance(reads, "a", min_token=token))
        done, _ = await asyncio.wait({reading}, timeout=0.1)
        assert not done, "the read waits"
    await writing
    view = await reading
    assert (view["token"], view["available"]) == (token, 1000 - 3)
    assert (await balance(reads, "a", min_token=first.lines[0].event.id))["token"] == token


async def test_a_token_that_does_not_come_is_given_up(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.reads.TOKEN_WAIT_SECONDS", 0.2)
    first = await ledger.execute(ask("reserve", "a", amount=1))
    partition, position = first.lines[-1].event.id.split("-")
    started = monotonic()
    with pytest.raises(Unavailable):
        await balance(Reads(ledger), "a", min_token=f"{partition}-{int(position) + 1}")
    assert monotonic() - started >= 0.2


async def test_a_token_of_another_partition_is_refused(ledger: Ledger) -> None:
    here, elsewhere = accounts_of(4, 1)[0], accounts_of(5, 1)[0]
    await ledger.execute(ask("reserve", here, amount=1))
    token = (await ledger.execute(ask("reserve", elsewhere, amount=1))).lines[-1].event.id
    with pytest.raises(InvalidRequest):
        await balance(Reads(ledger), here, min_token=token)


async def lived(ledger: Ledger, clock: Clock, account: str) -> None:
    """The life of an account: commands, and holds and grants that time alone brings to their end."""
    for step in [
        ask("reserve", account, amount=100, reservation_id="r", ttl_seconds=2),
        ask("grant", account, amount=50, expires_at=_in(clock, 12)),
        ask("grant", account, amount=30, effective_at=_in(clock, 25)),
        ask("reserve", account, amount=20, reservation_id="s", ttl_seconds=9),
        ask("consume", account, reservation_id="s", amount=5, final=False),
        ask("consume", account, amount=7),
    ]:
        assert (await said(ledger, step)).written
        clock.advance(1.5)


def _in(clock: Clock, seconds: float) -> str:
    """An instant from now."""
    later = Clock()
    later.now = clock.now
    later.advance(seconds)
    return later()


async def test_a_balance_of_the_past_is_what_a_read_answered_then(open_ledger: OpenLedger) -> None:
    """Answers are kept as they come, between commands and while holds and grants end, and asked for again later."""
    clock = Clock()
    ledger = await open_ledger(clock=clock)
    reads = Reads(ledger)
    await lived(ledger, clock, "a")
    kept: list[dict[str, Any]] = []
    for second in range(SECONDS):
        if second % 9 == 0:
            await ledger.execute(ask("consume", "a", amount=1))
        kept.append(await balance(reads, "a"))
        clock.advance(1)
    await ledger.execute(ask("consume", "a", amount=1))
    again = Reads(await open_ledger(clock=clock))
    assert [await balance(again, "a", at=view["as_of"]) for view in kept] == kept
    assert len({view["available"] for view in kept}) > 5


async def test_what_is_written_between_the_queries_of_a_read_does_not_leave_it_half_of_each(
    open_ledger: OpenLedger,
) -> None:
    """The sweeper writes that the hold ran out, after the read has the account and before it has the holds that are due."""
    clock = Clock()
    ledger = await open_ledger(clock=clock)
    await ledger.execute(ask("reserve", "a", amount=100, reservation_id="r", ttl_seconds=2))
    clock.advance(60)
    load = ledger.log.load

    async def overtaken(*asked: Any) -> list[Loaded]:
        await (await open_ledger(clock=clock)).sweep("a")
        return await load(*asked)

    ledger.log.load = overtaken  # type: ignore[method-assign]  # stands still where a busy process may
    view = await balance(Reads(ledger), "a")
    assert (view["available"], view["reserved"]) == (1000, 0)


async def test_a_key_that_is_not_found_is_not_there_up_to_the_token_that_the_answer_names(
    open_ledger: OpenLedger,
) -> None:
    """Another process writes the command after the key was looked for and before the end of the log is read."""
    ledger, other = await open_ledger(), await open_ledger()
    head = ledger.log.head

    async def overtaken(partition: int) -> Head:
        await other.execute(ask("consume", "a", key="k", amount=1))
        return await head(partition)

    ledger.log.head = overtaken  # stands still where a busy process may
    status, _ = await Reads(ledger).answer("outcome", OutcomeQuery(account="a", idempotency_key="k"))
    assert status == 200


async def test_a_balance_before_the_opening_or_in_the_future_is_refused(open_ledger: OpenLedger) -> None:
    clock = Clock()
    ledger = await open_ledger(clock=clock)
    reads = Reads(ledger)
    before = clock()
    clock.advance(1)
    await ledger.execute(ask("reserve", "a", amount=1))
    with pytest.raises(AccountNotFound):
        await balance(reads, "a", at=before)
    with pytest.raises(InvalidRequest):
        await balance(reads, "a", at=_in(clock, 1))


async def test_due_facts_in_memory_are_those_that_are_written_later(open_ledger: OpenLedger, database_url: str) -> None:
    """Each account is read at an instant, and then gets a command at that instant, which writes what was due."""
    accounts = accounts_of(6, SECONDS // 2)
    clock = Clock()
    ledger = await open_ledger(clock=clock)
    reads = Reads(ledger)
    for account in accounts:
        start = clock.now
        await lived(ledger, clock, account)
        clock.now = start
    for account in accounts:
        clock.advance(2)
        seen = await balance(reads, account)
        outcome = await ledger.execute(ask("grant", account, amount=1, priority=1000))
        written = outcome.lines[-1].event.balance["credits"]
        assert written.available == seen["available"] + 1
        assert (written.reserved, written.scheduled) == (seen["reserved"], seen["scheduled"])
        after = await balance(reads, account)
        assert after["available"] == written.available
    kinds = {event.kind for event in (await audited(database_url)).events if event.command.name == "system"}
    assert kinds == {"hold_expired", "expired", "activated"}


async def test_500_readers_at_once_each_get_their_own_account(ledger: Ledger) -> None:
    accounts = [f"crowd-{number}" for number in range(100)]
    await asyncio.gather(
        *(ledger.execute(ask("consume", account, amount=number + 1)) for number, account in enumerate(accounts))
    )
    reads = Reads(ledger)
    queries = 0
    snapshots = ledger.log.snapshots

    async def counted(*arguments: Any) -> dict[str, bytes]:
        nonlocal queries
        queries += 1
        return await snapshots(*arguments)

    ledger.log.snapshots = counted  # type: ignore[method-assign]  # counts, and passes on
    views = await asyncio.gather(*(balance(reads, accounts[number % 100]) for number in range(500)))
    for number, view in enumerate(views):
        assert view["account"] == accounts[number % 100]
        assert view["available"] == 1000 - (number % 100 + 1)
    assert queries <= 4, "they share their queries"


async def test_a_gathered_read_that_comes_late_sees_what_was_written_since(open_ledger: OpenLedger) -> None:
    """A query that is already under way is not joined: it may have been answered before the write."""
    writer, reader = await open_ledger(), await open_ledger(connections=1)
    reads = Reads(reader)
    await writer.execute(ask("change_plan", "a", plan="small"))
    for number in range(1, 30):
        early = asyncio.create_task(balance(reads, "a"))
        await writer.execute(ask("consume", "a", amount=1))
        assert (await balance(reads, "a"))["available"] == 1000 - number
        assert (await early)["available"] in {1000 - number, 1000 - number + 1}


async def test_a_reader_that_goes_away_disturbs_nobody(ledger: Ledger) -> None:
    await ledger.execute(ask("change_plan", "a", plan="small"))
    reads = Reads(ledger)
    readers = [asyncio.create_task(balance(reads, "a")) for _ in range(50)]
    await asyncio.sleep(0)
    for reader in readers[::2]:
        reader.cancel()
    views = await asyncio.gather(*readers[1::2])
    assert {view["available"] for view in views} == {1000}
    assert all(reader.cancelled() for reader in readers[::2])


async def test_a_read_that_the_database_refuses_fails_and_does_not_hang(ledger: Ledger, database_url: str) -> None:
    reads = Reads(ledger)
    await ledger.execute(ask("change_plan", "a", plan="small"))
    await execute(database_url, "REVOKE SELECT ON ledger.accounts FROM credit_ledger_app")
    readers = [asyncio.create_task(balance(reads, "a")) for _ in range(5)]
    done, waiting = await asyncio.wait(readers, timeout=60)
    assert not waiting
    assert all(reader.exception() is not None for reader in done)
    await execute(database_url, "GRANT SELECT ON ledger.accounts TO credit_ledger_app")
    assert (await balance(reads, "a"))["available"] == 1000


async def test_the_outcome_of_a_key_is_in_progress_and_then_known(ledger: Ledger, database_url: str) -> None:
    reads = Reads(ledger)
    await ledger.execute(ask("change_plan", "a", plan="small"))
    request = ask("reserve", "a", amount=1)
    query = OutcomeQuery(account="a", idempotency_key=request.key)
    async with held_head(database_url, ledger.partition("a")) as held:
        writing = asyncio.create_task(ledger.execute(request))
        await held.appends_wait()
        assert (await reads.answer("outcome", query))[0] == 202
    await writing
    status, view = await reads.answer("outcome", query)
    assert status == 200
    assert view["replayed"]


async def test_the_log_is_read_by_a_role_that_cannot_write(database_url: str) -> None:
    log = await Log.connect(database_url, connections=1)
    async with log.connection() as connection:
        assert await connection.fetchval("SELECT current_user") == "credit_ledger_app"
    await log.close()


async def test_a_quota_and_a_balance_agree(ledger: Ledger) -> None:
    reads = Reads(ledger)
    await ledger.execute(ask("consume", "a", amount=250))
    await ledger.execute(ask("reserve", "a", amount=100))
    _, quota = await reads.answer("quota", QuotaQuery(account="a"))
    view = await balance(reads, "a")
    assert quota["credits_remaining"] == view["available"] == 650
    assert quota["credits_used"] == 250
    assert quota["credits_limit"] == 1000


class Gated:
    """A log whose queries all end in one and the same turn of the loop, which no database can be made to do."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def snapshots(self, keys: list[tuple[int, str]]) -> dict[str, bytes]:
        """Answer when the gate opens: there are no such accounts."""
        await self.gate.wait()
        return {}


async def test_a_read_that_comes_in_the_moment_in_which_queries_end_is_answered() -> None:
    log = Gated()
    snapshots = Snapshots(log)  # type: ignore[arg-type]  # it asks for nothing but snapshots

    async def behind_them() -> object:
        await log.gate.wait()
        return await snapshots.read(0, "late")

    async with asyncio.TaskGroup() as readers:
        for account in ("a", "b"):
            readers.create_task(snapshots.read(0, account))
            for _ in range(3):  # its query is under way
                await asyncio.sleep(0)
        late = readers.create_task(behind_them())
        await asyncio.sleep(0)
        log.gate.set()
        async with asyncio.timeout(5):
            assert await late is None
