"""Laws of looking up what a durable command was refused with, by who was away when it was told."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.bus.streaming import Stage, delivering, new_prefix
from tests.bus.test_submitting import is_taking, stored, submit


@pytest.fixture
async def stage(database_url: str, nats_url: str) -> AsyncGenerator[Stage]:
    async with delivering(database_url, nats_url, new_prefix()) as stage:
        await is_taking(stage)
        yield stage


async def refuse(stage: Stage, key: str, amount: int = 500, account: str = "a") -> None:
    """Submit a hold for which there are no credits; the catalog opens the account with 35 of them."""
    await submit(stage, "reserve", {"account": account, "amount": amount, "idempotency_key": key})


async def outcome(stage: Stage, key: str, ago: int | None = 0, account: str = "a") -> tuple[int, Any]:
    asked = {"account": account, "idempotency_key": key, "submitted_seconds_ago": ago}
    reply = await stage.gateway.query("outcome", asked)
    return reply.status, json.loads(reply.body)


async def shortfall(stage: Stage, key: str, account: str = "a") -> int | None:
    """What the refusal of a key said was missing; None when no refusal is known."""
    status, told = await outcome(stage, key, account=account)
    assert (status, told["code"]) == (404, "command_not_found")
    return told["refusal"]["shortfall"] if "refusal" in told else None


async def test_a_refusal_is_told_again_to_who_says_since_when_it_was_submitted(stage: Stage) -> None:
    await refuse(stage, "k")
    (told,) = await stored(stage, "RESULTS", 1)
    status, found = await outcome(stage, "k")
    assert (status, found["code"], found["refusal"]) == (404, "command_not_found", told.json)
    assert found["refusal"]["code"] == "insufficient_credits"
    assert "refusal" not in (await outcome(stage, "k", ago=None))[1]
    assert "refusal" not in (await outcome(stage, "never-sent"))[1]


async def test_any_process_tells_it(stage: Stage, database_url: str, nats_url: str) -> None:
    await refuse(stage, "k")
    await stored(stage, "RESULTS", 1)
    async with delivering(database_url, nats_url, stage.prefix) as other:
        await other.bus.started()
        assert await shortfall(other, "k") == 465


async def test_of_one_key_the_last_refusal_counts_and_each_account_has_its_own(stage: Stage) -> None:
    await refuse(stage, "k", 500)
    await refuse(stage, "k", 600, account="b")
    await stored(stage, "RESULTS", 2)
    assert (await shortfall(stage, "k"), await shortfall(stage, "k", "b")) == (465, 565)
    await refuse(stage, "k", 400)
    await stored(stage, "RESULTS", 3)
    assert (await shortfall(stage, "k"), await shortfall(stage, "k", "b")) == (365, 565)
    await refuse(stage, "k", 5)
    await stored(stage, "RESULTS", 4)
    assert (await outcome(stage, "k"))[0] == 200, "it was accepted at last"


async def test_what_waits_again_is_in_progress_and_not_refused(
    stage: Stage, database_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refuse(stage, "k")
    await stored(stage, "RESULTS", 1)
    await stage.delivery.stop_intake()
    await refuse(stage, "other")
    await refuse(stage, "k")
    assert (await outcome(stage, "k"))[0] == 202
    monkeypatch.setattr("service.bus.backlog.KEYS_MAX", 1)
    async with delivering(database_url, nats_url, stage.prefix, start=False) as short_of_memory:
        short_of_memory.bus.start()
        await short_of_memory.bus.started()
        assert await shortfall(short_of_memory, "k") is None, "it may wait, behind what is remembered"


async def test_only_what_was_told_since_then_is_looked_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.bus.told.CLOCKS_SECONDS", 0)
    await refuse(stage, "k")
    await stored(stage, "RESULTS", 1)
    assert "refusal" not in (await outcome(stage, "k", ago=0))[1]
    assert "refusal" in (await outcome(stage, "k", ago=60))[1], "what is asked for earlier is read from there"
    await refuse(stage, "k2")
    await stored(stage, "RESULTS", 2)
    assert "refusal" in (await outcome(stage, "k2", ago=60))[1]
    assert "refusal" not in (await outcome(stage, "k2", ago=0))[1], "long after the last question it is not read on"


async def test_of_many_refusals_the_latest_are_known(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.bus.told.REFUSALS_MAX", 3)
    monkeypatch.setattr("service.bus.told.BATCH", 2)
    for number in range(5):
        await refuse(stage, f"k{number}", 100 + number)
    await stored(stage, "RESULTS", 5)
    assert [await shortfall(stage, f"k{number}") for number in range(5)] == [None, None, 67, 68, 69]


async def test_a_stream_that_was_made_anew_is_read_from_its_first_outcome(stage: Stage) -> None:
    for number in range(3):
        await refuse(stage, f"k{number}")
    await stored(stage, "RESULTS", 3)
    assert await shortfall(stage, "k0") == 465
    await stage.js.delete_stream(stage.stream("RESULTS"))
    assert await shortfall(stage, "k0") is None
    await stage.js.add_stream(name=stage.stream("RESULTS"), subjects=[f"{stage.prefix}.result.>"], allow_direct=True)
    await refuse(stage, "k")
    await stored(stage, "RESULTS", 1)
    assert (await shortfall(stage, "k"), await shortfall(stage, "k0")) == (465, None)
