"""Laws of durable commands: executed once, in stream order for each account, with an outcome that is told."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import cast

import pytest
from nats.js.api import DiscardPolicy

from service.access import Access
from service.bus.submissions import FAILURES_MAX
from service.embedded import EmbeddedNats
from service.embedded.child import free_port
from service.gateway import Gateway
from service.outages import Failed, Unavailable
from service.replies import Reply, out_of_order
from service.telemetry.metrics import Metrics
from tests.bus.calling import Call, Scripted, publish_raw
from tests.bus.streaming import Stage, Stored, delivering, new_prefix
from tests.servers import eventually, throwaway_directory


@pytest.fixture
async def stage(database_url: str, nats_url: str) -> AsyncGenerator[Stage]:
    async with delivering(database_url, nats_url, new_prefix()) as stage:
        await is_taking(stage)
        yield stage


async def is_taking(stage: Stage) -> None:
    """Wait until the streams are there."""

    async def is_there() -> bool:
        try:
            await stage.js.stream_info(stage.stream("DEAD"))
            return (await stage.js.stream_info(stage.stream("COMMANDS"))).state.consumer_count > 0
        except Exception:  # noqa: BLE001 - not there yet
            return False

    await eventually(is_there, "durable commands are taken")


async def submit(
    stage: Stage, command: str, body: object, *, caller: str = "shop", headers: Mapping[str, str] | None = None
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    await stage.js.publish(
        f"{stage.prefix}.submit.{caller}.{command}", data, headers=dict(headers) if headers else None
    )


async def stored(stage: Stage, what: str, count: int) -> list[Stored]:
    """The messages of a stream, when there are as many as expected, and nothing waits."""

    async def is_done() -> bool:
        info = await stage.js.stream_info(stage.stream(what))
        left = await stage.js.stream_info(stage.stream("COMMANDS"))
        return info.state.messages >= count and left.state.messages == 0

    await eventually(is_done, f"{count} messages in {what}")
    messages = await stage.stored(what)
    assert len(messages) == count
    return messages


async def test_an_outcome_is_told_accepted_or_refused(stage: Stage) -> None:
    await submit(stage, "change_plan", {"account": "a", "plan": "starter", "idempotency_key": "1"})
    await submit(stage, "reserve", {"account": "a", "amount": 500}, headers={"Idempotency-Key": "2"})
    opened, refused = await stored(stage, "RESULTS", 2)
    assert opened.subject == f"{stage.prefix}.result.shop.change_plan"
    assert (opened.headers["Ledger-Status"], opened.headers["Idempotency-Key"]) == ("201", "1")
    assert opened.json["balance"]["available"] == 200
    assert opened.json["events"][0]["actor"] == {"id": "shop", "via": "nats"}
    assert refused.subject == f"{stage.prefix}.result.shop.reserve"
    assert (refused.headers["Ledger-Status"], refused.headers["Idempotency-Key"]) == ("402", "2")
    assert refused.headers["Nats-Service-Error"] == refused.json["code"] == "insufficient_credits"


async def test_commands_of_one_account_run_in_stream_order(stage: Stage) -> None:
    for account in ("a", "b", "c"):
        await submit(
            stage, "change_plan", {"account": account, "plan": "starter", "idempotency_key": f"open-{account}"}
        )
        for n in range(20):  # each hold is released before the next one, which 200 credits would not allow otherwise
            hold = {"account": account, "reservation_id": f"{account}-{n}"}
            await submit(stage, "reserve", {**hold, "amount": 150, "idempotency_key": f"r{n}"})
            await submit(stage, "release", {**hold, "idempotency_key": f"f{n}"})
    results = await stored(stage, "RESULTS", 3 * 41)
    assert {result.headers["Ledger-Status"] for result in results} == {"201"}


UNREADABLE: dict[str, tuple[str, bytes, str]] = {
    "no JSON": ("reserve", b'{"account":', "invalid_json"),
    "no key": ("reserve", b'{"account":"a","amount":1}', "idempotency_key_required"),
    "a key that is no text": ("reserve", b'{"account":"a","amount":1,"idempotency_key":7}', "invalid_request"),
    "an unknown command": ("explode", b'{"account":"a","idempotency_key":"1"}', "not_found"),
    "a query": ("balance", b'{"account":"a","idempotency_key":"1"}', "not_found"),
    "a dry run": ("reserve", b'{"account":"a","amount":1,"idempotency_key":"1","dry_run":true}', "invalid_request"),
    "a subject that is too long": ("reserve.now", b'{"account":"a","idempotency_key":"1"}', "not_found"),
}


async def test_what_cannot_be_read_goes_to_the_dead_with_the_reason_and_the_bytes(stage: Stage) -> None:
    for command, body, _ in UNREADABLE.values():
        await submit(stage, command, body)
    await submit(stage, "change_plan", {"account": "a", "plan": "free", "idempotency_key": "1"})
    dead = await stored(stage, "DEAD", len(UNREADABLE))
    found = {(message.data, message.headers["Reason"]) for message in dead}
    assert found == {(body, reason) for _, body, reason in UNREADABLE.values()}
    assert {message.subject for message in dead} == {f"{stage.prefix}.dead.shop"}
    assert all(message.headers["Detail"] for message in dead)
    assert len(await stored(stage, "RESULTS", 1)) == 1


async def test_a_message_whose_headers_are_broken_goes_to_the_dead_and_holds_up_nobody(
    stage: Stage, nats_url: str
) -> None:
    subject = f"{stage.prefix}.submit.shop.reserve".encode()
    await publish_raw(nats_url, b"HPUB %b 4 6\r\nabcd{}\r\n" % subject)
    await submit(stage, "change_plan", {"account": "a", "plan": "free", "idempotency_key": "1"})
    assert [message.data for message in await stored(stage, "DEAD", 1)] == [b"{}"]
    assert len(await stored(stage, "RESULTS", 1)) == 1


async def test_what_is_wrong_with_a_command_that_has_a_key_is_its_outcome(stage: Stage) -> None:
    await submit(stage, "reserve", {"account": "a", "amnt": 1, "idempotency_key": "1"})
    await submit(stage, "reserve", {"amount": 1, "idempotency_key": "2"})
    results = await stored(stage, "RESULTS", 2)
    assert {(result.headers["Ledger-Status"], result.json["code"]) for result in results} == {
        ("422", "invalid_request")
    }


async def test_a_caller_may_do_what_its_scopes_say(database_url: str, nats_url: str) -> None:
    access = Access.parse('[[caller]]\nname = "shop"\nscopes = ["spend"]\n')
    async with delivering(database_url, nats_url, new_prefix(), access=access) as stage:
        await is_taking(stage)
        body = {"account": "a", "amount": 5, "idempotency_key": "1"}
        await submit(stage, "grant", body)
        await submit(stage, "reserve", body, caller="stranger")
        await submit(stage, "reserve", {**body, "idempotency_key": "2"})
        results = await stored(stage, "RESULTS", 3)
    told = {
        result.subject.removeprefix(f"{stage.prefix}.result."): result.headers["Ledger-Status"] for result in results
    }
    assert told == {"shop.grant": "403", "stranger.reserve": "403", "shop.reserve": "201"}


async def test_sent_twice_a_command_counts_once(stage: Stage) -> None:
    body = {"account": "a", "amount": 5, "idempotency_key": "1"}
    for _ in range(3):
        await submit(stage, "consume", body)
    results = await stored(stage, "RESULTS", 3)
    assert sorted(result.headers["Ledger-Status"] for result in results) == ["200", "200", "201"]
    assert len({result.json["token"] for result in results}) == 1


async def test_what_waits_at_the_start_is_taken_in_its_order(database_url: str, nats_url: str) -> None:
    prefix = new_prefix()
    async with delivering(database_url, nats_url, prefix) as stage:
        await is_taking(stage)
    async with delivering(database_url, nats_url, prefix, start=False) as stage:
        await submit(stage, "change_plan", {"account": "a", "plan": "starter", "idempotency_key": "open"})
        for n in range(30):
            hold = {"account": "a", "reservation_id": f"r{n}"}
            await submit(stage, "reserve", {**hold, "amount": 150, "idempotency_key": f"r{n}"})
            await submit(stage, "release", {**hold, "idempotency_key": f"f{n}"})
        metrics = Metrics()
        stage.delivery.measure(metrics)
        stage.delivery.start()
        results = await stored(stage, "RESULTS", 61)
        assert {result.headers["Ledger-Status"] for result in results} == {"201"}
        text = await metrics.exposition()
    assert "credit_ledger_submissions_backlog 0" in text
    assert 'credit_ledger_submissions_total{result="accepted"} 61' in text


def scripted(script: Callable[[Call], Awaitable[Reply]]) -> Gateway:
    return cast("Gateway", Scripted(script))


async def test_in_an_outage_commands_wait_and_are_delivered_once(database_url: str, nats_url: str) -> None:
    """The lanes wait for the ledger; the server is not asked to deliver again, and nothing is told as an outcome."""
    is_away = True
    calls: list[str] = []

    async def script(call: Call) -> Reply:
        calls.append(json.loads(call.body)["idempotency_key"])
        return out_of_order(Unavailable("the database is away")) if is_away else Reply(201, b"{}")

    async def healthy() -> None:
        if is_away:
            raise Unavailable("the database is away")

    async with delivering(database_url, nats_url, new_prefix(), gateway=scripted(script)) as stage:
        stage.bus.submissions._healthy = healthy
        await is_taking(stage)
        for n in range(5):
            await submit(stage, "reserve", {"account": "a", "amount": 1, "idempotency_key": f"k{n}"})
        await eventually(lambda: len(calls) > 0 and stage.bus.submissions.at_work == 5, "they were delivered")
        assert set(calls) == {"k0"}
        assert (await stage.js.stream_info(stage.stream("COMMANDS"))).state.messages == 5
        name = (await stage.js.consumers_info(stage.stream("COMMANDS")))[0]
        is_away = False
        results = await stored(stage, "RESULTS", 5)
        assert name.num_redelivered == 0
    assert [result.headers["Idempotency-Key"] for result in results] == [f"k{n}" for n in range(5)]
    assert [key for key in calls if key != "k0"] == ["k1", "k2", "k3", "k4"]


async def test_a_command_that_always_fails_while_the_ledger_is_well_goes_to_the_dead(
    database_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.bus.submissions.RETRY_SECONDS_MAX", 0.01)

    async def script(call: Call) -> Reply:
        if b"poison" in call.body:
            return out_of_order(Failed("the ledger failed on this command; look its key up"))
        return Reply(201, b"{}")

    async with delivering(database_url, nats_url, new_prefix(), gateway=scripted(script)) as stage:
        await is_taking(stage)
        await submit(stage, "reserve", {"account": "a", "reason": "poison", "idempotency_key": "1"})
        await submit(stage, "reserve", {"account": "a", "amount": 1, "idempotency_key": "2"})
        (dead,) = await stored(stage, "DEAD", 1)
        (result,) = await stored(stage, "RESULTS", 1)
    assert (dead.headers["Reason"], dead.headers["Ledger-Status"]) == ("unavailable", "503")
    assert result.headers["Idempotency-Key"] == "2"


async def test_a_command_waits_through_an_outage_however_well_the_ledger_looks(
    database_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, say, which nothing but writing notices; the dead would ask for a hand."""
    monkeypatch.setattr("service.bus.submissions.RETRY_SECONDS_MAX", 0.01)
    asked = 0

    async def script(_call: Call) -> Reply:
        nonlocal asked
        asked += 1
        return Reply(201, b"{}") if asked > 3 * FAILURES_MAX else out_of_order(Unavailable("no room left"))

    async with delivering(database_url, nats_url, new_prefix(), gateway=scripted(script)) as stage:
        await is_taking(stage)
        await submit(stage, "reserve", {"account": "a", "amount": 1, "idempotency_key": "1"})
        (result,) = await stored(stage, "RESULTS", 1)
        assert (await stage.js.stream_info(stage.stream("DEAD"))).state.messages == 0
    assert result.headers["Ledger-Status"] == "201"


async def test_an_outcome_that_cannot_be_stored_is_an_alarm_and_told_when_it_can(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.bus.submissions.UNSTORED_SECONDS", 0.1)
    metrics = Metrics()
    stage.delivery.measure(metrics)
    info = await stage.js.stream_info(stage.stream("RESULTS"))
    limit, discard = info.config.max_bytes, info.config.discard
    info.config.max_bytes, info.config.discard = 1, DiscardPolicy.NEW
    await stage.js.update_stream(info.config)
    await submit(stage, "consume", {"account": "a", "amount": 5, "idempotency_key": "1"})

    async def is_told() -> bool:
        return 'credit_ledger_delivery_alarm{code="outcomes_not_stored"} 1' in await metrics.exposition()

    await eventually(is_told, "the alarm")
    assert await outcome_status(stage, "1") == 200
    info.config.max_bytes, info.config.discard = limit, discard
    await stage.js.update_stream(info.config)
    (result,) = await stored(stage, "RESULTS", 1)
    assert result.headers["Ledger-Status"] in ("200", "201")
    assert not await is_told()


async def test_nats_killed_again_and_again_loses_no_command_and_applies_none_twice(database_url: str) -> None:
    with throwaway_directory() as data:
        port = free_port()
        server = EmbeddedNats(data, port)
        async with delivering(database_url, await server.start(), "credits") as stage:
            await is_taking(stage)
            await submit(stage, "change_plan", {"account": "a", "plan": "agency", "idempotency_key": "open"})
            sent = asyncio.create_task(send_until_acknowledged(stage, 300))
            for _ in range(3):
                await eventually(lambda: stage.bus.submissions.at_work > 0, "commands are at work")
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
                await server.stop()
                server = EmbeddedNats(data, port)
                await server.start()
            await sent

            async def is_done() -> bool:
                return (await stage.js.stream_info(stage.stream("COMMANDS"))).state.messages == 0

            await eventually(is_done, "every command has its outcome")
            told = {result.headers["Idempotency-Key"] for result in await stage.stored("RESULTS")}
            assert told == {"open", *(f"k{n}" for n in range(300))}
            reply = await stage.gateway.query("balance", {"account": "a"})
            assert json.loads(reply.body)["available"] == 7000 - 300
            await stage.stream_is_the_log()
        await server.stop()


async def send_until_acknowledged(stage: Stage, count: int) -> None:
    """Consume one credit at a time; what was not acknowledged is sent again."""
    for n in range(count):
        while True:
            try:
                await submit(stage, "consume", {"account": "a", "amount": 1, "idempotency_key": f"k{n}"})
                break
            except Exception:  # noqa: BLE001 - the server is away, in one way or another
                await asyncio.sleep(0.05)


async def outcome_status(stage: Stage, key: str) -> int:
    return (await stage.gateway.query("outcome", {"account": "a", "idempotency_key": key})).status


async def test_the_outcome_of_a_command_that_waits_in_the_stream_is_in_progress_until_it_is_known(
    database_url: str, nats_url: str
) -> None:
    prefix = new_prefix()
    async with delivering(database_url, nats_url, prefix) as stage:
        await is_taking(stage)
    async with delivering(database_url, nats_url, prefix, start=False) as stage:
        await submit(stage, "change_plan", {"account": "a", "plan": "starter", "idempotency_key": "open"})
        await submit(stage, "reserve", {"account": "a", "amount": 500}, headers={"Idempotency-Key": "too-much"})
        for n in range(30):
            await submit(stage, "consume", {"account": "a", "amount": 1, "idempotency_key": f"k{n}"})
        async with delivering(database_url, nats_url, new_prefix(), start=False) as deaf:
            assert await outcome_status(deaf, "open") == 404, "where the stream is not looked at, nothing is known"
        stage.bus.start()
        await stage.bus.started()
        assert [await outcome_status(stage, key) for key in ("k29", "open", "too-much")] == [202, 202, 202]
        assert await outcome_status(stage, "never-sent") == 404
        stage.delivery.start()
        await stored(stage, "RESULTS", 32)
        assert [await outcome_status(stage, key) for key in ("k29", "open", "too-much")] == [200, 200, 404]


async def test_what_lies_behind_more_messages_than_are_remembered_is_not_known(
    database_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.bus.backlog.KEYS_MAX", 3)
    prefix = new_prefix()
    async with delivering(database_url, nats_url, prefix) as stage:
        await is_taking(stage)
    async with delivering(database_url, nats_url, prefix, start=False) as stage:
        for n in range(5):
            await submit(stage, "consume", {"account": "a", "amount": 1, "idempotency_key": f"k{n}"})
        stage.bus.start()
        await stage.bus.started()
        assert [await outcome_status(stage, f"k{n}") for n in range(5)] == [202, 202, 202, 404, 404]
        await stage.js.delete_msg(stage.stream("COMMANDS"), 1)
        assert [await outcome_status(stage, f"k{n}") for n in range(5)] == [404, 202, 202, 202, 404]
