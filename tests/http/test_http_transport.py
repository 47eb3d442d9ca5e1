"""HTTP itself: methods, paths, framing and garbage. Whatever the bytes are, the answer is a problem and never a 500."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from service.access import Access
from service.gateway import Gateway
from service.http.listener import SHUTDOWN_SECONDS_MAX, _Connection
from service.http.routes import ROUTES
from service.http.server import HttpServer
from service.reads import Reads
from service.telemetry.health import Health
from service.telemetry.metrics import Metrics
from tests.http.stage import Service, running
from tests.servers import eventually

T = "/v1/accounts/team-42"
RESERVE = T + "/reservations"
CLOSE = b"Host: x\r\nConnection: close\r\n"
WHOLE = (
    b"POST "
    + RESERVE.encode()
    + b" HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 12\r\n\r\n"
    + b'{"amount":1}'
)


@asynccontextmanager
async def held_up(database_url: str) -> AsyncGenerator[None]:
    """Every command waits in the database, for the heads of the partitions, until the end of the block."""
    connection = await asyncpg.connect(database_url, command_timeout=60)
    try:
        async with connection.transaction():
            await connection.execute("select from ledger.heads for update")
            yield
    finally:
        await connection.close()


async def is_closed(port: int) -> bool:
    """Whether nobody listens on a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


def problem_of(received: bytes) -> tuple[int, str]:
    """The status and code of a response that is a problem."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"Content-Type: application/problem+json" in head, received
    problem = json.loads(body)
    assert int(head.split(b" ")[1]) == problem["status"]
    return problem["status"], problem["code"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v2/accounts",
        "/v1/account",
        "/v1/accounts/",
        "/v1/accounts/a/balance/",
        "//",
        "/healthz/x",
        "/%2e%2e/etc",
    ],
)
async def test_what_is_not_in_the_table_is_404(shared: Service, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        answer = await shared.call(method, path)
        assert (answer.status, answer.code) == (404, "not_found")
        assert "GET /docs" in answer.json["detail"]


@pytest.mark.asyncio(loop_scope="module")
async def test_another_method_is_405_and_says_which_there_are(shared: Service) -> None:
    before = await shared.events_written()
    methods: dict[str, set[str]] = {}
    for route in ROUTES:
        methods.setdefault(route.path, set()).add(route.method)
    for path, allowed in methods.items():
        target = path.replace("{", "").replace("}", "")
        implied = {"OPTIONS", "HEAD"} if "GET" in allowed else {"OPTIONS"}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} - allowed:
            answer = await shared.call(method, target)
            assert (answer.status, answer.code) == (405, "method_not_allowed"), (method, target)
            assert set(answer.headers["Allow"].split(", ")) == allowed | implied
    assert await shared.events_written() == before


@pytest.mark.asyncio(loop_scope="module")
async def test_options_names_the_methods_and_allows_no_other_origin(shared: Service) -> None:
    answer = await shared.call("OPTIONS", RESERVE, headers={"Origin": "https://example.com"})
    assert (answer.status, answer.body) == (204, b"")
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "GET", "HEAD", "OPTIONS"}
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.asyncio(loop_scope="module")
async def test_head_is_get_without_the_body(shared: Service) -> None:
    for target in (T + "/quota", "/v1/catalog", "/healthz", "/v1/accounts/nobody/quota"):
        get, head = await shared.get(target), await shared.call("HEAD", target)
        assert head.status == get.status
        assert head.body == b""
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
    events = await shared.call("HEAD", "/v1/events?follow=true")
    assert (events.status, events.body) == (200, b"")


GARBAGE = {
    "a word": b"garbage\r\n\r\n",
    "zeros": b"\0" * 64 + b"\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x55" * 64,
    "another version": b"GET /healthz HTTP/9.9\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown method": b"FETCH /healthz HTTP/1.1\r\n" + CLOSE + b"\r\n",
    "a small method": b"get /healthz HTTP/1.1\r\n" + CLOSE + b"\r\n",
    "a length that is no number": b"POST /v1/quote HTTP/1.1\r\n" + CLOSE + b"Content-Length: ten\r\n\r\n0123456789",
    "a negative length": b"POST /v1/quote HTTP/1.1\r\n" + CLOSE + b"Content-Length: -1\r\n\r\n",
    "two lengths": b"POST /v1/quote HTTP/1.1\r\n" + CLOSE + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a length and chunks": b"POST /v1/quote HTTP/1.1\r\n"
    + CLOSE
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a header without a name": b"GET /healthz HTTP/1.1\r\n" + CLOSE + b": x\r\n\r\n",
    "a header with a NUL": b"GET /healthz HTTP/1.1\r\n" + CLOSE + b"X: a\0b\r\n\r\n",
    "a header of 10 KiB": b"GET /healthz HTTP/1.1\r\n" + CLOSE + b"X: " + b"a" * 10_240 + b"\r\n\r\n",
    "a thousand headers": b"GET /healthz HTTP/1.1\r\n" + CLOSE + b"X: a\r\n" * 1_000 + b"\r\n",
    "a target of 10 KiB": b"GET /" + b"a" * 10_240 + b" HTTP/1.1\r\n" + CLOSE + b"\r\n",
    "a target that is not ASCII": b"GET /v1/accounts/\xff\xfe/balance HTTP/1.1\r\n" + CLOSE + b"\r\n",
    "a query that is not ASCII": b"GET /v1/catalog?\xff=1 HTTP/1.1\r\n" + CLOSE + b"\r\n",
    "a target without a slash": b"GET healthz HTTP/1.1\r\n" + CLOSE + b"\r\n",
    "CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\n" + CLOSE + b"\r\n",
    "chunks that are none": b"POST /v1/quote HTTP/1.1\r\n"
    + CLOSE
    + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_a_problem_of_400_to_405_and_the_server_lives_on(shared: Service, sent: bytes) -> None:
    status, _ = problem_of(await shared.exchange(sent))
    assert 400 <= status <= 405
    assert (await shared.get("/healthz")).status == 200


async def test_random_bytes_never_make_a_500(service: Service) -> None:
    dice = random.Random(20)
    seeds = [
        *GARBAGE.values(),
        b"POST " + RESERVE.encode() + b" HTTP/1.1\r\n" + CLOSE + b'Idempotency-Key: k\r\n\r\n{"amount":1}',
    ]
    for _ in range(300):
        bytes_ = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 8)):
            bytes_[dice.randrange(len(bytes_))] = dice.randrange(256)
        received = await service.exchange(bytes(bytes_) + b"\r\n\r\n", b"GET /healthz HTTP/1.1\r\n" + CLOSE + b"\r\n")
        assert b"HTTP/1.1 500" not in received, (bytes_, received)
        assert b"HTTP/1.0 500" not in received, (bytes_, received)
        assert b"Traceback" not in received


async def test_a_request_may_come_in_pieces(service: Service) -> None:
    sent = b"POST " + RESERVE.encode() + b" HTTP/1.1\r\n" + CLOSE + b"Idempotency-Key: k\r\nContent-Length: 12\r\n\r\n"
    received = await service.exchange(*(bytes([byte]) for byte in sent + b'{"amount":1}'))
    assert received.startswith(b"HTTP/1.1 201 ")


async def test_requests_sent_one_behind_the_other_are_answered_in_order(service: Service) -> None:
    one = (
        b"POST "
        + RESERVE.encode()
        + b" HTTP/1.1\r\nHost: x\r\nIdempotency-Key: %d\r\nContent-Length: 12\r\n%s\r\n"
        + b'{"amount":%d}'
    )
    sent = b"".join(one % (number, b"Connection: close\r\n" if number == 9 else b"", number) for number in range(1, 10))
    received = await service.exchange(sent)
    answers = [
        json.loads(part.partition(b"\r\n\r\n")[2]) for part in received.split(b"HTTP/1.1 ")[1:] if b"201" in part[:3]
    ]
    assert [answer["reservation"]["amount"] for answer in answers] == [1, 2, 3, 4, 5, 6, 7]
    assert received.count(b"HTTP/1.1 402 ") == 2


async def test_a_caller_that_waits_for_100_continue_is_asked_for_its_body(service: Service) -> None:
    head = b"POST " + RESERVE.encode() + b" HTTP/1.1\r\n" + CLOSE + b"Idempotency-Key: k\r\nExpect: 100-continue\r\n"
    received = await service.exchange(head + b"Content-Length: 12\r\n\r\n", until=b"\r\n\r\n")
    assert received == b"HTTP/1.1 100 Continue\r\n\r\n"
    received = await service.exchange(head + b"Content-Length: 12\r\n\r\n", b'{"amount":1}')
    assert received.startswith((b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 ", b"HTTP/1.1 201 "))
    received = await service.exchange(head + b"Content-Length: 1200000\r\n\r\n", until=b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 413 ")


async def test_a_body_survives_the_offer_of_another_protocol(service: Service) -> None:
    head = b"POST " + RESERVE.encode() + b" HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 12\r\n"
    received = await service.exchange(
        head
        + b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        + b'{"amount":7}'
    )
    assert received.startswith(b"HTTP/1.1 201 "), received
    assert json.loads(received.partition(b"\r\n\r\n")[2])["reservation"]["amount"] == 7


async def test_http_1_0_is_answered(service: Service) -> None:
    received = await service.exchange(b"GET /v1/catalog HTTP/1.0\r\n\r\n")
    assert received.startswith(b"HTTP/1.0 200 ")
    await service.opened("team-42")
    received = await service.exchange(b"GET /v1/events HTTP/1.0\r\n\r\n")
    assert len(received.partition(b"\r\n\r\n")[2].splitlines()) == await service.events_written()


async def test_a_command_is_finished_when_its_caller_goes_away(service: Service, database_url: str) -> None:
    async with held_up(database_url):
        _, writer = await asyncio.open_connection("127.0.0.1", service.server.port)
        writer.write(WHOLE)
        await eventually(lambda: service.ledger.in_progress("team-42", "k"), "the command runs")
        assert (await service.get(T + "/commands/k")).status == 202
        writer.close()
        await writer.wait_closed()
    await eventually(lambda: not service.ledger.in_progress("team-42", "k"), "the command has its outcome")
    assert (await service.get(T + "/commands/k")).json["reservation"]["amount"] == 1


async def test_a_caller_that_goes_away_before_its_body_is_no_failure_of_the_service(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = _Connection._handle_request

    async def handle_late(connection: _Connection, request: web.BaseRequest, *rest: Any) -> Any:
        if request.method == "POST":
            await eventually(lambda: connection.transport is None, "the caller is gone")
        return await handle(connection, request, *rest)

    monkeypatch.setattr(_Connection, "_handle_request", handle_late)
    _, writer = await asyncio.open_connection("127.0.0.1", service.server.port)
    writer.write(WHOLE[:-1])
    assert (await service.get("/healthz")).status == 200  # meanwhile the server has read the piece
    writer.transport.abort()
    counted = b'route="%s",status="400"} 1' % RESERVE.replace("team-42", "{account}").encode()

    async def is_over() -> bool:
        return counted in (await service.get("/metrics")).body

    await eventually(is_over, "it is answered, to nobody", 10)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_at_shutdown_what_runs_is_finished_and_what_is_new_finds_nobody(
    service: Service, database_url: str
) -> None:
    async with held_up(database_url):
        reader, writer = await asyncio.open_connection("127.0.0.1", service.server.port)
        writer.write(WHOLE)
        await eventually(lambda: service.ledger.in_progress("team-42", "k"), "the command runs")
        stopping = asyncio.create_task(service.server.stop())
        await eventually(lambda: is_closed(service.server.port), "the port is closed")
        assert not stopping.done()
    assert (await reader.read()).startswith(b"HTTP/1.1 201 ")
    await stopping
    writer.close()


async def test_an_idle_connection_does_not_hold_up_the_shutdown(service: Service) -> None:
    assert (await service.get("/healthz")).status == 200  # the session keeps this connection
    async with asyncio.timeout(SHUTDOWN_SECONDS_MAX - 1):
        await service.server.stop()


async def test_a_port_that_is_taken_is_an_oserror(service: Service) -> None:
    second = HttpServer(
        gateway=Gateway(service.ledger, Reads(service.ledger)),
        feed=service.feed,
        access=Access.open(),
        health=Health({}),
        metrics=Metrics(),
        host="127.0.0.1",
        port=service.server.port,
    )
    with pytest.raises(OSError, match="in use"):
        await second.start()
    await second.stop()


async def test_where_there_is_no_room_for_a_connection_it_is_told_so_and_the_others_go_on(service: Service) -> None:
    await service.opened("team-42")  # on the connection that the client keeps
    service.server._main.room.connections_max = 2
    _, idle = await asyncio.open_connection("127.0.0.1", service.server.port)
    await eventually(lambda: service.server._main.connections == 2, "it is connected")
    turned_away = await service.exchange(b"")
    assert turned_away.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b'"code":"overloaded"' in turned_away
    assert b"Retry-After: 1\r\n" in turned_away
    assert (await service.get(T + "/balance")).status == 200
    metrics = (await service.get("/metrics")).body.decode()
    assert "credit_ledger_http_connections 2\n" in metrics
    assert "credit_ledger_http_turned_away_total 1\n" in metrics
    idle.close()
    await eventually(lambda: service.server._main.connections == 1, "it is gone")
    assert b"200 OK" in await service.exchange(b"GET /healthz HTTP/1.1\r\n" + CLOSE + b"\r\n")


async def test_large_batches_are_taken_on_a_few_at_a_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http.endpoints.LARGE_BATCHES_MAX", 1)
    small = json.dumps({"mode": "independent", "commands": []}).encode()
    large = small[:-1] + b" " * 2_000_000 + b"}"  # more than comes in one piece
    head = b"POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(large)
    async with running(database_url) as service:
        assert (first := await service.call("POST", "/v1/commands", large)).status != 503
        reader, writer = await asyncio.open_connection("127.0.0.1", service.server.port)
        writer.write(head + large[:10])

        async def is_full() -> bool:
            return (await service.call("POST", "/v1/commands", large)).code == "overloaded"

        await eventually(is_full, "the one that does not come to its end has the place")
        assert (await service.call("POST", "/v1/commands", small)).status == first.status
        writer.write(large[10:])
        assert b" %d " % first.status in await reader.readuntil(b"\r\n")
        writer.close()
        assert (await service.call("POST", "/v1/commands", large)).status == first.status
