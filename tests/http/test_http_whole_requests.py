"""Requests that come as a whole take a short way: nobody can tell by the answers, their order or the connection."""

import asyncio
import json
from typing import Any

import pytest

from service.access import Access
from service.http import listener, server
from tests.http.stage import Service, running
from tests.http.test_http_transport import CLOSE, RESERVE, WHOLE, T, held_up
from tests.servers import eventually

BALANCE = b"GET " + T.encode() + b"/balance HTTP/1.1\r\nHost: x\r\n\r\n"


class Connection:
    """One connection, kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, service: Service) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", service.server.port))

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")[:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        body = await self.reader.readexactly(int(headers.get("Content-Length", "0")))
        return int(first.split(" ")[1]), headers, body


def told(given: tuple[int, dict[str, str], bytes]) -> tuple[int, dict[str, str], Any]:
    """What an answer says, without the instants at which it was given."""
    status, headers, body = given
    view = json.loads(body) if body.startswith(b"{") else body
    if isinstance(view, dict):
        view = {name: value for name, value in view.items() if name != "as_of"}
    varying = {"Date", "Content-Length", "As-Of"}
    return status, {name: value for name, value in headers.items() if name not in varying}, view


def asks(path: str, *headers: str, method: str = "GET", body: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


ASKED = {
    "a balance": asks(f"{T}/balance"),
    "a list as CSV": asks(f"{T}/transactions", "Accept: text/csv"),
    "an unknown account": asks("/v1/accounts/nobody/balance"),
    "a wrong parameter": asks(f"{T}/balance?unit=%00"),
    "a command that was executed": asks(RESERVE, "Idempotency-Key: same", method="POST", body='{"amount":1}'),
    "a command that is refused": asks(RESERVE, "Idempotency-Key: no", method="POST", body='{"amount":99999}'),
    "a command without a key": asks(RESERVE, method="POST", body='{"amount":1}'),
    "no JSON": asks(RESERVE, "Idempotency-Key: no", method="POST", body="no"),
    "a body that is encoded": asks(RESERVE, "Content-Encoding: gzip", method="POST", body="no"),
    "a body that is too large": asks("/v1/quote", method="POST", body=" " * 65_537),
    "a header given twice": asks(RESERVE, "Idempotency-Key: a", "Idempotency-Key: b", method="POST", body="{}"),
    "a body in chunks": b"POST /v1/quote HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'10\r\n{"operation":"ge\r\n10\r\nnerate_image"}  \r\n0\r\n\r\n',
    "health": asks("/healthz"),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("sent", ASKED.values(), ids=ASKED.keys())
async def test_a_whole_request_is_answered_like_one_in_two_pieces(shared: Service, sent: bytes) -> None:
    await shared.do("POST", RESERVE, {"amount": 1}, key="same")
    whole = await Connection.to(shared)
    whole.writer.write(sent)
    pieces = await Connection.to(shared)
    pieces.writer.write(sent[:20])
    await pieces.writer.drain()
    await shared.get("/healthz")  # meanwhile the server has read the first piece
    pieces.writer.write(sent[20:-1])
    await shared.get("/healthz")
    pieces.writer.write(sent[-1:])
    assert told(await whole.answer()) == told(await pieces.answer())
    whole.writer.close()
    pieces.writer.close()


async def test_who_has_the_answer_already_is_told_so_without_a_body(service: Service) -> None:
    await service.opened("team-42")
    connection = await Connection.to(service)
    connection.writer.write(BALANCE)
    _, headers, _ = await connection.answer()
    connection.writer.write(asks(f"{T}/balance", f"If-None-Match: {headers['ETag']}"))
    status, again, _ = await connection.answer()
    assert (status, again["ETag"], again.get("Content-Length")) == (304, headers["ETag"], None)
    connection.writer.write(BALANCE)
    assert (await connection.answer())[0] == 200


async def test_whoever_may_not_ask_hears_it_the_short_way_too(database_url: str) -> None:
    async with running(database_url, Access()) as service:
        connection = await Connection.to(service)
        for _ in range(2):
            connection.writer.write(BALANCE)
            status, headers, _ = await connection.answer()
            assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="credit-ledger"')


async def test_of_a_connection_that_is_kept_every_whole_request_goes_the_short_way(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.opened("team-42")

    async def fail(*_: object) -> None:
        raise AssertionError("this request went the long way")

    monkeypatch.setattr(server._Dispatcher, "__call__", fail)
    connection = await Connection.to(service)
    for number in range(50):
        connection.writer.write(BALANCE)
        assert (await connection.answer())[0] == 200, number
        connection.writer.write(asks(RESERVE, f"Idempotency-Key: {number}", method="POST", body='{"amount":0}'))
        assert (await connection.answer())[0] < 500, number


async def test_what_is_sent_behind_a_request_is_answered_behind_it(service: Service, database_url: str) -> None:
    await service.opened("team-42")
    connection = await Connection.to(service)
    async with held_up(database_url):
        connection.writer.write(WHOLE)
        await eventually(lambda: service.ledger.in_progress("team-42", "k"), "the command runs")
        connection.writer.write(BALANCE)
        connection.writer.write(asks("/v1/nothing") + BALANCE[:10])
        assert (await service.get(T + "/balance")).status == 200  # read on another connection, after these arrived
        connection.writer.write(BALANCE[10:])
    assert [(await connection.answer())[0] for _ in range(4)] == [201, 200, 404, 200]
    connection.writer.write(b"GET /healthz HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert (await connection.answer())[0] == 200
    assert await connection.reader.read() == b""


async def test_a_connection_is_closed_when_it_is_idle_and_not_while_a_command_runs(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "KEEPALIVE_SECONDS", 0.1)
    async with running(database_url) as service:
        await service.opened("team-42")
        busy = await Connection.to(service)
        async with held_up(database_url):
            busy.writer.write(WHOLE)
            await eventually(lambda: service.ledger.in_progress("team-42", "k"), "the command runs")
            for _ in range(3):
                idle = await Connection.to(service)
                assert await idle.reader.read() == b""
        assert (await busy.answer())[0] == 201
        assert await busy.reader.read() == b""


async def test_an_answer_that_is_about_to_leave_does_so_before_its_connection_is_closed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.opened("team-42")
    send = listener._Together.send

    def send_and_close(together: listener._Together, transport: asyncio.Transport, data: bytes) -> None:
        send(together, transport, data)
        protocol = transport.get_protocol()
        assert isinstance(protocol, listener._Connection)
        protocol.force_close()  # as the end of the service does, when it comes in this turn of the loop

    monkeypatch.setattr(listener._Together, "send", send_and_close)
    connection = await Connection.to(service)
    connection.writer.write(BALANCE)
    assert (await connection.answer())[0] == 200
    assert await connection.reader.read() == b""
