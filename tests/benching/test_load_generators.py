"""The load generators against servers that answer badly, in pieces, twice, or not at all: real sockets, no ledger."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from service.benching.http_load import Good, HttpAddress, http_load
from service.benching.nats_load import NatsAddress, nats_load
from service.benching.pump import BenchError, Pump
from service.benching.requests import Wording, draws, http_requests, nats_requests

WORDING = Wording(asks='"amount":1')
SUBJECT = ("credits.cmd.bench", "credits.query.bench")
PIECE_BYTES = 7

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[int]:
    """A server on a free port."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]


async def in_pieces(writer: asyncio.StreamWriter, data: bytes) -> None:
    for start in range(0, len(data), PIECE_BYTES):
        writer.write(data[start : start + PIECE_BYTES])
        await writer.drain()
        await asyncio.sleep(0)  # lets the piece go on its way alone


def http_server(answer: bytes) -> Serve:
    """Answers every request with these bytes, in pieces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
            await reader.readexactly(int(length[0][16:]) if length else 0)
            await in_pieces(writer, answer)

    return serve


def nats_server(body: bytes, *, status: int = 201, times: int = 1) -> Serve:
    """Greets, and answers every publish with a message of headers and a body, in pieces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_name":"test"}\r\n')
        while line := await reader.readline():
            if line.startswith(b"PING"):
                await in_pieces(writer, b"PING\r\nPONG\r\n")
            elif line.startswith(b"PUB"):
                _, _, reply, size = line.split()
                await reader.readexactly(int(size) + 2)
                head = f"NATS/1.0\r\nStatus: {status}\r\n\r\n".encode()
                message = b"HMSG %b 1 %d %d\r\n%b%b\r\n" % (reply, len(head), len(head) + len(body), head, body)
                await in_pieces(writer, message * times)

    return serve


def http_answer(status: int, body: bytes, length_header: bytes = b"content-length") -> bytes:
    return b"HTTP/1.1 %d X\r\n%b: %d\r\n\r\n%b" % (status, length_header, len(body), body)


async def over_http(serve: Serve, good: Good, *, batch: int = 0, pairs: int = 6) -> int:
    async with server(serve) as port:
        requests = list(http_requests("batches" if batch else "pairs", draws("r", pairs, 3), WORDING, batch))
        window = await http_load(Pump(requests, 2, 10, weight=batch or 1), HttpAddress("127.0.0.1", port), good)
        return window.acknowledged


async def over_nats(serve: Serve, good: Good, *, batch: int = 0, pairs: int = 6) -> int:
    async with server(serve) as port:
        requests = list(nats_requests("batches" if batch else "pairs", draws("r", pairs, 3), WORDING, SUBJECT, batch))
        window = await nats_load(Pump(requests, 2, 10, weight=batch or 1), NatsAddress("127.0.0.1", port), good)
        return window.acknowledged


async def test_answers_that_come_in_pieces_are_counted_once_each() -> None:
    assert await over_http(http_server(http_answer(201, b'{"events":[]}')), Good(201)) == 12
    assert await over_nats(nats_server(b'{"events":[]}'), Good(201)) == 12


async def test_every_command_of_a_batch_has_to_be_written() -> None:
    whole, short = b'{"status":201,}' * 4, b'{"status":201,}' * 3
    assert await over_http(http_server(http_answer(200, whole)), Good(200, 4), batch=4) == 8
    assert await over_nats(nats_server(whole, status=200), Good(200, 4), batch=4) == 8
    with pytest.raises(BenchError, match="status 200"):
        await over_http(http_server(http_answer(200, short)), Good(200, 4), batch=4)
    with pytest.raises(BenchError, match="status 200"):
        await over_nats(nats_server(short, status=200), Good(200, 4), batch=4)


async def test_a_refusal_is_told_in_its_own_words() -> None:
    problem = b'{"status":402,"code":"insufficient_credits","detail":"5 are missing"}'
    wanted = "expected an answer with status 201, got 402 insufficient_credits: 5 are missing"
    with pytest.raises(BenchError, match=wanted):
        await over_http(http_server(http_answer(402, problem, b"Content-Length")), Good(201))
    with pytest.raises(BenchError, match=wanted):
        await over_nats(nats_server(problem, status=402), Good(201))


async def test_an_answer_without_a_length_or_given_twice_fails_the_round() -> None:
    with pytest.raises(BenchError, match="without Content-Length"):
        await over_http(http_server(b"HTTP/1.1 201 X\r\n\r\n"), Good(201))
    with pytest.raises(BenchError, match="answered twice"):
        await over_nats(nats_server(b"{}", times=2), Good(201))


async def test_a_server_that_hangs_up_fails_the_round() -> None:
    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readline()

    with pytest.raises(BenchError, match="closed a connection"):
        await over_http(hang_up, Good(201))
    with pytest.raises(BenchError, match="closed the connection"):
        await over_nats(hang_up, Good(201))


async def test_nobody_there_is_a_sentence() -> None:
    async with server(http_server(b"")) as port:
        pass  # closed again
    with pytest.raises(BenchError, match="cannot be reached"):
        await http_load(Pump([(b"", b"")], 1, 1), HttpAddress("127.0.0.1", port), Good(201))
    with pytest.raises(BenchError, match="cannot be reached"):
        await nats_load(Pump([((b"", b""), (b"", b""))], 1, 1), NatsAddress("127.0.0.1", port), Good(201))
