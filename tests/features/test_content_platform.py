"""FEATURES.md B1 to B4: unified credits of a content platform, against the running service, over HTTP and over NATS."""

from __future__ import annotations

import asyncio

import pytest

from tests.features.conftest import Caller


@pytest.mark.parametrize(
    ("operation", "price"),
    [
        ("create_reel", 5),
        ("duplicate_reel", 5),
        ("create_carousel", 1),
        ("duplicate_carousel", 1),
        ("generate_ai_image", 3),
        ("regenerate_copy", 1),
        ("publish_ayrshare", 1),
    ],
)
async def test_b1_an_operation_costs_its_price(platform: Caller, account: str, operation: str, price: int) -> None:
    held = await platform.command("reserve", account, operation=operation, reservation_id="job")
    assert held.status == 201
    assert held["reservation"]["amount"] == price
    assert held["balance"]["available"] == 35 - price
    charged = await platform.command("consume", account, reservation_id="job")
    assert charged["consumption"]["charged"] == price
    assert charged["balance"]["available"] == 35 - price


async def test_b1_posts_cost_nothing_and_are_never_checked(platform: Caller, account: str) -> None:
    answer = await platform.command("consume", account, operation="create_post")
    assert (answer.status, answer.json) == (200, {"free": True, "events": []})
    assert (await platform.query("balance", account)).status == 404, "a free operation opens no account"


@pytest.mark.parametrize(
    ("plan", "allowance"), [("free", 35), ("starter", 200), ("pro", 700), ("business", 2000), ("agency", 7000)]
)
async def test_b2_a_plan_gives_its_credits(platform: Caller, account: str, plan: str, allowance: int) -> None:
    assert (await platform.command("change_plan", account, plan=plan)).status == 201
    assert (await platform.query("balance", account))["available"] == allowance


async def test_b2_moving_up_gives_the_difference(platform: Caller, account: str) -> None:
    await platform.command("change_plan", account, plan="free")
    await platform.command("consume", account, operation="create_reel")
    answer = await platform.command("change_plan", account, plan="pro")
    assert answer["balance"]["available"] == 700 - 5


async def test_b3_two_hundred_at_once_for_a_balance_that_covers_twenty(platform: Caller, account: str) -> None:
    await platform.command("change_plan", account, plan="free")
    await platform.command("grant", account, amount=65)
    answers = await asyncio.gather(*(platform.command("reserve", account, operation="create_reel") for _ in range(200)))
    passed = [answer for answer in answers if answer.status == 201]
    refused = [answer for answer in answers if answer.status == 402]
    assert (len(passed), len(refused)) == (20, 180)
    assert {answer["code"] for answer in refused} == {"insufficient_credits"}
    balance = await platform.query("balance", account)
    assert (balance["available"], balance["reserved"]) == (0, 100)


async def test_b3_a_later_failure_restores_what_it_took_and_no_more(platform: Caller, account: str) -> None:
    await platform.command("consume", account, operation="create_reel", consumption_id="reel")
    assert (await platform.query("balance", account))["available"] == 30
    assert (await platform.command("refund", account, consumption_id="reel")).status == 201
    assert (await platform.query("balance", account))["available"] == 35
    again = await platform.command("refund", account, consumption_id="reel")
    assert (again.status, again["code"]) == (409, "refund_exceeds_consumption")
    assert (await platform.query("balance", account))["available"] == 35


async def test_b4_a_denial_helps(platform: Caller, account: str) -> None:
    denied = await platform.command("reserve", account, operation="create_reel", quantity=8)
    assert denied.status == 402
    assert denied["upgrade"] == "Not enough credits. Upgrade your plan for more."
    figures = {name: denied[name] for name in ("cost", "available", "shortfall", "max_affordable")}
    assert figures == {"cost": 40, "available": 35, "shortfall": 5, "max_affordable": 7}


async def test_b5_the_quota_shows_what_is_used_of_what(platform: Caller, account: str) -> None:
    await platform.command("change_plan", account, plan="starter")
    await platform.command("reserve", account, amount=0, occupies={"platforms": 1}, ttl_seconds=None)
    await platform.command("consume", account, operation="create_reel", quantity=10)
    quota = await platform.query("quota", account)
    shown = {name: quota[name] for name in ("credits_used", "credits_limit", "credits_remaining", "percentage")}
    assert shown == {"credits_used": 50, "credits_limit": 200, "credits_remaining": 150, "percentage": 25}
    assert quota["capacity"]["platforms"] == {"used": 1, "limit": 3}


async def test_the_same_key_a_hundred_times_at_once_counts_once(platform: Caller, account: str) -> None:
    answers = await asyncio.gather(
        *(platform.command("reserve", account, key="the-key", operation="create_reel") for _ in range(100))
    )
    assert sorted(answer.status for answer in answers) == [200] * 99 + [201]
    first = next(answer.json for answer in answers if answer.status == 201)
    assert all({**answer.json, "replayed": False} == first for answer in answers)
    assert (await platform.query("balance", account))["reserved"] == 5
    other = await platform.command("reserve", account, key="the-key", operation="create_carousel")
    assert (other.status, other["code"]) == (409, "idempotency_mismatch")
