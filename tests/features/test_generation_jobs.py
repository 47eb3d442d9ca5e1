"""FEATURES.md A2 and D1 to D4: AI generation jobs, against the running service, over HTTP and over NATS."""

from __future__ import annotations

import asyncio

import pytest

from tests.features.conftest import Caller, Service, speaking


@pytest.fixture
async def team(studio: Caller, account: str) -> str:
    """A team on the plan pro, with 2000 credits and 25 from its trial."""
    assert (await studio.command("change_plan", account, plan="pro")).status == 201
    return account


async def test_a2_a_collection_is_one_hold_over_all_its_flows(studio: Caller, team: str) -> None:
    flows = [{"operation": "generate_collection_flow", "quantity": images} for images in (4, 6, 2)]
    held = await studio.command("reserve", team, lines=flows, reservation_id="collection")
    assert held["reservation"]["amount"] == 24
    assert [line["amount"] for line in held["reservation"]["lines"]] == [8, 12, 4]
    for line in (0, 2):
        step = await studio.command(
            "consume", team, reservation_id="collection", lines=[{"line": line, "quantity": 1}], final=False
        )
        assert step["consumption"]["charged"] == 2
    last = await studio.command("consume", team, reservation_id="collection", lines=[{"line": 1, "amount": 12}])
    assert last["reservation"]["state"] == "settled"
    assert (last["reservation"]["charged"], last["reservation"]["held"]) == (16, 0)
    balance = await studio.query("balance", team)
    assert (balance["available"], balance["reserved"]) == (2025 - 16, 0)


async def test_a2_a_collection_that_is_too_dear_holds_nothing(studio: Caller, account: str) -> None:
    flows = [{"operation": "generate_collection_flow", "quantity": 30}, {"operation": "generate_video", "quantity": 1}]
    denied = await studio.command("reserve", account, lines=flows)
    assert (denied.status, denied["cost"], denied["shortfall"]) == (402, 80, 5)
    assert (await studio.query("balance", account)).status == 404, "a refused first command opens nothing"


@pytest.mark.parametrize("operation", ["image_transform", "process_adjustments", "art_director", "pin_asset"])
async def test_a2_what_is_not_gated_passes_freely(studio: Caller, account: str, operation: str) -> None:
    assert (await studio.command("consume", account, operation=operation)).json == {"free": True, "events": []}


async def test_d1_prices_have_a_base_and_multipliers(studio: Caller, team: str) -> None:
    cost = await studio.query("check", team, operation="model_creation", quantity=21)
    assert cost["cost"] == 51, "40 + 0.5 x 21, rounded up once"
    held = await studio.command(
        "reserve", team, operation="image_generation", quantity=3, params={"quality": "high", "resolution": "1024"}
    )
    assert held["reservation"]["amount"] == 11, "(0.5 + 3) x 2 x 1.5 = 10.5, rounded up once"


async def test_d2_a_job_that_succeeds_is_charged_and_its_history_shows_it(studio: Caller, team: str) -> None:
    await studio.command(
        "reserve", team, operation="generate_image", quantity=2, reservation_id="j1", reference="job-1"
    )
    await studio.command("consume", team, reservation_id="j1", quantity=1)
    await studio.command("refund", team, consumption_id="j1", reason="black image")
    assert (await studio.query("balance", team))["available"] == 2025


async def test_d2_the_credit_history_shows_the_job(asset_studio: Service, account: str) -> None:
    async with speaking("http", asset_studio) as studio:
        await studio.command(
            "reserve", account, operation="generate_image", quantity=2, reservation_id="j1", reference="job-1"
        )
        await studio.command("consume", account, reservation_id="j1", quantity=1)
        await studio.command("refund", account, consumption_id="j1", reason="black image")
        for found in ({"reservation": "j1"}, {"reference": "job-1"}):
            rows = (await studio.query("transactions", account, **found))["transactions"]
            assert [(row["type"], row["kind"], row["amount"]) for row in rows] == [
                ("refunded", "consumption", 2),
                ("refunded", "release", 2),
                ("consumed", "settle", 2),
                ("reserved", "hold", 4),
            ]


@pytest.mark.parametrize("reason", ["failed", "cancelled before it started"])
async def test_d2_a_job_that_never_ran_costs_nothing(studio: Caller, team: str, reason: str) -> None:
    await studio.command("reserve", team, operation="generate_video", reservation_id="j1")
    released = await studio.command("release", team, reservation_id="j1", reason=reason)
    assert released["reservation"]["state"] == "released"
    late = await studio.command("consume", team, reservation_id="j1")
    assert (late.status, late["code"], late["state"]) == (409, "reservation_finalized", "released")
    assert (await studio.query("balance", team))["available"] == 2025


async def test_d3_the_balance_tells_available_reserved_and_bonus_apart(studio: Caller, team: str) -> None:
    await studio.command("grant", team, amount=50, kind="promo")
    await studio.command("grant", team, amount=100, kind="purchase")
    await studio.command("reserve", team, operation="generate_video")
    balance = await studio.query("balance", team)
    assert (balance["available"], balance["reserved"], balance["bonus"]) == (2155, 20, 75)


async def test_d3_can_afford_says_how_much(studio: Caller, account: str) -> None:
    check = await studio.query("check", account, operation="generate_video", quantity=4)
    assert (check["allowed"], check["max_affordable"], check["reasons"]) == (False, 3, ["insufficient_credits"])


async def test_d3_history_is_paged(asset_studio: Service, account: str) -> None:
    async with speaking("http", asset_studio) as studio:
        for _ in range(7):
            await studio.command("consume", account, operation="upscale_image")
        seen: list[str] = []
        cursor: dict[str, object] = {}
        while True:
            page = await studio.query("transactions", account, limit=4, **cursor)
            seen += [row["id"] for row in page["transactions"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert len(seen) == len(set(seen)) == 3 + 7, "opened, allowance, trial and seven consumptions"
        assert seen == sorted(seen, key=lambda event: -int(event.split("-")[1]))


async def test_d4_jobs_at_once_are_limited_by_the_plan_however_they_come(studio: Caller, team: str) -> None:
    answers = await asyncio.gather(
        *(studio.command("reserve", team, operation="generate_image", reservation_id=f"j{n}") for n in range(40))
    )
    assert sorted(answer.status for answer in answers) == [201] * 10 + [429] * 30
    denied = next(answer for answer in answers if answer.status == 429)
    assert {name: denied[name] for name in ("code", "capacity", "used", "limit")} == {
        "code": "capacity_exceeded",
        "capacity": "concurrent_jobs",
        "used": 10,
        "limit": 10,
    }
    running = next(answer["reservation"]["id"] for answer in answers if answer.status == 201)
    assert (await studio.command("consume", team, reservation_id=running)).status == 201
    assert (await studio.command("reserve", team, operation="generate_image")).status == 201
    assert (await studio.command("reserve", team, operation="generate_image")).status == 429


async def test_d4_api_and_workers_see_the_same_jobs(asset_studio: Service, account: str) -> None:
    async with speaking("http", asset_studio) as api, speaking("nats", asset_studio) as worker:
        assert (await api.command("reserve", account, operation="generate_image", reservation_id="j1")).status == 201
        assert (await worker.command("reserve", account, operation="edit_image")).status == 429
        assert (await worker.query("balance", account))["capacity"]["concurrent_jobs"] == {"used": 1, "limit": 1}
        assert (await worker.command("consume", account, reservation_id="j1")).status == 201
        assert (await api.command("reserve", account, operation="edit_image")).status == 201
