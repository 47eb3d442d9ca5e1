"""Query strings, and bodies that ask, which have no meaning: the contract's error, and nothing changes."""

import asyncio

import pytest

from service.http.routes import ROUTES
from tests.http.stage import Service

T = "/v1/accounts/team-42"
RESERVE = T + "/reservations"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=",
        "limit=1.0",
        "limit=%2B1",
        "limit=-1",
        "limit=%20%201",
        "limit=1_0",
        "limit=%D9%A3",
        "limit=" + "9" * 400,
        "order=up",
        "cursor=",
        "type=a.b",
        "type=grant",
        "kind=nope",
        "from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z",
        "from=yesterday",
        "from=2026-01-01",
        "to=2026-01-01T00:00:00",
        "min_token=x",
        "min_token=1-2-3",
        "unknown=1",
        "limit=1&limit=1",
        "limit=1&limit=2",
        "limit=1;order=asc",
        "reference=%00",
        "reference=%ff",
        "reference=%ed%a0%80",
        "reference=" + "r" * 201,
        "account=team-42",
        "&".join(f"p{n}=1" for n in range(100)),
        "%ff=1",
    ],
)
async def test_a_query_string_that_has_no_meaning_is_422(shared: Service, query: str) -> None:
    answer = await shared.get(f"{T}/transactions?{query}")
    assert (answer.status, answer.code) == (422, "invalid_request"), answer.body


@pytest.mark.asyncio(loop_scope="module")
async def test_a_state_that_nothing_of_a_list_can_have_is_422(shared: Service) -> None:
    states = {
        "reservations": {"open", "settled", "released", "expired", "settled_late"},
        "grants": {"scheduled", "active", "drained", "expired", "revoked"},
        "consumptions": set[str](),
    }
    for name, known in states.items():
        for state in sorted(set[str]().union(*states.values()) | {"opened", "Open", ""}):
            answer = await shared.get(f"{T}/{name}?state={state}")
            assert answer.status == (200 if state in known else 422), (name, state)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cursor_that_no_list_gave_out_is_400(shared: Service) -> None:
    for cursor in ("x", "1.5", "-1", "%D9%A3"):
        answer = await shared.get(f"{T}/transactions?cursor={cursor}")
        assert (answer.status, answer.code) == (400, "invalid_cursor")


@pytest.mark.asyncio(loop_scope="module")
async def test_an_instant_in_the_future_is_422_and_one_before_the_account_404(shared: Service) -> None:
    assert (await shared.get(T + "/balance?at=2999-01-01T00:00:00Z")).code == "invalid_request"
    assert (await shared.get(T + "/balance?at=1999-01-01T00:00:00Z")).code == "account_not_found"


async def test_a_token_of_another_partition_is_422(service: Service) -> None:
    answer = await service.do("POST", T + "/consumptions", {"amount": 1})
    token = answer.json["token"]
    assert (await service.get(f"{T}/balance?min_token={token}")).status == 200
    other = (int(token.split("-")[0]) + 1) % 16
    assert (await service.get(f"{T}/balance?min_token={other}-1")).code == "invalid_request"


async def test_every_read_of_an_account_takes_a_token(service: Service) -> None:
    written = await service.do("POST", T + "/consumptions", {"amount": 1}, key="once")
    token = written.json["token"]
    partition, position = (int(part) for part in token.split("-"))
    given = {"explain": f"event={token}&", "check": "amount=1&"}
    later: list[str] = []
    for route in ROUTES:
        if route.kind == "query" and "{account}" in route.path:
            path = route.path.format(account="team-42", idempotency_key="once")
            target = f"{path}?{given.get(route.name, '')}min_token="
            if route.name not in {"usage", "forecast"}:  # no projector runs here, so these wait for ever
                assert (await service.get(target + token)).status == 200, route
            assert (await service.get(f"{target}{(partition + 1) % 16}-1")).code == "invalid_request", route
            later.append(f"{target}{partition}-{position + 1}")
    answers = await asyncio.gather(*(service.get(target) for target in later))
    assert {(answer.status, answer.code) for answer in answers} == {(503, "unavailable")}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("query", ["dry_run=", "dry_run=1", "dry_run=True", "dry_run=true&dry_run=true", "dryrun=true"])
async def test_a_mutations_only_parameter_is_dry_run_true_or_false(shared: Service, query: str) -> None:
    before = await shared.events_written()
    answer = await shared.do("POST", f"{RESERVE}?{query}", {"amount": 1})
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert await shared.events_written() == before


@pytest.mark.asyncio(loop_scope="module")
async def test_a_query_with_a_body_takes_no_parameters_and_no_account(shared: Service) -> None:
    for target, body in [
        (T + "/check?amount=1", {"amount": 1}),
        (T + "/check", {"amount": 1, "account": "other"}),
        (T + "/check", {"amount": 1.5}),
        ("/v1/quote?operation=generate_image", {"operation": "generate_image"}),
        ("/v1/quote", {"operation": "generate_image", "account": "other"}),
        ("/v1/quote", {}),
    ]:
        answer = await shared.call("POST", target, body)
        assert (answer.status, answer.code) == (422, "invalid_request"), target
    for target in (T + "/check", "/v1/quote"):
        answer = await shared.call("POST", target, b'{"amount":1,"amount":1}')
        assert (answer.status, answer.code) == (400, "invalid_json")
