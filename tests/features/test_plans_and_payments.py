"""FEATURES.md C3, E1 and E3: up, down, limits, payments and resets, against the running service, over HTTP and NATS."""

from __future__ import annotations

from typing import Any

from tests.features.conftest import Caller


async def test_up_at_once_and_down_at_the_periods_end(platform: Caller, account: str) -> None:
    assert (await platform.command("change_plan", account, plan="starter")).status == 201
    await platform.command("consume", account, amount=150)
    up = await platform.command("change_plan", account, plan="pro", reference="invoice-7", reason="wants more")
    assert (up.status, up["balance"]["available"], up["plan"]["plan"]) == (201, 550, "pro")
    assert [event["kind"] for event in up["events"]] == ["changed", "plan"]
    down = await platform.command("change_plan", account, plan="free")
    assert (down["balance"]["available"], down["plan"]["plan"]) == (550, "pro")
    assert down["plan"]["pending"]["plan"] == "free"
    quota = (await platform.query("quota", account)).json
    assert quota["pending"]["effective_at"] == quota["next_renewal_at"] == quota["period_end"]
    assert (quota["credits_used"], quota["credits_limit"], quota["percentage"]) == (150, 700, 21)
    stays = await platform.command("change_plan", account, plan="pro")
    assert (stays["events"][0]["kind"], stays["plan"]["pending"]) == ("cancelled", None)


async def test_down_at_once_takes_back_and_up_again_gains_nothing(platform: Caller, account: str) -> None:
    await platform.command("change_plan", account, plan="pro")
    await platform.command("reserve", account, amount=690, reservation_id="job")
    down = await platform.command("change_plan", account, plan="free", when="now")
    assert [event["kind"] for event in down["events"]] == ["changed", "revoked"]
    assert down["events"][0]["data"]["reclaim"] == {"credits": 655}
    back = await platform.command("release", account, reservation_id="job")
    assert [event["kind"] for event in back["events"]] == ["release", "revoked"]
    assert back["balance"]["available"] == 35
    assert (await platform.command("change_plan", account, plan="pro"))["balance"]["available"] == 700


async def test_e1_a_grant_is_answered_with_usage_new_limit_and_what_remains(platform: Caller, account: str) -> None:
    """And so is a replay, whatever was used meanwhile."""
    await platform.command("change_plan", account, plan="starter")
    await platform.command("consume", account, amount=50, consumption_id="work")
    await platform.command("refund", account, consumption_id="work", amount=10)
    await platform.command("reserve", account, amount=20)
    gift = {"amount": 60, "reason": "sorry"}
    given = await platform.command("grant", account, key="gift", **gift)
    quota = (await platform.query("quota", account)).json
    names = ("unit", "credits_used", "credits_limit", "credits_remaining", "percentage")
    assert given["quota"] == {name: quota[name] for name in names}
    assert given["quota"] == dict(zip(names, ("credits", 40, 260, 200, 15), strict=True))
    await platform.command("consume", account, amount=30)
    again = await platform.command("grant", account, key="gift", **gift)
    assert (again.status, again["quota"]) == (200, given["quota"])
    assert "quota" not in (await platform.command("consume", account, amount=1)).json
    tried = {"command": "grant", "account": account, "amount": 9, "unit": "credits"}
    dry = (await platform.batch(dry_run=True, commands=[tried]))["results"][0]
    assert (dry["quota"]["credits_used"], dry["quota"]["credits_limit"]) == (71, 269)


async def test_e3_limits_are_overridden_by_name_and_bad_ones_refused(platform: Caller, account: str) -> None:
    await platform.command("change_plan", account, plan="free")
    more = await platform.command("change_plan", account, allowance={"credits": 100}, capacity={"platforms": 5})
    assert (more.status, more["balance"]["available"]) == (201, 100)
    assert more["events"][0]["data"]["previous_value"] == {"allowance": {"credits": 35}, "capacity": {"platforms": 1}}
    assert more["plan"]["capacity"]["platforms"] == 5
    assert (await platform.query("balance", account))["capacity"]["platforms"]["limit"] == 5
    less = await platform.command("change_plan", account, allowance={"credits": None}, capacity={"platforms": None})
    assert (less["balance"]["available"], less["plan"]["capacity"]["platforms"]) == (35, 1)
    bad: list[dict[str, Any]] = [
        {"allowance": {"credits": -1}},
        {"capacity": {"gold": 1}},
        {"capacity": {"jobs": "5"}},
        {},
    ]
    for wrong in bad:
        refused = await platform.command("change_plan", account, **wrong)
        assert (refused.status, refused["code"]) == (422, "invalid_request")


async def test_a_payment_counts_once(studio: Caller, account: str) -> None:
    opened = await studio.command("change_plan", account, plan="pro", reference="in_1")
    again = await studio.command("renew", account, reference="in_1")
    assert (again.status, again["replayed"], again["token"]) == (200, True, opened["token"])
    other = await studio.command("renew", account, reference="in_2", period_start=opened["plan"]["period_start"])
    assert (other.status, other["token"]) == (200, opened["token"])
    off = await studio.command("renew", account, reference="in_3", period_start="2020-01-01T00:00:00Z")
    assert off.status == 422
    assert (await studio.command("renew", account)).status == 422
    reset = await studio.command("change_plan", account, plan="pro", mode="reset", reference="in_4")
    assert (reset.status, reset["balance"]["available"]) == (201, 2025)
    twice = await studio.command("change_plan", account, plan="pro", mode="reset", reference="in_4")
    assert (twice.status, twice["token"]) == (200, reset["token"])
    bare = await studio.command("change_plan", account, plan="pro", mode="reset")
    assert (bare.status, bare["code"]) == (422, "invalid_request")
    early = await studio.command("renew", account, reference="in_5", period_start=reset["plan"]["period_end"])
    assert (early.status, early["errors"][0]["loc"]) == (422, ["period_start"])


async def test_a_reset_gives_the_periods_usage_back(studio: Caller, account: str) -> None:
    await studio.command("change_plan", account, plan="pro")
    await studio.command("consume", account, amount=300, consumption_id="a")
    await studio.command("consume", account, amount=8, unit="video_minutes")
    reset = await studio.command("reset_usage", account, reason="wrong prices")
    assert (reset.status, [event["kind"] for event in reset["events"]]) == (201, ["usage_reset", "usage_reset"])
    quota = (await studio.query("quota", account)).json
    assert (quota["credits_used"], quota["credits_remaining"]) == (0, 2025)
    refused = await studio.command("refund", account, consumption_id="a")
    assert (refused.status, refused["code"]) == (409, "refund_exceeds_consumption")
    assert (await studio.command("reset_usage", account)).status == 422, "it needs a reason"
