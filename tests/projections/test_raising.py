"""Laws of raising: each alert is in the outbox once, whatever is killed, repeated or built again; timers are looked at once."""

import asyncio
from random import Random

import pytest

from events.catalog import parse_catalog
from events.instants import plus
from events.recorded import decode
from projections import alerts
from service.alert_clock import AlertClock
from service.ledger import Ledger
from service.projection_commands import rebuild
from service.projector import Projector
from service.store.log import Log
from service.store.outgoing import Outgoing
from tests.projections.test_projector import projected
from tests.servers import execute, value
from tests.writer.asking import CATALOG_TEXT, Clock, OpenLedger, accounts_of, ask

ACCOUNTS = [*accounts_of(3, 3), *accounts_of(5, 2)]
CATALOG = parse_catalog(
    CATALOG_TEXT
    + """
[plans.paid]
rank = 0
renewal = "external"
allowance.credits = 10
"""
)


async def ups_and_downs(ledger: Ledger, random: Random, commands: int = 40) -> None:
    """Accounts that are used up and filled again, two commands and more in a batch."""

    async def one(account: str) -> None:
        await ledger.execute(ask("change_plan", account, plan="twenty"))
        for _ in range(commands // 4):
            await asyncio.gather(
                ledger.execute(ask("grant", account, amount=random.randint(1, 9))),
                ledger.execute(ask("adjust", account, amount=-random.randint(1, 20), reason="x", insufficient="clamp")),
            )

    await asyncio.gather(*(one(account) for account in ACCOUNTS))


async def said_by_the_log(log: Log) -> list[str]:
    """The ids of what a fold of the whole log raises."""
    found: list[str] = []
    for partition in range(16):
        events = [decode(stored.line) for stored in await log.lines_from(partition, 1, 100_000)]
        found += [each.id for each in alerts.fold({}, events, None).raised]
    return sorted(found)


async def outbox(url: str) -> object:
    return await value(
        url, "select coalesce(array_agg(id order by id collate \"C\"), '{}') from alerts.outbox where position > 0"
    )


async def test_every_alert_is_raised_once_by_projectors_that_are_killed(
    ledger: Ledger, readers: Log, database_url: str
) -> None:
    random = Random(2)
    await Projector(readers).store.register()

    async def killed() -> None:
        while not writing.done():
            task = asyncio.create_task(Projector(readers, batch_lines_max=random.randint(1, 20)).project())
            await asyncio.wait({task, writing}, timeout=random.random() / 30, return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
            await asyncio.wait({task})

    writing = asyncio.create_task(ups_and_downs(ledger, random))
    await asyncio.gather(writing, killed(), killed())
    await projected(readers, batch_lines_max=9)
    said = await said_by_the_log(readers)
    assert len(said) > 20
    assert await outbox(database_url) == said


async def test_building_again_raises_nothing_and_says_the_same(ledger: Ledger, readers: Log, database_url: str) -> None:
    await ups_and_downs(ledger, Random(3))
    await projected(readers, batch_lines_max=7)
    await execute(database_url, "delete from alerts.outbox; delete from alerts.timers")
    assert await rebuild(readers, ["alerts"]) == []
    assert await value(database_url, "select count(*) from alerts.outbox") == 0
    assert await value(database_url, "select count(*) from alerts.timers") == 0
    await ups_and_downs(ledger, Random(4), commands=8)
    await projected(readers)
    assert await value(database_url, "select count(*) from alerts.outbox") != 0


async def test_what_was_before_alerts_is_remembered_and_not_told(
    ledger: Ledger, readers: Log, database_url: str
) -> None:
    """As the migration leaves it for a ledger that has a history."""
    await ups_and_downs(ledger, Random(5))
    await execute(
        database_url,
        "insert into alerts.raised (partition, raised, timed) select partition, position, 0 from ledger.heads",
    )
    expires_at = plus(ledger.clock(), seconds=86_400)
    await projected(readers)
    assert await outbox(database_url) == []
    account = ACCOUNTS[0]
    await ledger.execute(ask("grant", account, amount=1000, expires_at=expires_at))
    await ledger.execute(ask("adjust", account, amount=-1000, reason="x", insufficient="clamp"))
    await projected(readers)
    said = await said_by_the_log(readers)
    assert len(set(said)) > len(await outbox(database_url)) > 0  # type: ignore[arg-type]


async def test_timers_are_looked_at_when_their_instant_has_come_and_once(
    open_ledger: OpenLedger, readers: Log, database_url: str
) -> None:
    clock = Clock(days_ago=60)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    await ledger.execute(ask("change_plan", "payer", plan="paid"))
    for account in ("keeper", "spender"):
        expires_at = plus(clock(), seconds=10 * 86_400)
        await ledger.execute(ask("change_plan", account, plan="twenty"))
        await ledger.execute(ask("grant", account, amount=5, grant_id="gift", priority=0, expires_at=expires_at))
    await ledger.execute(ask("consume", "spender", amount=5))
    await projected(readers)
    timekeepers = [AlertClock(readers, Outgoing(readers), clock) for _ in range(2)]
    assert await timekeepers[0].look() == 0
    clock.advance(4 * 86_400)
    assert sum(await asyncio.gather(*(each.look() for each in timekeepers))) == 2
    clock.advance(25 * 86_400)
    assert await timekeepers[0].look() == 1
    told = await value(database_url, "select array_agg(kind || ' ' || account order by raised_at) from alerts.outbox")
    assert told == ["grant_expiring keeper", "renewal_due payer"]
    assert await rebuild(readers, ["alerts"]) == []
    assert await timekeepers[1].look() == 0


@pytest.mark.parametrize("is_old", [True, False])
async def test_alerts_are_kept_for_three_months(
    open_ledger: OpenLedger, readers: Log, database_url: str, is_old: bool
) -> None:
    clock = Clock(days_ago=100)
    ledger = await open_ledger(clock=clock)
    await ledger.execute(ask("consume", "a", amount=1000))
    await projected(readers)
    outgoing = Outgoing(readers)
    await outgoing.register("crm", None, None)
    await outgoing.number()
    clock.advance((91 if is_old else 89) * 86_400)
    await AlertClock(readers, outgoing, clock).forget()
    assert await value(database_url, "select count(*) from alerts.outbox") == (0 if is_old else 1)
