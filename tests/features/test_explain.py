"""Why an event is as it is, asked of the running service (FEATURES.md X5), over HTTP and NATS."""

from __future__ import annotations

from tests.features.conftest import Caller


async def test_support_can_say_why_a_reserve_drew_what_it_drew(platform: Caller, account: str) -> None:
    await platform.command("change_plan", account, plan="starter")
    await platform.command("grant", account, amount=3, priority=1, grant_id="gift")
    held = await platform.command("reserve", account, operation="create_reel", quantity=2, reservation_id="job")
    event = held["events"][0]["id"]
    answer = await platform.query("explain", account, event=event)
    assert answer.status == 200
    assert answer["event"]["id"] == event
    assert [(grant["reason"], grant["gave"]) for grant in answer["grants"]] == [("gave", 3), ("gave", 7)]
    assert answer["grants"][0]["grant_id"] == "gift"
    assert (answer["price"][0]["price"], answer["price"][0]["by_rule"]) == (10, True)
    assert answer["balance"]["credits"]["after"] == held["balance"]
    assert answer["plan"]["plan"] == "starter"


async def test_events_of_others_are_not_explained(platform: Caller, account: str) -> None:
    mine = await platform.command("consume", account, amount=1)
    other = f"{account}-other"
    theirs = await platform.command("consume", other, amount=1)
    wrong = await platform.query("explain", account, event=theirs["events"][0]["id"])
    assert (wrong.status, wrong["code"]) == (404, "not_found")
    nobody = await platform.query("explain", f"{account}-nobody", event=mine["events"][0]["id"])
    assert (nobody.status, nobody["code"]) == (404, "account_not_found")
    unknown = await platform.query("explain", account, event="0-999999999999")
    assert (unknown.status, unknown["code"]) == (404, "not_found")
    nonsense = await platform.query("explain", account, event="seventeen")
    assert (nonsense.status, nonsense["code"]) == (422, "invalid_request")


async def test_a_long_history_is_explained_to_its_last_event(platform: Caller, account: str) -> None:
    await platform.command("change_plan", account, plan="agency")
    commands = [{"command": "consume", "account": account, "idempotency_key": str(n), "amount": 1} for n in range(900)]
    answer = await platform.batch(commands=commands)
    last = answer["results"][-1]["events"][0]["id"]
    explained = await platform.query("explain", account, event=last)
    assert explained["grants"][0]["remaining"] == 6101
