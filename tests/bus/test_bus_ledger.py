"""Laws of the ledger behind NATS: the same bodies, answers and codes as everywhere, and garbage changes nothing."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest

from events.catalog import parse_catalog
from service.access import Access
from service.gateway import Gateway
from service.ledger import Ledger
from service.reads import Reads
from service.settings import CATALOGS
from service.store.feed import Feed
from service.store.log import Log
from service.turns import IDLE_LEAST
from tests.bus.calling import Caller, serving

CATALOG = parse_catalog((CATALOGS / "content_platform.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Stage:
    """A ledger behind NATS, and its caller."""

    caller: Caller
    feed: Feed
    ledger: Ledger

    async def events_written(self) -> int:
        """How many events the log has."""
        return sum((await self.feed.heads()).values())


@pytest.fixture
async def stage(database_url: str, nats_url: str) -> AsyncGenerator[Stage]:
    log = await Log.connect(database_url, connections=4)
    ledger = await Ledger.open(log, CATALOG)
    async with serving(Gateway(ledger, Reads(ledger)), nats_url) as caller:
        yield Stage(caller, Feed(log, ledger.partitions), ledger)
    await ledger.drain()
    await log.close()


async def test_a_job_from_opening_to_refund(stage: Stage) -> None:
    caller = stage.caller
    opened = await caller.command("change_plan", {"account": "a", "plan": "starter", "idempotency_key": "1"})
    assert (opened.status, opened.json["balance"]["available"]) == (201, 200)
    reserve = {"account": "a", "operation": "create_reel", "reservation_id": "job", "idempotency_key": "2"}
    held = await caller.command("reserve", reserve)
    assert (held.status, held.json["reservation"]["held"]) == (201, 5)
    again = await caller.command("reserve", reserve)
    assert (again.status, again.json["replayed"], again.json["token"]) == (200, True, held.json["token"])
    charged = await caller.command("consume", {"account": "a", "reservation_id": "job", "idempotency_key": "3"})
    assert (charged.status, charged.json["consumption"]["charged"]) == (201, 5)
    refund = {"account": "a", "consumption_id": "job", "amount": 2}
    assert (await caller.command("refund", refund, Idempotency_Key="4")).status == 201
    balance = await caller.query("balance", {"account": "a"})
    assert (balance.status, balance.json["available"]) == (200, 197)
    outcome = await caller.query("outcome", {"account": "a", "idempotency_key": "3"})
    assert (outcome.status, outcome.json["token"]) == (200, charged.json["token"])
    actor = charged.json["events"][0]["actor"]
    assert (actor["id"], actor["via"]) == ("tester", "nats")


async def test_200_parallel_reserves_for_a_balance_of_20_let_exactly_20_pass(stage: Stage) -> None:
    caller = stage.caller
    await caller.command("change_plan", {"account": "a", "plan": "starter", "idempotency_key": "open"})
    bodies = [{"account": "a", "amount": 10, "reservation_id": f"r{n}", "idempotency_key": f"k{n}"} for n in range(200)]
    answers = await asyncio.gather(*(caller.command("reserve", body) for body in bodies))
    statuses = [answer.status for answer in answers]
    assert (statuses.count(201), statuses.count(402)) == (20, 180)
    assert {answer.code for answer in answers} == {None, "insufficient_credits"}


async def test_beside_another_caller_one_who_floods_has_little_at_work_at_a_time(stage: Stage) -> None:
    caller, most = stage.caller, 0
    await caller.ask("cmd.quiet.consume", {"account": "q", "amount": 1, "idempotency_key": "first"})
    bodies = [{"account": f"a{n}", "amount": 1, "idempotency_key": "k"} for n in range(300)]
    flood = [await caller.send(f"{caller.prefix}.cmd.flood.consume", body) for body in bodies]
    while not all(answer.done() for answer in flood):
        most = max(most, sum(stage.ledger.waiting(partition) for partition in range(stage.ledger.partitions)))
        await asyncio.sleep(0)
    assert 0 < most <= IDLE_LEAST
    assert {answer.result().status for answer in flood} == {201}


async def test_the_key_stands_in_the_body_or_in_the_header_and_never_differs(stage: Stage) -> None:
    caller, body = stage.caller, {"account": "a", "plan": "free"}
    missing = await caller.command("change_plan", body)
    assert (missing.status, missing.code) == (400, "idempotency_key_required")
    assert (await caller.command("change_plan", {**body, "idempotency_key": ""})).code == "idempotency_key_required"
    assert (await caller.command("change_plan", body, Idempotency_Key="")).code == "idempotency_key_required"
    differ = await caller.command("change_plan", {**body, "idempotency_key": "one"}, Idempotency_Key="two")
    assert (differ.status, differ.code) == (422, "invalid_request")
    assert await stage.events_written() == 0
    in_header = await caller.command("change_plan", body, Idempotency_Key="one")
    in_body = await caller.command("change_plan", {**body, "idempotency_key": "one"})
    in_both = await caller.command("change_plan", {**body, "idempotency_key": "one"}, Idempotency_Key="one")
    assert [in_header.status, in_body.status, in_both.status] == [201, 200, 200]


async def test_a_dry_run_writes_nothing_and_needs_no_key(stage: Stage) -> None:
    answer = await stage.caller.command("reserve", {"account": "a", "amount": 5, "dry_run": True})
    assert (answer.status, answer.json["dry_run"]) == (200, True)
    assert await stage.events_written() == 0


async def test_null_for_what_may_be_left_out_is_leaving_it_out(stage: Stage) -> None:
    caller, body = stage.caller, {"account": "a", "amount": 1, "idempotency_key": "one"}
    written = await caller.command("consume", {**body, "dry_run": None, "operation": None})
    assert (written.status, written.json["events"][-1]["kind"]) == (201, "direct")
    batch = {"mode": None, "dry_run": None, "commands": [{"command": "consume", **body, "operation": None}]}
    answer = await caller.command("batch", batch)
    assert (answer.status, answer.json["results"][0]["status"]) == (200, 200)


@pytest.mark.parametrize("name", ["consume", "release"])
async def test_a_reservation_that_is_null_is_refused_and_charges_nothing(stage: Stage, name: str) -> None:
    body = {"account": "a", "reservation_id": None, "idempotency_key": "one"}
    refused = await stage.caller.command(name, {**body, "amount": 1} if name == "consume" else body)
    assert (refused.status, refused.code) == (422, "invalid_request")
    assert await stage.events_written() == 0


async def test_an_accounts_audit_entries_ask_for_the_scope_of_the_audit(database_url: str, nats_url: str) -> None:
    names = {"reads": ["read"], "admin": ["read", "admin:read"]}
    entries = [f'[[caller]]\nname = "{name}"\nscopes = {scopes}\n' for name, scopes in names.items()]
    log = await Log.connect(database_url, connections=4)
    ledger = await Ledger.open(log, CATALOG)
    async with serving(Gateway(ledger, Reads(ledger)), nats_url, access=Access.parse("".join(entries))) as caller:
        body = {"account": "a", "include": "quota,audit"}
        told = [await caller.ask(f"query.{name}.account", body) for name in names]
        assert [answer.code for answer in told] == ["forbidden", "account_not_found"]
        assert (await caller.ask("query.reads.account", {"account": "a"})).code == "account_not_found"
    await ledger.drain()
    await log.close()


async def test_an_unknown_command_or_query_is_not_found(stage: Stage) -> None:
    for answer in (
        await stage.caller.command("explode", {}),
        await stage.caller.command("Reserve", {}),
        await stage.caller.command("balance", {}),
        await stage.caller.query("reserve", {}),
        await stage.caller.ask("cmd.tester.a-name-that-is-rather-long-" + "x" * 2000),
    ):
        assert (answer.status, answer.code) == (404, "not_found")


GARBAGE = {
    "bytes": (b"\xff\xfe\x00\x01", 400),
    "half an object": (b'{"account":"a"', 400),
    "a list": (b"[]", 400),
    "a string": (b'"reserve"', 400),
    "a key twice": (b'{"account":"a","account":"b","amount":1}', 400),
    "a lone surrogate": (b'{"account":"\\ud800","amount":1}', 400),
    "too deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400),
    "nothing": (b"", 422),
    "null": (b'{"account":null,"amount":1}', 422),
    "NUL": (b'{"account":"a\\u0000","amount":1}', 422),
    "a float": (b'{"account":"a","amount":1.0}', 422),
    "a string for a number": (b'{"account":"a","amount":"1"}', 422),
    "2^53": (b'{"account":"a","amount":9007199254740992}', 422),
    "30 digits": (b'{"account":"a","amount":111111111111111111111111111111}', 422),
    "an unknown field": (b'{"account":"a","amount":1,"amnt":1}', 422),
    "an id with a dot": (b'{"account":"a.b","amount":1}', 422),
    "a key that is a number": (b'{"account":"a","amount":1,"idempotency_key":7}', 422),
    "a key with a line break": (b'{"account":"a","amount":1,"idempotency_key":"a\\nb"}', 422),
    "a dry run that is a number": (b'{"account":"a","amount":1,"dry_run":1}', 422),
}


@pytest.mark.parametrize(("body", "status"), GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_refused_and_changes_nothing(stage: Stage, body: bytes, status: int) -> None:
    answer = await stage.caller.command("reserve", body, Idempotency_Key="k" * ("idempotency_key" not in str(body)))
    assert (answer.status, answer.code) == (status, "invalid_json" if status == 400 else "invalid_request")
    asked = await stage.caller.query("balance", body)
    assert asked.status in (400, 422)
    assert await stage.events_written() == 0
