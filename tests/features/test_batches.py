"""SEMANTICS.md section 9 against the running service, over HTTP and over NATS: batches and their dry runs."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.features.conftest import Answer, Caller


def spend(account: str, amount: int, **fields: object) -> dict[str, Any]:
    """One command of a batch: a direct consumption."""
    return {"command": "consume", "account": account, "idempotency_key": str(uuid4()), "amount": amount, **fields}


def statuses(answer: Answer) -> list[int]:
    """What each command heard."""
    return [result["status"] for result in answer["results"]]


def codes(answer: Answer) -> list[str | None]:
    """The problem of each command, or None."""
    return [result.get("problem", {}).get("code") for result in answer["results"]]


async def test_independent_commands_are_judged_each_for_itself_in_their_order(platform: Caller, account: str) -> None:
    other = f"{account}-other"
    answer = await platform.batch(
        commands=[spend(account, 30), spend(account, 6), spend(other, 35), spend(account, 5), {"command": "dance"}, 7]
    )
    assert answer.status == 200
    assert statuses(answer) == [201, 402, 201, 201, 404, 422]
    assert codes(answer)[1] == "insufficient_credits"
    assert answer["results"][1]["problem"]["shortfall"] == 1
    assert answer["results"][3]["balance"]["available"] == 0
    assert (await platform.query("balance", other))["available"] == 0


async def test_a_free_command_of_a_batch_is_free_and_a_key_that_stands_twice_counts_once(
    platform: Caller, account: str
) -> None:
    once = spend(account, 3)
    free = {"command": "consume", "account": account, "idempotency_key": "post", "operation": "create_post"}
    answer = await platform.batch(commands=[free, once, once])
    assert statuses(answer) == [200, 201, 200]
    assert answer["results"][0]["free"] is True
    assert answer["results"][2] == {**answer["results"][1], "status": 200, "replayed": True}
    assert (await platform.query("balance", account))["available"] == 32


async def test_of_an_atomic_batch_all_is_accepted_or_nothing(platform: Caller, account: str) -> None:
    steps: list[dict[str, Any]] = [
        {"command": "reserve", "account": account, "idempotency_key": "a", "amount": 20, "reservation_id": "job"},
        {"command": "consume", "account": account, "idempotency_key": "b", "reservation_id": "job", "amount": 15},
        spend(account, 21),
    ]
    refused = await platform.batch(mode="atomic", commands=steps)
    assert statuses(refused) == [409, 409, 402]
    assert codes(refused) == ["batch_aborted", "batch_aborted", "insufficient_credits"]
    assert refused["results"][0]["problem"]["refused"] == 2
    assert (await platform.query("balance", account)).status == 404, "not even opened"
    steps[2]["amount"] = 20
    accepted = await platform.batch(mode="atomic", commands=steps)
    assert statuses(accepted) == [201, 201, 201]
    assert accepted["results"][1]["reservation"]["state"] == "settled"
    assert accepted["results"][2]["balance"]["available"] == 0


async def test_an_atomic_batch_sent_again_is_answered_as_first(platform: Caller, account: str) -> None:
    commands = [spend(account, 20), spend(account, 15)]
    first = await platform.batch(mode="atomic", commands=commands)
    again = await platform.batch(mode="atomic", commands=commands)
    assert statuses(first) == [201, 201]
    assert again["results"] == [{**result, "status": 200, "replayed": True} for result in first["results"]]
    mixed = await platform.batch(mode="atomic", commands=[commands[0], spend(account, 1)])
    assert codes(mixed) == ["idempotency_mismatch", "batch_aborted"]


async def test_the_same_atomic_batch_many_times_at_once_is_written_once(platform: Caller, account: str) -> None:
    commands = [spend(account, 10), spend(account, 20)]
    answers = await asyncio.gather(*(platform.batch(mode="atomic", commands=commands) for _ in range(20)))
    assert sorted(tuple(statuses(answer)) for answer in answers) == [(200, 200)] * 19 + [(201, 201)]
    assert (await platform.query("balance", account))["available"] == 5


async def test_atomic_batches_for_what_is_left_never_take_more(platform: Caller, account: str) -> None:
    answers = await asyncio.gather(
        *(platform.batch(mode="atomic", commands=[spend(account, 3), spend(account, 4)]) for _ in range(12))
    )
    passed = [answer for answer in answers if statuses(answer) == [201, 201]]
    assert len(passed) == 5
    assert (await platform.query("balance", account))["available"] == 0


@pytest.mark.parametrize("mode", ["independent", "atomic"])
async def test_a_dry_batch_writes_nothing_and_needs_no_keys(platform: Caller, account: str, mode: str) -> None:
    commands = [{"command": "consume", "account": account, "amount": 20}] * 2
    answer = await platform.batch(mode=mode, dry_run=True, commands=commands)
    if mode == "independent":
        assert statuses(answer) == [200, 200], "each as if it were alone"
        assert answer["results"][1]["balance"]["available"] == 15
    else:
        assert codes(answer) == ["batch_aborted", "insufficient_credits"], "one after the other"
    assert (await platform.query("balance", account)).status == 404


async def test_a_thousand_commands_are_one_batch(platform: Caller, account: str) -> None:
    await platform.command("change_plan", account, plan="agency")
    answer = await platform.batch(mode="atomic", commands=[spend(account, 7) for _ in range(1000)])
    assert set(statuses(answer)) == {201}
    assert answer["results"][-1]["balance"]["available"] == 0


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({}, "commands"),
        ({"commands": []}, "commands"),
        ({"commands": {}}, "commands"),
        ({"commands": [{}] * 1001}, "commands"),
        ({"commands": [{}], "mode": "some"}, "mode"),
        ({"commands": [{}], "extra": 1}, "extra"),
    ],
)
async def test_what_is_no_batch_is_refused(platform: Caller, fields: dict[str, Any], place: str) -> None:
    answer = await platform.batch(**fields)
    assert (answer.status, answer["code"]) == (422, "invalid_request")
    assert answer["errors"][0]["loc"] == [place]


async def test_an_atomic_batch_is_of_one_account_and_of_different_keys(platform: Caller, account: str) -> None:
    two = await platform.batch(mode="atomic", commands=[spend(account, 1), spend(f"{account}-b", 1)])
    assert (two.status, two["code"]) == (422, "invalid_request")
    once = spend(account, 1)
    assert (await platform.batch(mode="atomic", commands=[once, once])).status == 422


async def test_a_command_without_a_key_hears_it_in_its_place(platform: Caller, account: str) -> None:
    answer = await platform.batch(commands=[{"command": "consume", "account": account, "amount": 1}, spend(account, 1)])
    assert codes(answer) == ["idempotency_key_required", None]
    answer = await platform.batch(
        mode="atomic", commands=[{"command": "consume", "account": account, "amount": 1}, spend(account, 1)]
    )
    assert codes(answer) == ["idempotency_key_required", "batch_aborted"]
