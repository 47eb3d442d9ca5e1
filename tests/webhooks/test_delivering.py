"""Laws of webhooks: every alert reaches every receiver that wants it, signed, and no receiver is in the way of another."""

import asyncio
import base64
from collections.abc import AsyncGenerator

import pytest

from service.cloud_events import source_of
from service.http.outgoing import Sender
from service.ledger import Ledger
from service.store.log import Log
from service.store.outgoing import Outgoing
from service.telemetry.metrics import Metrics
from service.webhooks.deliverer import AT_ONCE_MAX, AWAY_AFTER, Deliverer
from service.webhooks.receivers import Receiver, key_of
from service.webhooks.schedule import GIVE_UP_SECONDS, SECONDS_MAX, wait_seconds
from tests.projections.test_projector import projected
from tests.servers import EVENTUALLY_SECONDS_MAX, eventually, value
from tests.webhooks.stage import Listener, is_signed, listener, listening
from tests.writer.asking import Clock, OpenLedger, ask


class Stage:
    """A ledger with a clock that stands still, and what sends its alerts."""

    def __init__(self, ledger: Ledger, readers: Log, clock: Clock) -> None:
        self.ledger = ledger
        self.readers = readers
        self.clock = clock
        self.outgoing = Outgoing(readers)
        self.sender = Sender(seconds_max=0.5)

    def deliverer(self, *receivers: Receiver) -> Deliverer:
        return Deliverer(
            *(self.outgoing, receivers, self.sender),
            source=source_of(self.ledger.id),
            clock=self.clock,
            poll_seconds=0.02,
        )

    async def exhaust(self, *accounts: str) -> None:
        """Use all credits of accounts up."""
        for account in accounts:
            await self.ledger.execute(ask("consume", account, amount=1000))
        await projected(self.readers)

    async def states(self) -> dict[str, int]:
        """How many deliveries there are in each state."""
        found = await self.outgoing.deliveries(None, None, 1000)
        return {state: [each.state for each in found].count(state) for state in {each.state for each in found}}


@pytest.fixture
async def stage(open_ledger: OpenLedger, readers: Log) -> AsyncGenerator[Stage]:
    clock = Clock()
    stage = Stage(await open_ledger(clock=clock), readers, clock)
    yield stage
    await stage.sender.close()


async def drained(deliverer: Deliverer, receiver: Receiver) -> None:
    """Send what is due."""
    while await deliverer.deliver(receiver):
        pass


async def begun(stage: Stage, *listeners: Listener) -> Deliverer:
    """A deliverer whose receivers are known, so that they hear what comes from now on."""
    deliverer = stage.deliverer(*(each.receiver for each in listeners))
    for each in listeners:
        await deliverer.deliver(each.receiver)
    return deliverer


async def test_an_alert_is_a_signed_cloud_event(stage: Stage) -> None:
    crm = listener()
    deliverer = await begun(stage, crm)
    await stage.exhaust("a")
    async with listening(crm):
        await drained(deliverer, crm.receiver)
    ((headers, _),), (event,) = crm.got, crm.events
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == event["id"] == f"{event['data']['event']}:exhausted:credits"
    assert event["type"] == "credits.alert.exhausted.v1"
    assert event["source"] == source_of(stage.ledger.id)
    assert (event["subject"], event["sequence"], event["data"]["available"]) == ("a", "1", 0)
    assert await stage.states() == {"delivered": 1}


async def test_while_a_secret_changes_both_sign(stage: Stage) -> None:
    crm, other = listener(), "whsec_" + base64.b64encode(b"n" * 24).decode()
    both = crm.receiver._replace(keys=(*crm.receiver.keys, key_of(other)))
    deliverer = stage.deliverer(both)
    await deliverer.deliver(both)
    await stage.exhaust("a")
    async with listening(crm):
        await drained(deliverer, both)
    ((headers, body),) = crm.got
    assert is_signed(headers, body) and is_signed(headers, body, other)


async def test_a_receiver_hears_the_kinds_and_accounts_that_it_wants_and_what_comes_after_it(stage: Stage) -> None:
    crm = listener()
    narrow = crm.receiver._replace(kinds=("recovered", "low_balance"), accounts=("b", "c"))
    await stage.exhaust("b")
    deliverer = stage.deliverer(narrow)
    await deliverer.deliver(narrow)
    await stage.exhaust("a", "c")
    for account in ("a", "b"):
        await stage.ledger.execute(ask("grant", account, amount=9))
    await projected(stage.readers)
    async with listening(crm):
        await drained(deliverer, narrow)
    assert crm.told == ["recovered b"]


@pytest.mark.parametrize("mood", ["away", "fails", "dawdles", "redirects"])
async def test_a_receiver_that_did_not_take_them_gets_all_alerts_once_it_is_well(stage: Stage, mood: str) -> None:
    crm = listener(mood="well" if mood == "away" else mood)  # type: ignore[arg-type]
    deliverer = await begun(stage, crm)
    accounts = [f"a{number}" for number in range(AWAY_AFTER + 2)]
    await stage.exhaust(*accounts)
    if mood == "away":
        await drained(deliverer, crm.receiver)
    else:
        async with listening(crm):
            await drained(deliverer, crm.receiver)
    assert (crm.got, await stage.states()) == ([], {"pending": len(accounts)})
    stage.clock.advance(3600)
    crm.mood = "well"
    crm.released.set()
    async with listening(crm):
        await drained(deliverer, crm.receiver)
    assert sorted(crm.told) == sorted(f"exhausted {account}" for account in accounts)
    assert await stage.states() == {"delivered": len(accounts)}


async def test_what_waits_for_a_receiver_that_is_back_is_due_at_once(stage: Stage) -> None:
    crm = listener()
    deliverer = await begun(stage, crm)
    await stage.exhaust(*(f"a{number}" for number in range(AWAY_AFTER)))
    for _ in range(6):
        await drained(deliverer, crm.receiver)
        stage.clock.advance(300)
    await stage.exhaust("news")
    async with listening(crm):
        await drained(deliverer, crm.receiver)
    assert len(crm.got) == AWAY_AFTER + 1


async def test_a_slow_receiver_slows_nobody_and_is_sent_a_few_at_once(stage: Stage) -> None:
    slow, quick = listener("slow", "dawdles"), listener("quick")
    stage.sender = Sender(seconds_max=30)
    deliverer = await begun(stage, slow, quick)
    await stage.exhaust(*(f"a{number}" for number in range(AT_ONCE_MAX + 4)))
    async with listening(slow), listening(quick):
        deliverer.start()
        await eventually(lambda: len(quick.got) == AT_ONCE_MAX + 4, "the quick one has all")
        assert (slow.got, slow.at_once_max) == ([], AT_ONCE_MAX)
        slow.released.set()
        await eventually(lambda: len(slow.got) == AT_ONCE_MAX + 4, "the slow one has all")
        assert slow.at_once_max == AT_ONCE_MAX
        await deliverer.stop()


async def test_an_answer_without_an_end_is_cut_off(stage: Stage) -> None:
    crm = listener(mood="floods")
    deliverer = await begun(stage, crm)
    await stage.exhaust("a")
    async with listening(crm):
        await asyncio.wait_for(drained(deliverer, crm.receiver), EVENTUALLY_SECONDS_MAX)
    assert await stage.states() == {"delivered": 1}


async def test_what_fails_for_three_days_is_given_up_and_can_be_sent_again(stage: Stage) -> None:
    crm = listener()
    deliverer = await begun(stage, crm)
    await stage.exhaust("a")
    while await stage.states() != {"given_up": 1}:
        await drained(deliverer, crm.receiver)
        stage.clock.advance(SECONDS_MAX)
    (row,) = await stage.outgoing.deliveries(None, "given_up", 10)
    assert row.attempts > GIVE_UP_SECONDS / SECONDS_MAX / 2
    assert row.error == "ClientConnectorError"
    assert await stage.outgoing.replay(stage.clock(), "crm", [row.alert], None) == 1
    async with listening(crm):
        await drained(deliverer, crm.receiver)
    assert crm.told == ["exhausted a"]


async def test_a_receiver_that_is_gone_is_not_asked_again(stage: Stage) -> None:
    crm = listener(mood="gone")
    deliverer = await begun(stage, crm)
    await stage.exhaust("a")
    async with listening(crm):
        await drained(deliverer, crm.receiver)
        stage.clock.advance(SECONDS_MAX)
        await drained(deliverer, crm.receiver)
    assert (crm.asked, await stage.states()) == (1, {"given_up": 1})


async def test_a_replay_since_an_instant_sends_what_a_receiver_wants_of_it_again(stage: Stage) -> None:
    crm = listener()
    await stage.exhaust("before")
    stage.clock.advance(60)
    since = stage.clock()
    await stage.exhaust("a", "b")
    deliverer = stage.deliverer(crm.receiver)
    async with listening(crm):
        await drained(deliverer, crm.receiver)
        assert crm.got == []
        assert await stage.outgoing.replay(stage.clock(), None, [], since) == 2
        await drained(deliverer, crm.receiver)
    assert sorted(crm.told) == ["exhausted a", "exhausted b"]


async def test_what_a_killed_process_had_taken_comes_up_again_and_two_share_the_rest(stage: Stage) -> None:
    crm = listener()
    first, second = await begun(stage, crm), stage.deliverer(crm.receiver)
    await stage.exhaust(*(f"a{number}" for number in range(9)))
    await stage.outgoing.number()
    await stage.outgoing.hand("crm", stage.clock(), age_seconds_max=60)
    taken = await stage.outgoing.claim("crm", stage.clock(), stage.clock(), 0)
    assert taken == []
    async with listening(crm):
        crm.mood = "dawdles"
        killed = asyncio.create_task(first.deliver(crm.receiver))
        await eventually(lambda: crm.at_once == AT_ONCE_MAX, "some are under way")
        killed.cancel()
        await asyncio.wait({killed})
        crm.mood = "well"
        third = stage.deliverer(crm.receiver)
        await asyncio.gather(drained(second, crm.receiver), drained(third, crm.receiver))
        assert len(crm.got) == 9 - AT_ONCE_MAX
        stage.clock.advance(61)
        await drained(second, crm.receiver)
    assert len({event["id"] for event in crm.events}) == len(crm.got) == 9


async def test_metrics_tell_what_waits(stage: Stage) -> None:
    crm = listener()
    deliverer = await begun(stage, crm)
    metrics = Metrics()
    deliverer.measure(metrics)
    await stage.exhaust(*(f"a{number}" for number in range(AWAY_AFTER)))
    await drained(deliverer, crm.receiver)
    stage.clock.advance(90)
    told = await metrics.exposition()
    assert f'credit_ledger_webhook_backlog{{endpoint="crm"}} {AWAY_AFTER}' in told
    assert 'credit_ledger_webhook_oldest_seconds{endpoint="crm"} 90' in told
    assert 'credit_ledger_webhook_away{endpoint="crm"} 1' in told
    assert f'credit_ledger_webhook_attempts_total{{endpoint="crm",result="failed"}} {AWAY_AFTER}' in told


def test_waits_grow_and_spread_and_follow_the_receiver() -> None:
    assert [wait_seconds(attempt, 0.5) for attempt in (1, 2, 3)] == [5, 15, 45]
    assert (wait_seconds(1, 0), wait_seconds(1, 1)) == (4, 6)
    assert wait_seconds(500, 0.5) == SECONDS_MAX
    assert (wait_seconds(1, 0.5, 600), wait_seconds(1, 0.5, 10**9)) == (600, SECONDS_MAX)


async def test_numbers_have_no_gap_when_several_give_them(stage: Stage, database_url: str) -> None:
    await stage.exhaust(*(f"a{number}" for number in range(20)))
    await asyncio.gather(*(stage.outgoing.number() for _ in range(4)))
    assert await value(database_url, "select array_agg(number order by number) from alerts.outbox") == [*range(1, 21)]
