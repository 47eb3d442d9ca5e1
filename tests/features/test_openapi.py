"""The OpenAPI document: whole, served, with examples that pass, and true of what the service answers."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from service.http.routes import ROUTES
from service.openapi.document import ANSWERS, TEXTS, document
from service.openapi.page import POLICY
from tests.documented import Documented
from tests.features.conftest import Service
from tests.features.test_asyncapi import found, references

NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def documented() -> Documented:
    return Documented()


def test_every_reference_leads_somewhere(documented: Documented) -> None:
    for reference in set(references(documented.whole)):
        assert isinstance(found(documented.whole, reference), dict), reference


def test_every_route_is_told_with_what_it_answers(documented: Documented) -> None:
    untold = {"asyncapi", "openapi"}  # documents, each with a form of its own
    for route in ROUTES:
        operation = documented.whole["paths"][route.path][route.method.lower()]
        assert operation["summary"]
        assert operation["security"] == (
            [] if route.kind == "operation" else [{"token": [route.scope] if route.scope else []}]
        )
        assert all(parameter["description"] for parameter in operation["parameters"]), route
        if route.kind != "command" and route.name not in untold:
            assert route.name in ANSWERS or route.name in TEXTS, (
                f"{route.name} has no answer in service.openapi.document"
            )
    ids = [operation["operationId"] for methods in documented.whole["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids)) == len(ROUTES)


def test_every_example_passes_its_schema(documented: Documented) -> None:
    checked = 0
    examples = documented.whole["components"]["examples"]
    for path, methods in documented.whole["paths"].items():
        for operation in methods.values():
            contents = [*operation.get("requestBody", {}).get("content", {}).values()]
            if operation.get("requestBody"):
                assert "example" in contents[0], f"{path} has no example of a body"
            for response in operation["responses"].values():
                contents += documented.resolved(response).get("content", {}).values()
            for content in contents:
                values = [content["example"]] if "example" in content else []
                values += [
                    examples[each["$ref"].rpartition("/")[2]]["value"] for each in content.get("examples", {}).values()
                ]
                for value in values:
                    checked += 1
                    assert documented.errors(content["schema"], value) == [], (path, value)
    assert checked > 150


class Caller:
    """Asks a service, and holds every answer against the document."""

    def __init__(self, session: aiohttp.ClientSession, url: str, documented: Documented) -> None:
        self._session, self._url, self._documented = session, url, documented

    async def __call__(self, method: str, path: str, body: Any = None, *, status: int, **headers: str) -> Any:
        data = None if body is None else json.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if method != "GET":
            sent = {"Idempotency-Key": f"{path}{data}"[-200:].encode().hex()[:200], **sent}
        async with self._session.request(method, self._url + path, data=data, headers=sent) as answer:
            text = await answer.read()
            told = path.partition("?")[0]
            wrong = self._documented.judge(method, told, answer.status, answer.headers.get("Content-Type", ""), text)
            assert wrong == []
            assert answer.status == status, text
            return (
                json.loads(text)
                if answer.content_type != NDJSON and answer.content_type.endswith("json") and text
                else text
            )


async def test_what_a_service_answers_is_told(asset_studio: Service, account: str, documented: Documented) -> None:
    """Every route of one account and of all, with answers of every kind."""
    async with aiohttp.ClientSession() as session:
        ask = Caller(session, asset_studio.url, documented)
        at = f"/v1/accounts/{account}"
        work = f"{at}/reservations"
        await ask("PUT", f"{at}/plan", {"plan": "pro", "reason": "sign-up"}, status=201)
        cost = {"amount": 900, "currency": "usd"}
        await ask("POST", f"{at}/grants?dry_run=true", {"amount": 5}, status=200)
        await ask(
            "POST", f"{at}/grants", {"amount": 500, "kind": "purchase", "cost_basis": cost, "grant_id": "g"}, status=201
        )
        await ask(
            "POST",
            f"{at}/grants",
            {"amount": 5, "operations": ["upscale_image"], "expires_at": "2099-01-01T00:00:00Z"},
            status=201,
        )
        await ask(
            "POST", work, {"operation": "upscale_image", "reservation_id": "r1", "metadata": {"a": "b"}}, status=201
        )
        lines = [{"operation": "generate_image", "quantity": 2}, {"operation": "edit_image"}]
        await ask("POST", work, {"lines": lines, "reservation_id": "r2"}, status=201)
        await ask("POST", work, {"lines": lines, "reservation_id": "r2"}, status=200)
        await ask("POST", work, {"amount": 7, "reservation_id": "r3", "overage": "reject"}, status=201)
        await ask("POST", f"{work}/r1/extend", {"ttl_seconds": 900}, status=201)
        await ask("POST", f"{work}/r1/consume", {"amount": 1, "final": False}, status=201)
        await ask("POST", f"{work}/r1/consume", {}, status=201)
        await ask("POST", f"{work}/r2/consume", {"lines": [{"line": 0, "quantity": 1}]}, status=201)
        await ask("POST", f"{work}/r3/consume", {"amount": 900}, status=409)
        await ask("POST", f"{work}/r3/release", {}, status=201)
        await ask("POST", f"{work}/none/release", {}, status=404)
        await ask("POST", f"{at}/consumptions", {"amount": 3, "consumption_id": "c1"}, status=201)
        await ask("POST", f"{at}/consumptions", {"amount": 10**15}, status=402)
        await ask("POST", f"{at}/consumptions/c1/refund", {"amount": 2}, status=201)
        await ask("POST", f"{at}/adjustments", {"amount": -3, "reason": "counted twice"}, status=201)
        await ask("PUT", f"{at}/plan", {"allowance": {"credits": 50}}, status=201)
        await ask("POST", f"{at}/usage-resets", {"reason": "a bad week"}, status=201)
        await ask("POST", f"{at}/grants/g/revoke", {"reason": "charged back"}, status=201)
        await ask("POST", f"{at}/grants/g/revoke", {"reason": 5}, status=422)
        last = await ask("PUT", f"{at}/status", {"status": "frozen", "reason": "asked for"}, status=201)
        await ask("POST", work, {"amount": 1}, status=409)
        await ask("POST", f"{at}/renewals", {"reference": "r"}, status=200)
        commands = [{"command": "release", "account": account, "idempotency_key": "b", "reservation_id": "none"}]
        await ask("POST", "/v1/commands", {"commands": commands}, status=200)
        token = f"?min_token={last['token']}"
        for name in ("usage", "forecast"):
            await ask("GET", f"{at}/{name}{token}", status=200)
        await ask("GET", f"{at}/usage?group_by=operation,actor", status=200)
        for name in (
            "",
            "/balance",
            "/quota",
            "/grants",
            "/reservations",
            "/consumptions",
            "/transactions",
            "/audit",
            "/statement",
        ):
            await ask("GET", at + name, status=200)
        await ask("GET", f"{at}/transactions", status=200, Accept="text/csv")
        await ask("GET", f"{at}?include=quota,audit", status=200)
        await ask("GET", f"{at}/explain?event={last['token']}", status=200)
        await ask("GET", f"{at}/check?operation=upscale_image", status=200)
        await ask("POST", f"{at}/check", {"lines": lines}, status=200)
        await ask("GET", f"{at}/commands/{'0' * 8}", status=404)
        await ask("GET", f"{at}/transactions?cursor=x", status=400)
        await ask("GET", "/v1/accounts/nobody-at-all/balance", status=404)
        for path in ("/v1/accounts", "/v1/usage", "/v1/finance/summary", "/v1/catalog", "/v1/reports/reserve-hints"):
            await ask("GET", path, status=200)
        await ask("GET", "/v1/reports/hold-leaks?age_seconds=0", status=200)
        await ask("POST", "/v1/quote", {"lines": lines}, status=200)
        await ask("GET", f"/v1/events?account={account}&limit=3", status=200)
        await ask("GET", "/v1/checkpoints/latest", status=404)
        for path in ("/healthz", "/readyz", "/metrics", "/asyncapi.json", "/docs"):
            await ask("GET", path, status=200)
        assert (
            json.dumps(await ask("GET", "/openapi.json", status=200), indent=1, sort_keys=True) + "\n"
            == document().decode()
        )


async def test_the_page_loads_nothing_from_elsewhere(content_platform: Service) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{content_platform.url}/docs") as answer:
        text = await answer.text()
        assert answer.headers["Content-Security-Policy"] == POLICY
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY
    for word in ("<script", "http://", "https://", "style=", "onclick"):
        assert word not in text
    for route in ROUTES:
        assert f"<code>{route.path}</code>" in text
