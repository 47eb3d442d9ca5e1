"""Every row of the table answers, as CONTRACT.md says; and what is not in the table is not there."""

from typing import Any, NamedTuple

import pytest

from events.partition import partition_of
from service.http.routes import ROUTES
from tests.http.stage import Answer, Service
from tests.servers import PARTITIONS

A = "/v1/accounts/{account}"


class Example(NamedTuple):
    """One request: the row it belongs to, the target and body, and what the answer has."""

    row: tuple[str, str]
    target: str
    body: Any = None
    status: int = 200
    has: tuple[str, ...] = ()


T = "/v1/accounts/team-42"
MUTATION = ("account", "replayed", "token", "events", "balance")
LIFE = [
    Example(
        ("POST", A + "/reservations"),
        T + "/reservations",
        {"operation": "generate_image", "reservation_id": "r1"},
        201,
        (*MUTATION, "reservation"),
    ),
    Example(
        ("POST", A + "/reservations/{reservation_id}/consume"),
        T + "/reservations/r1/consume",
        None,
        201,
        (*MUTATION, "reservation", "consumption"),
    ),
    Example(("POST", A + "/reservations"), T + "/reservations", {"amount": 3, "reservation_id": "r:2@x"}, 201),
    Example(
        ("POST", A + "/reservations/{reservation_id}/release"),
        T + "/reservations/r:2@x/release",
        {"reason": "changed my mind"},
        201,
        (*MUTATION, "reservation"),
    ),
    Example(
        ("POST", A + "/consumptions"),
        T + "/consumptions",
        {"amount": 4, "consumption_id": "c1"},
        201,
        (*MUTATION, "consumption"),
    ),
    Example(
        ("POST", A + "/consumptions/{consumption_id}/refund"),
        T + "/consumptions/c1/refund",
        {"amount": 1},
        201,
        (*MUTATION, "consumption"),
    ),
    Example(("POST", A + "/grants"), T + "/grants", {"amount": 10}, 201, (*MUTATION, "grant")),
    Example(("POST", A + "/grants"), T + "/grants", {"amount": 7, "grant_id": "g:1"}, 201, (*MUTATION, "grant")),
    Example(
        ("POST", A + "/grants/{grant_id}/revoke"),
        T + "/grants/g:1/revoke",
        {"reason": "charged back"},
        201,
        (*MUTATION, "grant"),
    ),
    Example(("POST", A + "/reservations"), T + "/reservations", {"amount": 3, "reservation_id": "r3"}, 201),
    Example(
        ("POST", A + "/reservations/{reservation_id}/extend"),
        T + "/reservations/r3/extend",
        None,
        201,
        (*MUTATION, "reservation"),
    ),
    Example(("POST", A + "/adjustments"), T + "/adjustments", {"amount": -2, "reason": "counted again"}, 201, MUTATION),
    Example(
        ("PUT", A + "/status"),
        T + "/status",
        {"status": "active", "reason": "asked for"},
        201,
        (*MUTATION, "plan"),
    ),
    Example(
        ("PUT", A + "/plan"), T + "/plan", {"plan": "pro"}, 201, ("account", "replayed", "token", "events", "plan")
    ),
    Example(("POST", A + "/renewals"), T + "/renewals", {"reference": "invoice-1"}, 200, (*MUTATION, "plan")),
    Example(("POST", A + "/usage-resets"), T + "/usage-resets", {"reason": "our fault"}, 201, MUTATION),
    Example(("GET", A), T, has=("plan", "period_start", "period_end", "status", "balances", "capacity")),
    Example(("GET", A), T + "?include=quota", has=("quota",)),
    Example(
        ("GET", A + "/balance"), T + "/balance", has=("available", "reserved", "plan", "capacity", "as_of", "token")
    ),
    Example(
        ("GET", A + "/quota"), T + "/quota", has=("credits_used", "credits_limit", "credits_remaining", "percentage")
    ),
    Example(
        ("GET", A + "/check"),
        T + "/check?operation=generate_image&quantity=3",
        has=("allowed", "cost", "available", "shortfall", "max_affordable", "reasons"),
    ),
    Example(
        ("POST", A + "/check"),
        T + "/check",
        {"lines": [{"operation": "generate_image", "params": {"quality": "hd"}}]},
        has=("allowed", "cost"),
    ),
    Example(("GET", A + "/reservations"), T + "/reservations?limit=1", has=("reservations", "next_cursor")),
    Example(("GET", A + "/consumptions"), T + "/consumptions", has=("consumptions", "next_cursor")),
    Example(("GET", A + "/grants"), T + "/grants", has=("grants", "next_cursor")),
    Example(
        ("GET", A + "/transactions"), T + "/transactions?type=consumed", has=("transactions", "next_cursor", "as_of")
    ),
    Example(
        ("GET", A + "/usage"), T + "/usage?bucket=hour&group_by=operation,actor", has=("series", "totals", "as_of")
    ),
    Example(("GET", A + "/forecast"), T + "/forecast", has=("run_out_at", "expiring", "pace", "until")),
    Example(("GET", A + "/audit"), T + "/audit", has=("entries", "next_cursor", "as_of")),
    Example(("GET", A + "/statement"), T + "/statement", has=("opening", "movements", "closing")),
    Example(("GET", "/v1/accounts"), "/v1/accounts?plan=pro&prefix=team", has=("accounts", "next_cursor")),
    Example(("GET", "/v1/usage"), "/v1/usage?bucket=month", has=("series", "totals", "as_of")),
    Example(("GET", "/v1/finance/summary"), "/v1/finance/summary", has=("opening", "closing", "debt", "unfunded")),
    Example(("GET", "/v1/catalog"), "/v1/catalog", has=("plans", "operations")),
    Example(("POST", "/v1/quote"), "/v1/quote", {"operation": "generate_image", "quantity": 5}, 200, ("cost", "lines")),
    Example(
        ("GET", A + "/explain"),
        f"{T}/explain?event={partition_of('team-42', PARTITIONS)}-1",
        has=("because", "grants", "price", "balance", "plan"),
    ),
    Example(("GET", "/v1/events"), "/v1/events?limit=1", has=("id", "prev_hash")),
    # This server signs nothing; tests/auditing asks one that does.
    Example(("GET", "/v1/checkpoints/latest"), "/v1/checkpoints/latest", status=404, has=("code",)),
    Example(("GET", "/v1/checkpoints/key"), "/v1/checkpoints/key", status=404, has=("code",)),
    Example(("GET", "/v1/checkpoints/{number}"), "/v1/checkpoints/7", status=404, has=("code",)),
    Example(("GET", "/v1/proofs/consistency"), "/v1/proofs/consistency?from=7", status=404, has=("code",)),
    Example(("GET", "/v1/proofs/inclusion"), "/v1/proofs/inclusion?event=0-1", status=404, has=("code",)),
    Example(("GET", "/healthz"), "/healthz", has=("status",)),
    Example(("GET", "/readyz"), "/readyz", has=("status",)),
    Example(("GET", "/metrics"), "/metrics"),
    Example(("GET", "/v1/reports/reserve-hints"), "/v1/reports/reserve-hints", has=("operations", "as_of")),
    Example(("GET", "/v1/reports/hold-leaks"), "/v1/reports/hold-leaks", has=("operations", "without_end", "as_of")),
    Example(("GET", "/openapi.json"), "/openapi.json", has=("openapi", "paths")),
    Example(("GET", "/docs"), "/docs"),
    Example(("GET", "/asyncapi.json"), "/asyncapi.json", has=("asyncapi", "channels")),
    Example(
        ("POST", "/v1/commands"),
        "/v1/commands",
        {"commands": [{"command": "consume", "account": "team-42", "idempotency_key": "in-batch", "amount": 1}]},
        200,
        ("results",),
    ),
]


def _check(example: Example, answer: Answer) -> None:
    assert answer.status == example.status, (example.target, answer.body)
    if example.has:
        assert set(example.has) <= set(answer.json), (example.target, answer.json)


async def test_every_row_of_the_table_answers(service: Service) -> None:
    seen: set[tuple[str, str]] = set()
    for number, example in enumerate(LIFE):
        method = example.row[0]
        answer = await service.call(method, example.target, example.body, key=f"life-{number}")
        _check(example, answer)
        seen.add(example.row)
    outcome = Example(("GET", A + "/commands/{idempotency_key}"), T + "/commands/life-0", has=MUTATION)
    _check(outcome, await service.get(outcome.target))
    assert seen | {outcome.row} == {(route.method, route.path) for route in ROUTES}


async def test_figures_that_were_written_are_figures_that_are_read(service: Service) -> None:
    for number, example in enumerate(LIFE[:7]):
        await service.call(example.row[0], example.target, example.body, key=f"life-{number}")
    balance = (await service.get(T + "/balance")).json
    assert (balance["available"], balance["reserved"]) == (35 - 2 - 4 + 1 + 10, 0)
    quota = (await service.get(T + "/quota")).json
    assert quota["credits_used"] == 2 + 4 - 1


async def test_a_command_sent_again_with_its_key_is_answered_as_first_with_200(service: Service) -> None:
    first = await service.do("POST", T + "/reservations", {"amount": 5}, key="once")
    again = await service.do("POST", T + "/reservations", {"amount": 5}, key="once")
    assert (first.status, again.status) == (201, 200)
    assert again.json == {**first.json, "replayed": True}
    other = await service.do("POST", T + "/reservations", {"amount": 6}, key="once")
    assert (other.status, other.code) == (409, "idempotency_mismatch")


async def test_the_outcome_of_a_key_is_what_its_command_answered_and_404_before(service: Service) -> None:
    await service.opened("team-42")
    unknown = await service.get(T + "/commands/later")
    assert (unknown.status, unknown.code) == (404, "command_not_found")
    assert unknown.json["as_of"] == (await service.get(T + "/balance")).json["token"]
    first = await service.do("POST", T + "/reservations", {"amount": 5}, key="later/a b~?")
    outcome = await service.get(T + "/commands/later%2Fa%20b~%3F")
    assert outcome.status == 200
    assert outcome.json == {**first.json, "replayed": True}


async def test_a_list_comes_in_the_form_that_the_caller_likes_best(service: Service) -> None:
    await service.opened("team-42")
    for accepted, is_csv in {
        "text/csv": True,
        "Text/CSV; charset=utf-8": True,
        "text/csv, */*": True,
        "text/html, text/csv;q=0.9, */*;q=0.1": True,
        "application/json;q=0.1, text/csv;q=0.9": True,
        "application/json, text/csv": False,
        "text/csv;q=0.1, application/json": False,
        "text/csv;q=0": False,
        "text/csv;q=much": False,
        "text/html": False,
        "": False,
    }.items():
        answer = await service.call("GET", T + "/transactions", headers={"Accept": accepted})
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/csv") == is_csv, accepted


async def test_a_dry_run_answers_200_writes_nothing_and_needs_no_key(service: Service) -> None:
    answer = await service.call("POST", T + "/reservations?dry_run=true", {"amount": 5})
    assert answer.status == 200
    assert answer.json["dry_run"] is True
    assert answer.json["balance"]["available"] == 30
    assert await service.events_written() == 0
    real = await service.do("POST", T + "/reservations?dry_run=false", {"amount": 5})
    assert real.status == 201


async def test_a_free_operation_answers_without_an_event(service: Service) -> None:
    answer = await service.do("POST", T + "/reservations", {"operation": "create_post"})
    assert (answer.status, answer.json) == (200, {"free": True, "events": []})
    assert await service.events_written() == 0


async def test_a_refusal_for_want_of_credits_says_what_would_help(service: Service) -> None:
    answer = await service.do("POST", T + "/reservations", {"amount": 36})
    assert (answer.status, answer.code) == (402, "insufficient_credits")
    problem = answer.json
    assert (problem["cost"], problem["available"], problem["shortfall"], problem["max_affordable"]) == (36, 35, 1, 35)
    assert problem["upgrade"] == "Not enough credits. Upgrade your plan for more."
    assert problem["earliest_affordable_at"] is None or problem["earliest_affordable_at"].endswith("Z")


async def test_a_full_capacity_answers_429_with_its_figures(service: Service) -> None:
    await service.do("POST", T + "/reservations", {"operation": "generate_image"})
    answer = await service.do("POST", T + "/reservations", {"operation": "generate_image"})
    assert (answer.status, answer.code) == (429, "capacity_exceeded")
    assert (answer.json["capacity"], answer.json["used"], answer.json["limit"]) == ("concurrent_jobs", 1, 1)


async def test_on_behalf_of_stands_in_the_events_and_the_actor_is_the_tokens_name(service: Service) -> None:
    answer = await service.call(
        "POST", T + "/consumptions", {"amount": 1}, key="k", headers={"On-Behalf-Of": "support agent 7"}
    )
    actors = [event["actor"] for event in answer.json["events"]]
    assert actors == [{"id": "dev", "via": "http", "on_behalf_of": "support agent 7"}] * len(actors)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "read",
    [
        "",
        "/balance",
        "/quota",
        "/reservations",
        "/consumptions",
        "/grants",
        "/transactions",
        "/commands/k",
        "/explain?event=0-1",
    ],
)
async def test_a_read_of_an_unknown_account_is_404(shared: Service, read: str) -> None:
    answer = await shared.get("/v1/accounts/nobody" + read)
    code = "command_not_found" if "commands" in read else "account_not_found"
    assert (answer.status, answer.code) == (404, code)


@pytest.mark.asyncio(loop_scope="module")
async def test_check_of_a_capacity_alone_asks_for_room_and_no_credits(shared: Service) -> None:
    for count, reasons in ((1, []), (10**6, ["capacity_exceeded"])):
        answer = await shared.do("POST", "/v1/accounts/roomy/check", {"capacity": {"concurrent_jobs": count}})
        assert answer.status == 200
        assert (answer.json["cost"], answer.json["allowed"], answer.json["reasons"]) == (0, not reasons, reasons)
        assert answer.json["max_affordable"] is None
    empty = await shared.do("POST", "/v1/accounts/roomy/check", {})
    assert (empty.status, empty.json["code"]) == (422, "invalid_request")


@pytest.mark.asyncio(loop_scope="module")
async def test_check_answers_for_an_unknown_account_as_if_it_were_opened(shared: Service) -> None:
    answer = await shared.get("/v1/accounts/nobody/check?amount=35")
    assert answer.status == 200
    assert answer.json["allowed"] is True
    assert (await shared.get("/v1/accounts/nobody/check?amount=36")).json["allowed"] is False


async def test_answers_are_json_and_never_cached(service: Service) -> None:
    answer = await service.do("POST", T + "/reservations", {"amount": 5})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Server"] == "credit-ledger"
