"""Who may do what over HTTP; and what a TOKENS file may say."""

import tomllib
from hashlib import sha256

import pytest

from events.commands import COMMANDS
from service.access import COMMAND_SCOPES, QUERY_SCOPES, SCOPES, Access, Forbidden, InvalidTokens, create_token
from service.http.routes import ROUTES, Route
from service.http.server import HttpServer
from service.queries import QUERIES
from service.reads import not_found
from tests.http.stage import Service, running

T = "/v1/accounts/team-42"


def tokens(*entries: str) -> str:
    """A TOKENS file."""
    return "\n".join(entries)


def entry(name: str, *scopes: str, accounts: str = "") -> str:
    """The entry of a token whose text is its name."""
    digest = sha256(name.encode()).hexdigest()
    return f'[[token]]\nname = "{name}"\nsha256 = "{digest}"\nscopes = {list(scopes)}\n{accounts}\n'


ONE_EACH = tokens(
    *(entry(scope.replace(":", "-"), scope) for scope in sorted(SCOPES)),
    entry("all", *sorted(SCOPES)),
    entry("shop", *sorted(SCOPES), accounts='accounts = ["shop-", "store:1"]'),
)


@pytest.fixture
async def guarded(database_url: str):
    """The service with AUTH=on and a token for each scope."""
    async with running(database_url, Access.parse(ONE_EACH)) as service:
        yield service


def target_of(route: Route) -> str:
    """A path that fits the row."""
    return route.path.replace("{account}", "team-42").replace("{", "").replace("}", "")


async def test_each_row_asks_for_its_scope_and_for_no_other(guarded: Service) -> None:
    for route in ROUTES:
        if route.scope is None:
            continue
        for scope in sorted(SCOPES):
            answer = await guarded.call(route.method, target_of(route), token=scope.replace(":", "-"))
            if scope == route.scope:
                assert answer.status not in {401, 403}, route
            else:
                assert (answer.status, answer.code) == (403, "forbidden"), route
                assert answer.json["scope"] == route.scope
    assert await guarded.events_written() == 0


async def test_an_accounts_audit_entries_ask_for_the_scope_of_the_audit_beside_it_too(guarded: Service) -> None:
    await guarded.do("POST", T + "/reservations", {"amount": 1}, token="spend")
    assert (await guarded.get(T + "?include=quota", token="read")).status == 200
    assert "audit" in (await guarded.get(T + "?include=audit", token="all")).json
    for include in ("audit", "quota,audit"):
        answer = await guarded.get(f"{T}?include={include}", token="read")
        assert (answer.code, answer.json.get("scope")) == ("forbidden", "admin:read")


async def test_each_command_of_a_batch_asks_for_its_own_scope_and_account(guarded: Service) -> None:
    spend = {"command": "consume", "account": "team-42", "idempotency_key": "a", "amount": 1}
    change = {"command": "change_plan", "account": "team-42", "idempotency_key": "b", "plan": "pro"}
    answer = await guarded.do("POST", "/v1/commands", {"commands": [spend, change]}, token="spend")
    assert [result["status"] for result in answer.json["results"]] == [201, 403]
    assert answer.json["results"][1]["problem"]["scope"] == "admin:write"


async def test_without_a_known_token_nothing_but_health_and_metrics_answers(guarded: Service) -> None:
    for route in ROUTES:
        for headers in (
            {},
            {"Authorization": ""},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer unknown"},
            {"Authorization": "Bearer all all"},
            {"Authorization": "Basic all"},
            {"Authorization": "all"},
            {"Authorization": "Bearer \udcff"},
        ):
            sent = {name: value.encode(errors="surrogateescape").decode("latin-1") for name, value in headers.items()}
            answer = await guarded.call(route.method, target_of(route), headers=sent)
            if route.kind == "operation":
                assert answer.status == 200
            else:
                assert (answer.status, answer.code) == (401, "unauthenticated"), (route, headers)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_two_authorizations_are_none(guarded: Service) -> None:
    received = await guarded.exchange(
        b"GET /v1/catalog HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Authorization: Bearer read\r\nAuthorization: Bearer all\r\n\r\n"
    )
    assert received.startswith(b"HTTP/1.1 401 ")


async def test_the_scheme_is_written_in_any_case(guarded: Service) -> None:
    answer = await guarded.call("GET", "/v1/catalog", headers={"Authorization": "bEARER all"})
    assert answer.status == 200


async def test_who_may_not_ask_cannot_make_the_ledger_read_a_body(guarded: Service) -> None:
    answer = await guarded.call("POST", T + "/reservations", b"{" * 10_000_000)
    assert (answer.status, answer.code) == (401, "unauthenticated")


async def test_the_actor_is_the_tokens_name(guarded: Service) -> None:
    answer = await guarded.do("POST", T + "/reservations", {"amount": 1}, token="spend")
    assert {event["actor"]["id"] for event in answer.json["events"]} == {"spend"}


async def test_an_account_out_of_reach_is_404_as_if_it_did_not_exist(guarded: Service) -> None:
    await guarded.do("POST", T + "/reservations", {"amount": 1, "reservation_id": "r"}, token="all")
    written = await guarded.events_written()
    for route in ROUTES:
        if "{account}" in route.path:
            answer = await guarded.call(route.method, target_of(route), key="k", token="shop")
            assert (answer.status, answer.code) == (404, "account_not_found"), route
    for account in ("team-42", "shop", "Shop-1", "store:2", "unknown"):
        answer = await guarded.get(f"/v1/accounts/{account}/balance", token="shop")
        refusal = not_found(account)
        assert answer.code == "account_not_found"
        assert (answer.json["detail"], answer.json["account"]) == (refusal.detail, account)
    assert (await guarded.get("/v1/events?account=team-42", token="shop")).code == "account_not_found"
    assert await guarded.events_written() == written


async def test_an_account_within_reach_is_used_as_ever(guarded: Service) -> None:
    for account in ("shop-1", "store:1", "store:17"):
        answer = await guarded.do("POST", f"/v1/accounts/{account}/reservations", {"amount": 1}, token="shop")
        assert answer.status == 201
        assert (await guarded.get(f"/v1/accounts/{account}/balance", token="shop")).status == 200


async def test_the_log_shows_a_token_only_the_lines_of_accounts_in_reach(guarded: Service) -> None:
    for account in ("shop-1", "team-42", "shop-2", "shop", "store:1"):
        await guarded.do("POST", f"/v1/accounts/{account}/reservations", {"amount": 1}, token="all")
    seen = await guarded.get("/v1/events", token="shop")
    accounts = {line.split(b'"account":"')[1].split(b'"')[0] for line in seen.body.splitlines()}
    assert accounts == {b"shop-1", b"shop-2", b"store:1"}
    assert len((await guarded.get("/v1/events", token="all")).body.splitlines()) == await guarded.events_written()
    assert (await guarded.get("/v1/events?account=shop-1", token="shop")).body.count(b"\n") == 3


async def test_health_and_metrics_are_not_on_a_port_that_others_reach(guarded: Service, database_url: str) -> None:
    from service.gateway import Gateway
    from service.reads import Reads
    from service.telemetry.health import Health
    from service.telemetry.metrics import Metrics

    def everywhere(access: Access, operations_port: int | None) -> HttpServer:
        return HttpServer(
            gateway=Gateway(guarded.ledger, Reads(guarded.ledger)),
            feed=guarded.feed,
            access=access,
            health=Health({}),
            metrics=Metrics(),
            host="0.0.0.0",  # noqa: S104 - the law is about such an address
            port=0,
            operations_port=operations_port,
        )

    with pytest.raises(ValueError, match="loopback"):
        everywhere(Access.open(), None)
    server = everywhere(Access.parse(ONE_EACH), 0)
    await server.start()
    try:
        for path, main, own in (("/metrics", 404, 200), ("/healthz", 404, 200), ("/v1/catalog", 401, 404)):
            for port, status in ((server.port, main), (server.operations_port, own)):
                async with guarded.session.get(f"http://127.0.0.1:{port}{path}") as response:
                    assert response.status == status, (path, port)
    finally:
        await server.stop()
    assert everywhere(Access.parse(ONE_EACH), None).operations_port is None


def test_every_command_and_query_has_a_scope() -> None:
    assert set(COMMAND_SCOPES) == set(COMMANDS)
    assert set(QUERY_SCOPES) == set(QUERIES)


def test_a_created_token_is_let_in_by_its_entry_and_appears_nowhere_in_it() -> None:
    created = create_token("checkout", ["read", "spend", "read"], ["shop-"])
    assert created.token not in created.entry
    principal = Access.parse(created.entry).authenticate(f"Bearer {created.token}")
    assert (principal.name, principal.scopes, principal.prefixes) == ("checkout", {"read", "spend"}, ("shop-",))
    assert create_token("checkout", ["read"]).token != create_token("checkout", ["read"]).token
    assert "accounts" not in tomllib.loads(create_token("checkout", ["read"]).entry)["token"][0]


@pytest.mark.parametrize(
    ("name", "scopes", "accounts"),
    [
        ("a.b", ["read"], []),
        ("", ["read"], []),
        ('a"', ["read"], []),
        ("a", [], []),
        ("a", ["root"], []),
        ("a", ["read"], [""]),
    ],
)
def test_a_token_that_no_file_could_hold_is_not_created(name: str, scopes: list[str], accounts: list[str]) -> None:
    with pytest.raises(InvalidTokens):
        create_token(name, scopes, accounts)


def test_a_caller_may_what_its_entry_says_and_an_unknown_one_nothing() -> None:
    access = Access.parse('[[caller]]\nname = "renderer"\nscopes = ["spend"]')
    assert access.caller("renderer").may("spend")
    assert not access.caller("renderer").may("grant")
    with pytest.raises(Forbidden) as refusal:
        access.caller("stranger").require("spend")
    assert refusal.value.fields == {"scope": "spend"}


def test_without_authentication_http_is_dev_callers_are_themselves_and_all_may_everything() -> None:
    access = Access.open()
    assert (access.authenticate(None).name, access.authenticate("Bearer x").scopes) == ("dev", SCOPES)
    assert (access.caller("renderer").name, access.caller("renderer").scopes) == ("renderer", SCOPES)


def test_two_tokens_may_share_a_name_so_that_one_can_be_replaced() -> None:
    old, new = create_token("checkout", ["read"]), create_token("checkout", ["read"])
    access = Access.parse(old.entry + new.entry)
    assert access.authenticate(f"Bearer {old.token}") == access.authenticate(f"Bearer {new.token}")


GOOD = entry("a", "read")
WRONG = {
    "no TOML": ("token = ", ["not TOML"]),
    "an unknown table": (GOOD + "[user]\nname='x'", ["user:"]),
    "an unknown field": (GOOD + "expires = 1", ["token 1 expires:"]),
    "a missing field": ('[[token]]\nname = "a"', ["token 1 scopes:", "token 1 sha256:"]),
    "no scopes": (entry("a"), ["token 1 scopes:"]),
    "an unknown scope": (entry("a", "read", "root"), ["token 1 scopes 2:"]),
    "scopes that are no list": ('[[caller]]\nname = "a"\nscopes = "read"', ["caller 1 scopes:"]),
    "a digest that is none": ('[[token]]\nname = "a"\nscopes = ["read"]\nsha256 = "ABC"', ["token 1 sha256:"]),
    "a digest twice": (GOOD + GOOD, ["token 2 sha256:"]),
    "a caller twice": (2 * '[[caller]]\nname = "a"\nscopes = ["read"]\n', ["caller 2 name:"]),
    "a name with a dot": ('[[caller]]\nname = "a.b"\nscopes = ["read"]', ["caller 1 name:"]),
    "no prefixes": (entry("a", "read", accounts="accounts = []"), ["token 1 accounts:"]),
    "an empty prefix": (entry("a", "read", accounts='accounts = [""]'), ["token 1 accounts 1:"]),
    "a table for a list": ('[token]\nname = "a"', ["token:"]),
    "several": (
        entry("a", "root") + entry("b.c", "read") + '[[caller]]\nname = 1\nscopes = ["read"]',
        ["token 1 scopes 1:", "token 2 name:", "caller 1 name:"],
    ),
}


@pytest.mark.parametrize(("text", "places"), WRONG.values(), ids=WRONG.keys())
def test_a_tokens_file_that_is_wrong_is_refused_with_all_that_is_wrong(text: str, places: list[str]) -> None:
    with pytest.raises(InvalidTokens) as refusal:
        Access.parse(text)
    assert len(refusal.value.problems) == len(places)
    for place, problem in zip(places, refusal.value.problems, strict=True):
        assert problem.startswith(place)
        assert problem in str(refusal.value)


def test_an_empty_file_lets_nobody_in() -> None:
    access = Access.parse("")
    assert access.caller("renderer").scopes == frozenset()
