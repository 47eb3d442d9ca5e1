"""The commands as bytes: every request of a round is built before its window opens, as the public contract has it.

A pair reserves by operation (so that the price rule is in the path), with an id of the client's choosing, and consumes
all that is held. Both have their own idempotency key. Openings put an account on the bench's plan and fund it.
"""

from bench.jobs import Load, accounts_to_open

OPERATION = "render"
FUNDS = 10**12
REASON = "bench"

NatsRequest = tuple[bytes, bytes]

_OPEN = '{"plan":"bench","reason":"bench"}'
_FUND = f'{{"amount":{FUNDS},"kind":"purchase","reason":"{REASON}"}}'


def http_pairs(load: Load) -> list[tuple[bytes, bytes]]:
    """Reserve and consume as HTTP requests."""
    pairs: list[tuple[bytes, bytes]] = []
    for account, id_ in load.draw():
        path = f"/v1/accounts/{account}/reservations"
        reserve = http_request(
            "POST", path, f"{id_}-reserve", f'{{"operation":"{OPERATION}","reservation_id":"{id_}"}}'
        )
        pairs.append((reserve, http_request("POST", f"{path}/{id_}/consume", f"{id_}-consume", "{}")))
    return pairs


def http_openings(load: Load) -> list[tuple[bytes, bytes]]:
    """Opening and funding of every account as HTTP requests."""
    pairs: list[tuple[bytes, bytes]] = []
    for account in accounts_to_open(load.accounts):
        path = f"/v1/accounts/{account}"
        opening = http_request("PUT", f"{path}/plan", f"{load.run}-open", _OPEN)
        pairs.append((opening, http_request("POST", f"{path}/grants", f"{load.run}-fund", _FUND)))
    return pairs


def http_request(method: str, path: str, key: str, body: str) -> bytes:
    """One HTTP/1.1 request with as few headers as the contract allows."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def nats_pairs(load: Load, subject: str) -> list[tuple[NatsRequest, NatsRequest]]:
    """Reserve and consume as NATS publishes below `subject`, cut where the lane's reply subject goes in between."""
    pairs: list[tuple[NatsRequest, NatsRequest]] = []
    for account, id_ in load.draw():
        common = f'{{"account":"{account}","reservation_id":"{id_}","idempotency_key":"{id_}'
        reserve = f'{common}-reserve","operation":"{OPERATION}"}}'
        consume = f'{common}-consume"}}'
        pairs.append((nats_request(f"{subject}.reserve", reserve), nats_request(f"{subject}.consume", consume)))
    return pairs


def nats_request(subject: str, body: str) -> NatsRequest:
    """What stands before and after the reply subject of a PUB."""
    return f"PUB {subject} ".encode(), f" {len(body)}\r\n{body}\r\n".encode()
