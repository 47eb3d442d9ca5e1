"""SEMANTICS.md section 8 against the running service: one key, one command, whatever the transport."""

from __future__ import annotations

from typing import Any

from tests.features.conftest import Caller, Service, speaking

LIFE: list[tuple[str, dict[str, Any]]] = [
    ("change_plan", {"plan": "starter", "reason": "signed up"}),
    ("reserve", {"operation": "create_reel", "quantity": 2, "reservation_id": "job", "metadata": {"b": "1", "a": "2"}}),
    ("extend", {"reservation_id": "job", "ttl_seconds": 600, "amount": 3}),
    ("consume", {"reservation_id": "job", "amount": 4, "final": False}),
    ("release", {"reservation_id": "job", "reason": "done"}),
    ("consume", {"amount": 7, "consumption_id": "work"}),
    ("refund", {"consumption_id": "work", "amount": 2}),
    ("grant", {"amount": 5, "grant_id": "gift", "expires_at": "2099-01-01T00:00:00+01:00"}),
    ("revoke", {"grant_id": "gift", "reason": "by mistake"}),
    ("adjust", {"amount": -3, "reason": "counted again"}),
    ("reset_usage", {"reason": "our fault"}),
    ("set_status", {"status": "frozen", "reason": "asked for"}),
]


async def test_a_command_sent_over_one_transport_is_a_replay_over_the_other(
    content_platform: Service, account: str
) -> None:
    """In whatever order its fields are sent."""
    async with speaking("http", content_platform) as http, speaking("nats", content_platform) as bus:
        for number, (name, fields) in enumerate(LIFE):
            first, second = (http, bus) if number % 2 else (bus, http)
            one = await first.command(name, account, key=f"k{number}", **fields)
            turned = dict(reversed(fields.items()))
            other = await second.command(name, account, key=f"k{number}", **turned)
            assert (one.status, other.status) == (201, 200), name
            assert other.json == {**one.json, "replayed": True}


async def test_what_was_sent_counts_and_not_what_it_means(platform: Caller, account: str) -> None:
    first = await platform.command("reserve", account, key="once", amount=1)
    same = await platform.command("reserve", account, key="once", amount=1, unit="credits")
    assert (first.status, same.status, same["code"]) == (201, 409, "idempotency_mismatch")
    assert (same["account"], same["idempotency_key"]) == (account, "once")


async def test_a_key_belongs_to_its_account(platform: Caller, account: str) -> None:
    answers = [await platform.command("reserve", name, key="once", amount=1) for name in (account, f"{account}-b")]
    assert [answer.status for answer in answers] == [201, 201]


async def test_a_dry_run_leaves_its_key_to_the_command(platform: Caller, account: str) -> None:
    wanted = {"command": "reserve", "account": account, "idempotency_key": "once", "amount": 1}
    dry = await platform.batch(dry_run=True, commands=[wanted])
    assert (dry["results"][0]["status"], dry["results"][0]["dry_run"]) == (200, True)
    assert (await platform.command("reserve", account, key="once", amount=1)).status == 201
    again = await platform.batch(commands=[wanted])
    assert (again["results"][0]["status"], again["results"][0]["replayed"]) == (200, True)


async def test_every_command_has_a_dry_run(platform: Caller, account: str) -> None:
    await platform.command("change_plan", account, plan="starter")
    await platform.command("reserve", account, amount=5, reservation_id="job")
    await platform.command("consume", account, amount=7, consumption_id="work")
    await platform.command("grant", account, amount=5, grant_id="gift")
    before = (await platform.query("balance", account)).json
    new = {"reserve": "reservation_id", "grant": "grant_id", "consume": "consumption_id"}
    tried: list[dict[str, Any]] = []
    for name, fields in LIFE[1:]:
        id_of_new = new.get(name)
        renamed = {id_of_new: "new"} if id_of_new in fields else {}
        tried.append({"command": name, "account": account, **fields, **renamed})
    tried.append({"command": "change_plan", "account": account, "plan": "pro"})
    answer = await platform.batch(dry_run=True, commands=tried)
    assert [(each["status"], each["dry_run"], each["token"]) for each in answer["results"]] == [
        (200, True, None)
    ] * len(tried)
    after = (await platform.query("balance", account)).json
    assert {**after, "as_of": None} == {**before, "as_of": None}


async def test_a_dry_run_that_finds_nothing_to_write_says_that_it_is_one(platform: Caller, account: str) -> None:
    paid = {"plan": "pro", "mode": "reset", "reference": "paid"}
    first = await platform.command("change_plan", account, **paid)
    tried = [
        {"command": "reserve", "account": account, "operation": "create_post"},
        {"command": "change_plan", "account": account, **paid},
    ]
    answer = await platform.batch(dry_run=True, commands=tried)
    free, counted = answer["results"]
    assert free == {"status": 200, "free": True, "events": [], "dry_run": True}
    assert counted == {"status": 200, **first.json, "replayed": True, "dry_run": True}
