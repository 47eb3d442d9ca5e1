"""Laws of the stream of alerts: each alert is in it once and in order, whoever was killed and whatever it lost."""

import asyncio

from service.projector import Projector
from tests.bus.streaming import Stage, delivering, new_prefix
from tests.servers import eventually, execute, value


async def exhaust(stage: Stage, *accounts: str) -> None:
    """Let each of the accounts be exhausted."""
    for account in accounts:
        await stage.spend(account, 35)
    projector = Projector(stage.log)
    await projector.store.register()
    await projector.catch_up()


async def told(stage: Stage, database_url: str) -> list[str]:
    """Whom the stream tells of, when all is published."""

    async def is_published() -> bool:
        left = (
            "select count(*) from alerts.outbox where number is null or number > (select published from alerts.numbers)"
        )
        return await value(database_url, left) == 0

    await eventually(is_published, "all alerts are published")
    return [message.json["subject"] for message in await stage.stored("ALERTS")]


async def test_an_alert_is_a_cloud_event_with_its_id_as_message_id(database_url: str, nats_url: str) -> None:
    async with delivering(database_url, nats_url, new_prefix()) as stage:
        await exhaust(stage, "a")
        assert await told(stage, database_url) == ["a"]
        (message,) = await stage.stored("ALERTS")
        event = message.json
        assert message.subject == f"{stage.prefix}.alerts.exhausted.a"
        assert message.headers["Nats-Msg-Id"] == event["id"] == f"{event['data']['event']}:exhausted:credits"
        assert message.headers["Content-Type"] == "application/cloudevents+json"
        assert (event["type"], event["sequence"]) == ("credits.alert.exhausted.v1", "1")
        assert event["source"] == f"urn:credit-ledger:{stage.ledger.id}"


async def test_processes_that_are_killed_before_they_remember_send_nothing_twice(
    database_url: str, nats_url: str
) -> None:
    prefix = new_prefix()
    accounts = [f"a{number}" for number in range(6)]
    for number in range(0, 6, 2):
        async with delivering(database_url, nats_url, prefix) as stage:
            await exhaust(stage, *accounts[number : number + 2])
            assert sorted(await told(stage, database_url)) == accounts[: number + 2]
        await execute(database_url, "update alerts.numbers set published = 0")
    async with delivering(database_url, nats_url, prefix) as stage:
        await exhaust(stage, "last")
        assert sorted(await told(stage, database_url)) == [*accounts, "last"]
        assert [message.json["sequence"] for message in await stage.stored("ALERTS")] == [str(n) for n in range(1, 8)]


async def test_a_stream_that_was_lost_goes_on_with_what_comes(database_url: str, nats_url: str) -> None:
    async with delivering(database_url, nats_url, new_prefix()) as stage:
        await exhaust(stage, "a")
        assert await told(stage, database_url) == ["a"]
        await stage.js.delete_stream(stage.stream("ALERTS"))
        await exhaust(stage, "b")
        assert await told(stage, database_url) == ["b"]
        await stage.js.purge_stream(stage.stream("ALERTS"))
        await exhaust(stage, "c")
        assert await told(stage, database_url) == ["c"]


async def test_a_message_of_somebody_else_in_the_stream_is_passed_by(database_url: str, nats_url: str) -> None:
    async with delivering(database_url, nats_url, new_prefix()) as stage:
        await exhaust(stage, "a")
        assert await told(stage, database_url) == ["a"]
        await stage.js.publish(f"{stage.prefix}.alerts.exhausted.x", b'{"subject": "x"}')
        await exhaust(stage, "b")
        assert await told(stage, database_url) == ["a", "x", "b"]


async def test_two_processes_and_one_that_follows_tell_each_alert_once(database_url: str, nats_url: str) -> None:
    prefix = new_prefix()
    async with (
        delivering(database_url, nats_url, prefix) as first,
        delivering(database_url, nats_url, prefix) as second,
    ):
        await asyncio.gather(exhaust(first, "a", "b"), exhaust(second, "c", "d"))
        assert sorted(await told(first, database_url)) == ["a", "b", "c", "d"]
    async with delivering(database_url, nats_url, prefix) as third:
        await exhaust(third, "e")
        assert sorted(await told(third, database_url)) == ["a", "b", "c", "d", "e"]
