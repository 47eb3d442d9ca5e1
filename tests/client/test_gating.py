"""Gated endpoints: one line for each, with the 402 ready, in a real aiohttp application and without a framework."""

import asyncio
from collections.abc import AsyncGenerator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from credit_ledger_client import Gate, Hold, InsufficientCredits, Ledger
from credit_ledger_client.fields import Line, ReserveFields
from credit_ledger_client.testing import LedgerDouble
from credit_ledger_client.web import problem_response

LEDGER = web.AppKey("ledger", Ledger)
QUEUE: web.AppKey[asyncio.Queue[str]] = web.AppKey("queue", asyncio.Queue)

gate = Gate(
    lambda request: request.app[LEDGER],
    account=lambda request: request.headers["Team"],
    denied=problem_response,
    key=lambda request: request.headers.get("Idempotency-Key"),
)


@gate("generate_image", quantity=lambda request: int(request.query.get("count", "1")))
async def generate_images(request: web.Request) -> web.Response:
    await request.app[QUEUE].put("images")
    return web.json_response({"queued": True}, status=202)


@gate("generate_video")
async def generate_video(request: web.Request, hold: Hold) -> web.Response:
    await request.app[QUEUE].put(hold.hand_over())
    return web.json_response({"job": hold.id}, status=202)


@gate("upscale_image")
async def upscale(request: web.Request) -> web.Response:
    match request.query.get("outcome"):
        case "error":
            raise web.HTTPBadGateway
        case "redirect":
            raise web.HTTPSeeOther("/done")
        case "answer":
            return web.Response(status=500)
        case _:
            return web.Response(text="done")


async def flows(request: web.Request) -> ReserveFields:
    counts = await request.json()
    lines: list[Line] = [{"operation": "generate_collection_flow", "quantity": count} for count in counts]
    return {"lines": lines, "occupies": {"concurrent_jobs": 1}}


@gate(asking=flows)
async def generate_collection(request: web.Request) -> web.Response:
    return web.Response(status=202)


@pytest.fixture
async def app(double: LedgerDouble) -> AsyncGenerator[aiohttp.ClientSession]:
    """A session to an application with gated endpoints, for a team on the starter plan."""
    await double.change_plan("team-1", "starter")
    app = web.Application()
    app[LEDGER], app[QUEUE] = double, asyncio.Queue()
    app.router.add_post("/images", generate_images)
    app.router.add_post("/videos", generate_video)
    app.router.add_post("/upscale", upscale)
    app.router.add_post("/collections", generate_collection)
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession(base_url=server.make_url("/"), headers={"Team": "team-1"}) as session,
    ):
        yield session


async def charged(double: LedgerDouble) -> int:
    return (await double.quota("team-1")).credits_used


async def post(app: aiohttp.ClientSession, path: str, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with app.post(path, headers=named, allow_redirects=False) as answer:
        return answer.status


async def test_a3_consumed_after_a_successful_enqueue(app: aiohttp.ClientSession, double: LedgerDouble) -> None:
    assert await post(app, "/images?count=4") == 202
    assert await charged(double) == 8


async def test_a3_a_hold_that_is_handed_over_is_consumed_by_the_worker(
    app: aiohttp.ClientSession, double: LedgerDouble
) -> None:
    async with app.post("/videos") as answer:
        assert answer.status == 202
        job = (await answer.json())["job"]
    assert await charged(double) == 0
    assert (await double.balance("team-1")).reserved == 20
    async with double.take_over("team-1", job):
        pass
    assert await charged(double) == 20


async def test_a_denial_is_402_with_the_figures_that_help(app: aiohttp.ClientSession, double: LedgerDouble) -> None:
    async with app.post("/images?count=1000") as answer:
        assert answer.status == 402
        assert answer.content_type == "application/problem+json"
        problem = await answer.json()
    assert problem["code"] == "insufficient_credits"
    assert (problem["cost"], problem["shortfall"], problem["max_affordable"]) == (2000, 1475, 262)
    assert await charged(double) == 0


@pytest.mark.parametrize(("outcome", "status", "cost"), [("", 200, 1), ("error", 502, 0), ("answer", 500, 0)])
async def test_what_fails_is_not_charged(
    app: aiohttp.ClientSession, double: LedgerDouble, outcome: str, status: int, cost: int
) -> None:
    assert await post(app, f"/upscale?outcome={outcome}") == status
    assert await charged(double) == cost
    assert (await double.balance("team-1")).reserved == 0


async def test_a_redirect_is_no_failure(app: aiohttp.ClientSession, double: LedgerDouble) -> None:
    assert await post(app, "/upscale?outcome=redirect") == 303
    assert await charged(double) == 1


async def test_a_request_that_is_sent_again_with_its_key_pays_once(
    app: aiohttp.ClientSession, double: LedgerDouble
) -> None:
    assert await post(app, "/upscale?outcome=error", Idempotency_Key="click-1") == 502
    assert await post(app, "/upscale", Idempotency_Key="click-1") == 200, "what failed may be tried again"
    assert await post(app, "/upscale", Idempotency_Key="click-1") == 409, "what was paid for is not done again"
    assert await charged(double) == 1


async def test_a_collection_is_one_hold_over_its_flows(app: aiohttp.ClientSession, double: LedgerDouble) -> None:
    async with app.post("/collections", json=[4, 6]) as answer:
        assert answer.status == 202
    assert await charged(double) == 20


async def test_a_ledger_that_is_away_is_503_before_the_work(app: aiohttp.ClientSession, double: LedgerDouble) -> None:
    with double.away():
        async with app.post("/upscale") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
    assert await charged(double) == 0


async def test_work_that_is_done_is_answered_and_counted_when_the_ledger_is_back(double: LedgerDouble) -> None:
    away = double.away()

    @Gate(double, account=lambda: "team-1")("upscale_image")
    async def work() -> str:
        away.__enter__()
        return "done"

    assert await work() == "done"
    away.__exit__(None, None, None)
    await double.advance(minutes=1)
    assert await charged(double) == 1


async def test_without_a_framework_the_refusal_is_raised(double: LedgerDouble) -> None:
    @Gate(double, account=lambda team, **_: team)("generate_image", quantity=lambda _team, count: count)
    async def generate(team: str, *, count: int) -> str:
        return f"{count} for {team}"

    assert await generate("team-1", count=2) == "2 for team-1"
    with pytest.raises(InsufficientCredits):
        await generate("team-1", count=100)
    assert await charged(double) == 4
