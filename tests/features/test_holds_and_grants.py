"""Extending holds, revoking and adjusting credits, freezing and closing: the running service, over HTTP and NATS."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.features.conftest import Answer, Caller


@pytest.fixture
async def client(platform: Caller, account: str) -> str:
    """A client on the plan starter, with 200 credits."""
    assert (await platform.command("change_plan", account, plan="starter")).status == 201
    return account


async def test_a_long_job_asks_for_more_time_and_credits(platform: Caller, client: str) -> None:
    held = await platform.command("reserve", client, amount=10, reservation_id="job")
    longer = await platform.command("extend", client, reservation_id="job")
    assert longer.status == 201
    assert longer["reservation"]["expires_at"] > held["reservation"]["expires_at"]
    more = await platform.command("extend", client, reservation_id="job", amount=5, ttl_seconds=3600)
    assert (more["reservation"]["amount"], more["reservation"]["held"]) == (15, 15)
    assert (more["balance"]["available"], more["balance"]["reserved"]) == (185, 15)
    assert [(event["type"], event["kind"]) for event in more["events"]] == [("reserved", "extend")]
    too_much = await platform.command("extend", client, reservation_id="job", amount=186)
    assert (too_much.status, too_much["code"], too_much["shortfall"]) == (402, "insufficient_credits", 1)
    too_long = await platform.command("extend", client, reservation_id="job", ttl_seconds=86_400)
    assert (too_long.status, too_long["code"]) == (422, "invalid_request")
    await platform.command("consume", client, reservation_id="job")
    over = await platform.command("extend", client, reservation_id="job")
    assert (over.status, over["code"], over["state"]) == (409, "reservation_finalized", "settled")
    nothing = await platform.command("extend", client, reservation_id="none")
    assert (nothing.status, nothing["code"]) == (404, "reservation_not_found")


async def test_a_grant_that_was_charged_back_is_revoked(platform: Caller, client: str) -> None:
    await platform.command("grant", client, amount=50, kind="purchase", grant_id="pack")
    revoked = await platform.command("revoke", client, grant_id="pack", reason="charged back")
    assert (revoked.status, revoked["grant"]["state"], revoked["grant"]["amount"]) == (201, "revoked", 50)
    assert revoked["balance"]["available"] == 200
    again = await platform.command("revoke", client, grant_id="pack", reason="charged back")
    assert (again.status, again["events"][0]["data"]["amount"]) == (201, 0)
    unknown = await platform.command("revoke", client, grant_id="none", reason="charged back")
    assert (unknown.status, unknown["code"]) == (404, "grant_not_found")
    silent = await platform.command("revoke", client, grant_id="pack")
    assert (silent.status, silent["code"]) == (422, "invalid_request")


async def test_a_balance_is_adjusted_either_way(platform: Caller, client: str) -> None:
    added = await platform.command("adjust", client, amount=7, reason="goodwill", reference="ticket-1")
    assert (added.status, added["balance"]["available"], added["grant"]["kind"]) == (201, 207, "adjustment")
    taken = await platform.command("adjust", client, amount=-17, reason="counted twice")
    assert (taken.status, taken["balance"]["available"]) == (201, 190)
    refused = await platform.command("adjust", client, amount=-191, reason="counted twice")
    assert (refused.status, refused["code"], refused["shortfall"]) == (402, "insufficient_credits", 1)
    owed = await platform.command("adjust", client, amount=-191, reason="counted twice", insufficient="debt")
    assert (owed.status, owed["balance"]["available"], owed["balance"]["debt"]) == (201, 0, 1)
    clamped = await platform.command("adjust", client, amount=-5, reason="counted twice", insufficient="clamp")
    assert (clamped.status, clamped["events"][0]["data"]["amount"]) == (201, 0)
    nothing = await platform.command("adjust", client, amount=0, reason="none")
    assert (nothing.status, nothing["code"]) == (422, "invalid_request")


async def test_a_client_is_frozen_and_closed_and_its_history_stays(platform: Caller, client: str) -> None:
    await platform.command("reserve", client, amount=5, reservation_id="job")
    frozen = await platform.command("set_status", client, status="frozen", reason="chargeback")
    assert (frozen.status, frozen["plan"]["status"]) == (201, "frozen")
    denied = await platform.command("reserve", client, amount=1)
    assert (denied.status, denied["code"]) == (409, "account_frozen")
    assert (await platform.command("grant", client, amount=1)).status == 201
    closed = await platform.command("set_status", client, status="closed", reason="asked for")
    assert closed["events"][0]["data"]["previous_value"] == {"status": "frozen"}
    denied = await platform.command("grant", client, amount=1)
    assert (denied.status, denied["code"]) == (409, "account_closed")
    assert (await platform.command("consume", client, reservation_id="job")).status == 201
    assert (await platform.command("refund", client, consumption_id="job")).status == 201
    same = await platform.command("set_status", client, status="closed", reason="again")
    assert [event["kind"] for event in same["events"]] == ["unchanged"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("extend", {"reservation_id": "job", "amount": 3}),
        ("revoke", {"grant_id": "gift", "reason": "bounced"}),
        ("adjust", {"amount": 3, "reason": "goodwill"}),
        ("adjust", {"amount": -3, "reason": "counted twice"}),
        ("set_status", {"status": "frozen", "reason": "chargeback"}),
    ],
)
async def test_a_command_sent_again_is_answered_as_first(
    platform: Caller, client: str, name: str, fields: dict[str, Any]
) -> None:
    await platform.command("grant", client, amount=9, grant_id="gift")
    await platform.command("reserve", client, amount=5, reservation_id="job")
    first = await platform.command(name, client, key="once", **fields)
    await platform.command("consume", client, reservation_id="job", amount=2)
    again = await platform.command(name, client, key="once", **fields)
    assert (first.status, again.status) == (201, 200)
    assert again.json == {**first.json, "replayed": True}
    other = await platform.command("adjust", client, key="once", amount=99, reason="another")
    assert (other.status, other["code"]) == (409, "idempotency_mismatch")


async def test_settle_and_release_at_once_have_one_winner(platform: Caller, client: str) -> None:
    await platform.command("reserve", client, amount=5, reservation_id="job")
    calls = [platform.command(name, client, reservation_id="job") for name in ("consume", "release") * 8]
    answers: list[Answer] = await asyncio.gather(*calls)
    assert sorted(answer.status for answer in answers) == [201] + [409] * 15
    settled = any(answer.status == 201 for answer in answers[::2])
    states = {answer["state"] for answer in answers if answer.status == 409}
    assert states == {"settled" if settled else "released"}
    assert (await platform.query("balance", client))["available"] == (195 if settled else 200)


async def test_refunds_at_once_return_it_once(platform: Caller, client: str) -> None:
    await platform.command("consume", client, amount=40, consumption_id="work")
    answers = await asyncio.gather(*(platform.command("refund", client, consumption_id="work") for _ in range(16)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 15
    assert (await platform.query("balance", client))["available"] == 200
