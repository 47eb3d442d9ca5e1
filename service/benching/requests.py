"""The requests as bytes: every request of a round is built before its window opens, as the public contract has it.

A pair reserves with an id of the client's choosing and consumes all that is held; both have their own idempotency key. A
batch has such pairs one behind the other. Reads come in pairs as well, so that one pump serves all.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal, NamedTuple, TypeVar

from service.benching.nats_load import NatsRequest

HOT_ACCOUNT = "bench-hot"
FUNDS = 10**12
REASON = "bench"

Request = TypeVar("Request")
Shape = Literal["pairs", "batches", "balance", "check", "open_by_plan", "open_by_use", "fund"]
"""What is asked: pairs alone or in batches; a read; or what makes the accounts that these need."""
Draw = tuple[str, str]
"""An account, and an id that is used for nothing else."""


class Wording(NamedTuple):
    """What differs from ledger to ledger: the fields of a reserve, of a grant and of a plan change, as JSON without braces.

    `head` are further header lines of HTTP; `host` is its Host.
    """

    asks: str
    grants: str = f'"amount":{FUNDS},"kind":"purchase","reason":"{REASON}"'
    plan: str = ""
    host: str = "127.0.0.1"
    head: str = ""


def account_name(number: int) -> str:
    """The name of one of the accounts that uniform load goes to."""
    return f"bench-{number:05d}"


def account_names(accounts: int) -> list[str]:
    """All accounts that a load uses: the uniform ones and the hot one."""
    return [HOT_ACCOUNT, *(account_name(number) for number in range(accounts))]


def draws(run: str, count: int, accounts: int) -> Iterator[Draw]:
    """The account and the id of each of `count` pairs, the same for the same run; one account is the hot one."""
    pick = random.Random(run).randrange  # noqa: S311 - reproducible load, no secrets
    for number in range(count):
        yield HOT_ACCOUNT if accounts == 1 else account_name(pick(accounts)), f"{run}-{number}"


def http_requests(
    shape: Shape, drawn: Iterable[Draw], wording: Wording, batch: int = 0
) -> Iterator[tuple[bytes, bytes]]:
    """Pairs of HTTP requests; `batch` is how many commands a batch has."""
    match shape:
        case "pairs":
            return ((_http_reserve(draw, wording), _http_consume(draw, wording)) for draw in drawn)
        case "open_by_use":
            return ((_http_reserve(draw, wording), _http_release(draw, wording)) for draw in drawn)
        case "open_by_plan":
            return ((_http_plan(draw, wording), _http_grant(draw, wording)) for draw in drawn)
        case "fund":
            return _by_two(_http_grant(draw, wording) for draw in drawn)
        case "batches":
            return _by_two(
                _http("POST", "/v1/commands", wording, body=body) for body in _batches(drawn, wording, batch)
            )
        case "balance":
            return _by_two(_http("GET", f"/v1/accounts/{account}/balance", wording) for account, _ in drawn)
        case "check":
            body = f"{{{wording.asks}}}"
            return _by_two(_http("POST", f"/v1/accounts/{account}/check", wording, body=body) for account, _ in drawn)


def nats_requests(
    shape: Shape, drawn: Iterable[Draw], wording: Wording, subject: tuple[str, str], batch: int = 0
) -> Iterator[tuple[NatsRequest, NatsRequest]]:
    """Pairs of NATS publishes; `subject` is what stands before a command's and before a query's name."""
    commands, queries = subject

    def command(name: str, body: str) -> NatsRequest:
        return nats_request(f"{commands}.{name}", body)

    def keyed(name: str, draw: Draw, fields: str) -> NatsRequest:
        return command(name, _fields(draw[0], f"{draw[1]}-{name}", fields))

    match shape:
        case "pairs":
            return ((command("reserve", _reserve(draw, wording)), command("consume", _consume(draw))) for draw in drawn)
        case "open_by_use":
            return (
                (command("reserve", _reserve(draw, wording)), keyed("release", draw, f'"reservation_id":"{draw[1]}"'))
                for draw in drawn
            )
        case "open_by_plan":
            return ((keyed("change_plan", draw, wording.plan), keyed("grant", draw, wording.grants)) for draw in drawn)
        case "fund":
            return _by_two(keyed("grant", draw, wording.grants) for draw in drawn)
        case "batches":
            return _by_two(command("batch", body) for body in _batches(drawn, wording, batch))
        case "balance":
            return _by_two(nats_request(f"{queries}.balance", f'{{"account":"{account}"}}') for account, _ in drawn)
        case "check":
            return _by_two(
                nats_request(f"{queries}.check", f'{{"account":"{account}",{wording.asks}}}') for account, _ in drawn
            )


def nats_request(subject: str, body: str) -> NatsRequest:
    """What stands before and after the reply subject of a PUB."""
    return f"PUB {subject} ".encode(), f" {len(body)}\r\n{body}\r\n".encode()


def _reserve(draw: Draw, wording: Wording) -> str:
    account, id_ = draw
    return _fields(account, f"{id_}-reserve", f'"reservation_id":"{id_}",{wording.asks}')


def _consume(draw: Draw) -> str:
    account, id_ = draw
    return _fields(account, f"{id_}-consume", f'"reservation_id":"{id_}"')


def _fields(account: str, key: str, fields: str) -> str:
    return f'{{"account":"{account}","idempotency_key":"{key}",{fields}}}'


def _batches(drawn: Iterable[Draw], wording: Wording, batch: int) -> Iterator[str]:
    rest = iter(drawn)
    while len(part := list(islice(rest, batch // 2))) == batch // 2:
        commands: list[str] = []
        for draw in part:
            commands += (
                f'{{"command":"reserve",{_reserve(draw, wording)[1:]}',
                f'{{"command":"consume",{_consume(draw)[1:]}',
            )
        yield f'{{"commands":[{",".join(commands)}]}}'


def _by_two(requests: Iterable[Request]) -> Iterator[tuple[Request, Request]]:
    rest = iter(requests)
    return zip(rest, rest, strict=False)


def _http_reserve(draw: Draw, wording: Wording) -> bytes:
    account, id_ = draw
    body = f'{{"reservation_id":"{id_}",{wording.asks}}}'
    return _http("POST", f"/v1/accounts/{account}/reservations", wording, f"{id_}-reserve", body)


def _http_consume(draw: Draw, wording: Wording) -> bytes:
    account, id_ = draw
    return _http("POST", f"/v1/accounts/{account}/reservations/{id_}/consume", wording, f"{id_}-consume", "{}")


def _http_release(draw: Draw, wording: Wording) -> bytes:
    account, id_ = draw
    return _http("POST", f"/v1/accounts/{account}/reservations/{id_}/release", wording, f"{id_}-release", "{}")


def _http_plan(draw: Draw, wording: Wording) -> bytes:
    account, id_ = draw
    return _http("PUT", f"/v1/accounts/{account}/plan", wording, f"{id_}-change_plan", f"{{{wording.plan}}}")


def _http_grant(draw: Draw, wording: Wording) -> bytes:
    account, id_ = draw
    return _http("POST", f"/v1/accounts/{account}/grants", wording, f"{id_}-grant", f"{{{wording.grants}}}")


def _http(method: str, path: str, wording: Wording, key: str = "", body: str = "") -> bytes:
    """One HTTP/1.1 request with as few headers as the contract allows."""
    key_line = f"Idempotency-Key: {key}\r\n" if key else ""
    body_lines = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {wording.host}\r\n{wording.head}{key_line}{body_lines}\r\n{body}"
    ).encode()
