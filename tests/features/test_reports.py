"""FEATURES.md C1, C4, D3, E1 and E2: history, usage, audit, accounts, statements and finance, against the running service."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDictProxy

from tests.features.conftest import Caller, HttpCaller, Service


class Reader:
    """Asks the service over HTTP, and waits until projections have what was written."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def get(self, path: str, *, status: Any = 200, **parameters: Any) -> Any:
        """The JSON of a path."""
        async with self._session.get(self._url + path, params={k: str(v) for k, v in parameters.items()}) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json(content_type=None)

    async def raw(self, path: str, **headers: str) -> tuple[int, CIMultiDictProxy[str], str]:
        """Status, headers and text of a path."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.get(self._url + path, headers=named) as answer:
            return answer.status, answer.headers, await answer.text()


@pytest.fixture
async def session() -> AsyncGenerator[aiohttp.ClientSession]:
    """A connection of the test's own."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def reader(session: aiohttp.ClientSession, content_platform: Service) -> Reader:
    """Whoever looks at the content platform's ledger."""
    return Reader(session, content_platform.url)


@pytest.fixture
def caller(session: aiohttp.ClientSession, content_platform: Service) -> Caller:
    """The platform's backend."""
    return HttpCaller(session, content_platform.url)


async def worked(caller: Caller, account: str) -> str:
    """An account with some work: two reels, one of which was given back, and three images; the last token."""
    await caller.command("change_plan", account, plan="starter")
    await caller.command("consume", account, operation="create_reel", consumption_id="one", reference="job-1")
    await caller.command("consume", account, operation="create_reel", consumption_id="two", reference="job-2")
    await caller.command("reserve", account, operation="generate_ai_image", quantity=3, reservation_id="images")
    await caller.command("consume", account, reservation_id="images")
    last = await caller.command("refund", account, consumption_id="two")
    return last["token"]


async def test_c4_usage_by_operation_and_time(caller: Caller, reader: Reader, account: str) -> None:
    token = await worked(caller, account)
    usage = await reader.get(f"/v1/accounts/{account}/usage", group_by="operation", bucket="hour", min_token=token)
    groups = {row["operation"]: (row["count"], row["used"], row["refunded"], row["net"]) for row in usage["groups"]}
    assert groups == {"create_reel": (2, 10, 5, 5), "generate_ai_image": (1, 9, 0, 9)}
    assert usage["totals"]["net"] == (await reader.get(f"/v1/accounts/{account}/quota"))["credits_used"] == 14
    assert sum(row["used"] for row in usage["series"]) == 19
    assert usage["as_of"] == token
    by_actor = await reader.get(f"/v1/accounts/{account}/usage", group_by="actor", bucket="month")
    assert [(row["actor"], row["net"]) for row in by_actor["groups"]] == [("dev", 14)]


async def test_usage_of_all_accounts_has_each_of_them(caller: Caller, reader: Reader, account: str) -> None:
    before = await reader.get("/v1/usage", group_by="operation")
    token = await worked(caller, account)
    after = await reader.get("/v1/usage", group_by="operation", min_token=token)
    assert after["totals"]["used"] - before["totals"]["used"] >= 19
    assert token in after["as_of"].split(",")


async def test_c1_the_history_is_found_by_every_filter(caller: Caller, reader: Reader, account: str) -> None:
    await worked(caller, account)
    path = f"/v1/accounts/{account}/transactions"

    async def kinds(**filters: object) -> list[str]:
        return [row["kind"] for row in (await reader.get(path, order="asc", **filters))["transactions"]]

    assert await kinds() == ["opened", "plan", "direct", "direct", "hold", "settle", "consumption"]
    assert await kinds(type="consumed") == ["direct", "direct", "settle"]
    assert await kinds(kind="direct") == ["direct", "direct"]
    assert await kinds(operation="create_reel") == ["direct", "direct"]
    assert await kinds(operation="create_reel", type="granted") == []
    assert await kinds(reservation="images") == ["hold", "settle"]
    assert await kinds(reference="job-2") == ["direct", "consumption"]
    assert await kinds(type="refunded", reference="job-2") == ["consumption"]
    rows = (await reader.get(path, order="asc"))["transactions"]
    middle = rows[3]["recorded_at"]
    assert await kinds(to=middle) == ["opened", "plan", "direct"]
    assert await kinds(**{"from": middle}) == ["direct", "hold", "settle", "consumption"]


async def test_pages_survive_what_is_written_meanwhile(caller: Caller, reader: Reader, account: str) -> None:
    await worked(caller, account)
    path = f"/v1/accounts/{account}/transactions"
    whole = [row["id"] for row in (await reader.get(path, type="consumed"))["transactions"]]
    page = await reader.get(path, type="consumed", limit=1)
    seen = [row["id"] for row in page["transactions"]]
    while page["next_cursor"] is not None:
        await caller.command("consume", account, operation="create_reel")
        page = await reader.get(path, type="consumed", limit=1, cursor=page["next_cursor"])
        seen += [row["id"] for row in page["transactions"]]
    assert seen == whole


async def test_e1_and_e2_one_answer_with_quota_and_the_last_ten_entries(
    caller: Caller, reader: Reader, account: str
) -> None:
    await caller.command("change_plan", account, plan="free", reason="sign-up")
    await caller.command("grant", account, amount=20, reason="welcome")
    await caller.command("consume", account, amount=5)
    await caller.command("adjust", account, amount=-3, reason="counted twice")
    await caller.command("change_plan", account, allowance={"credits": 50})
    await caller.command("reset_usage", account, reason="a bad week")
    await caller.command("set_status", account, status="frozen", reason="asked for")
    granted = await caller.command("grant", account, amount=2, grant_id="g")
    await caller.command("revoke", account, grant_id="g", reason="by mistake")
    answer = await reader.get(f"/v1/accounts/{account}", include="quota,audit")
    assert [entry["action"] for entry in answer["audit"]] == [
        *("credit_revoke", "credit_grant", "status_change", "usage_reset"),
        *("limit_change", "credit_adjustment", "credit_grant", "plan_change"),
    ]
    assert answer["quota"]["credits_used"] == 0
    plan, welcome = answer["audit"][-1], answer["audit"][-2]
    assert (plan["previous_value"], plan["new_value"]) == ({"plan": None}, {"plan": "free"})
    assert welcome["actor"]["id"] == "dev"
    assert (welcome["previous_value"], welcome["new_value"]) == ({"available": 35}, {"available": 55})
    assert (welcome["details"]["amount"], welcome["reason"]) == (20, "welcome")
    limits = answer["audit"][4]
    assert limits["previous_value"]["allowance"] == {"credits": 35}
    assert limits["new_value"]["allowance"] == {"credits": 50}
    status = answer["audit"][2]
    assert status["new_value"] == {"status": "frozen"}
    entries = await reader.get(f"/v1/accounts/{account}/audit", limit=3)
    assert [entry["id"] for entry in entries["entries"]] == [entry["id"] for entry in answer["audit"][:3]]
    rest = await reader.get(f"/v1/accounts/{account}/audit", cursor=entries["next_cursor"])
    assert [entry["id"] for entry in rest["entries"]] == [entry["id"] for entry in answer["audit"][3:]]
    assert granted["events"][0]["id"] == answer["audit"][1]["id"]
    await reader.get(f"/v1/accounts/{account}-unknown/audit", status=404)


async def test_accounts_are_listed_by_plan_and_prefix(caller: Caller, reader: Reader, account: str) -> None:
    names = [f"{account}-{letter}" for letter in "abc"]
    tokens = [(await caller.command("change_plan", name, plan="pro"))["token"] for name in names]
    tokens.append((await caller.command("change_plan", names[1], plan="agency"))["token"])
    newest: dict[str, str] = {}
    for token in tokens:
        newest[token.split("-")[0]] = token
    common = {"prefix": account, "min_token": ",".join(newest.values())}

    async def listed(**filters: object) -> list[str]:
        return [row["account"] for row in (await reader.get("/v1/accounts", **common, **filters))["accounts"]]

    assert await listed() == names[::-1]
    assert await listed(order="asc") == names
    assert await listed(plan="pro") == [names[2], names[0]]
    assert await listed(plan="agency") == [names[1]]
    first = await reader.get("/v1/accounts", **common, limit=2)
    second = await reader.get("/v1/accounts", **common, limit=2, cursor=first["next_cursor"])
    assert [row["account"] for row in (*first["accounts"], *second["accounts"])] == names[::-1]
    assert second["next_cursor"] is None
    assert first["accounts"][0]["balances"]["credits"]["available"] == 700
    await reader.get("/v1/accounts", status=400, cursor="nonsense")


async def test_a_statement_adds_up(caller: Caller, reader: Reader, account: str) -> None:
    await worked(caller, account)
    statement = await reader.get(f"/v1/accounts/{account}/statement")
    moved = sum(row["delta"]["available"] for row in statement["movements"])
    assert (statement["opening"]["available"], moved, statement["closing"]["available"]) == (0, 186, 186)
    middle = statement["movements"][3]["at"]
    later = await reader.get(f"/v1/accounts/{account}/statement", **{"from": middle})
    assert later["opening"] == statement["movements"][2]["balance"]
    assert later["movements"] == statement["movements"][3:]


async def test_finance_adds_up_by_kind_and_cost_basis(caller: Caller, reader: Reader, account: str) -> None:
    before = await reader.get("/v1/finance/summary")
    basis = {"amount": 900, "currency": "usd"}
    await caller.command("change_plan", account, plan="free")
    await caller.command("grant", account, amount=100, kind="purchase", cost_basis=basis, grant_id="pack")
    await caller.command("consume", account, amount=45)
    token = (await caller.command("revoke", account, grant_id="pack", reason="charged back"))["token"]
    finance = await reader.get("/v1/finance/summary", min_token=token)
    for row in (finance, *finance["rows"]):
        moved = row["granted"] - row["consumed"] + row["refunded"] - row["expired"] - row["revoked"]
        assert row["opening"] + moved == row["closing"]
    assert finance["revoked"] - before["revoked"] >= 90
    packs = [row for row in finance["rows"] if row["cost_basis"] == {**basis, "credits": 100}]
    assert [(row["kind"], row["granted"] >= 100, row["consumed"] >= 10) for row in packs] == [("purchase", True, True)]


async def test_lists_come_as_csv_when_that_is_asked_for(caller: Caller, reader: Reader, account: str) -> None:
    await worked(caller, account)
    token = (await caller.command("grant", account, amount=1, reason="=1+1"))["token"]
    path = f"/v1/accounts/{account}/transactions?limit=2"
    status, headers, text = await reader.raw(path, Accept="text/csv")
    assert (status, headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    listed = await reader.get(path)
    assert [row["id"] for row in rows] == [row["id"] for row in listed["transactions"]]
    assert rows[0]["delta.credits.available"] == "1"
    assert rows[0]["reason"] == "'=1+1"
    assert headers["Next-Cursor"] == listed["next_cursor"]
    for other in ("grants", "reservations", "consumptions", "audit", "usage", "statement"):
        status, _, text = await reader.raw(f"/v1/accounts/{account}/{other}?min_token={token}", Accept="text/csv")
        assert status == 200
        assert len(text.splitlines()) > 1
    status, headers, _ = await reader.raw(f"/v1/accounts/{account}/balance", Accept="text/csv")
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("what", ["balance", "quota"])
async def test_who_has_the_balance_already_is_told_so(caller: Caller, reader: Reader, account: str, what: str) -> None:
    await worked(caller, account)
    path = f"/v1/accounts/{account}/{what}"
    _, headers, _ = await reader.raw(path)
    assert (await reader.raw(path, If_None_Match=headers["ETag"]))[::2] == (304, "")
    await caller.command("consume", account, amount=1)
    status, changed, _ = await reader.raw(path, If_None_Match=headers["ETag"])
    assert status == 200
    assert changed["ETag"] != headers["ETag"]


async def test_a_token_that_no_projection_has_reached_is_503(caller: Caller, reader: Reader, account: str) -> None:
    token = await worked(caller, account)
    partition = token.split("-")[0]
    answer = await reader.get(f"/v1/accounts/{account}/usage", status=503, min_token=f"{partition}-999999999")
    assert answer["code"] == "unavailable"
    other = (int(partition) + 1) % 16
    await reader.get(f"/v1/accounts/{account}/usage", status=422, min_token=f"{other}-1")


async def test_a_unit_that_nobody_has_is_refused(caller: Caller, reader: Reader, account: str) -> None:
    await worked(caller, account)
    for what in ("usage", "statement", "quota"):
        await reader.get(f"/v1/accounts/{account}/{what}", status=422, unit="gold")


async def test_metrics_tell_how_far_projections_are(caller: Caller, reader: Reader, account: str) -> None:
    token = await worked(caller, account)
    await reader.get(f"/v1/accounts/{account}/usage", min_token=token)
    _, _, text = await reader.raw("/metrics")
    for name in ("lag_events", "lag_seconds"):
        assert f'credit_ledger_projection_{name}{{partition="{token.split("-")[0]}",projection="usage"}} 0' in text
    assert 'credit_ledger_projector_stopped{partition="0"} 0' in text
    assert "credit_ledger_projector_heartbeat_seconds" in text
