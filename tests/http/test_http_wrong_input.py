"""Wrong input of every kind gets the contract's error and changes nothing."""

import gzip
from collections.abc import AsyncIterator

import pytest

from tests.http.stage import Service

T = "/v1/accounts/team-42"
RESERVE = T + "/reservations"

BODIES_NOT_JSON = {
    "cut off": b'{"amount":1',
    "no JSON": b"amount=1",
    "a list": b"[]",
    "a string": b'"amount"',
    "null": b"null",
    "a number": b"1",
    "two objects": b'{"amount":1}{"amount":1}',
    "NaN": b'{"amount":NaN}',
    "a trailing comma": b'{"amount":1,}',
    "a comment": b'{"amount":1} // one',
    "a key twice": b'{"amount":1,"amount":1}',
    "a key twice, written differently": b'{"amount":1,"\\u0061mount":2}',
    "a key twice inside": b'{"amount":1,"metadata":{"a":"1","a":"2"}}',
    "a lone surrogate": b'{"amount":1,"reference":"\\ud800"}',
    "a lone surrogate as a key": b'{"amount":1,"metadata":{"\\udc00":"x"}}',
    "not UTF-8": b'{"amount":1,"reference":"\xff"}',
    "UTF-16": '{"amount":1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"amount":1}',
    "a number beyond every machine's": b'{"amount":' + b"9" * 4_000 + b"}",
    "too deep": b'{"amount":1,"metadata":' + b"[" * 32 + b"]" * 32 + b"}",
    "far too deep": b'{"metadata":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
}

BODIES_INVALID: dict[str, object] = {
    "nothing said": {},
    "a float": b'{"amount":1.0}',
    "an exponent": b'{"amount":1e3}',
    "a string for a number": {"amount": "1"},
    "a boolean for a number": {"amount": True},
    "null for the only form": {"amount": None},
    "a list for a number": {"amount": [1]},
    "2^53": {"amount": 2**53},
    "more than 64 bits": {"amount": 2**64},
    "thirty digits": b'{"amount":' + b"9" * 30 + b"}",
    "a negative amount": {"amount": -1},
    "amount 0 that occupies nothing": {"amount": 0},
    "an unknown field": {"amount": 1, "amonut": 1},
    "the account once more": {"amount": 1, "account": "team-42"},
    "the key in the body": {"amount": 1, "idempotency_key": "k"},
    "dry_run in the body": {"amount": 1, "dry_run": True},
    "two forms": {"amount": 1, "operation": "generate_image"},
    "a NUL": {"amount": 1, "reference": "a\0b"},
    "a NUL in a key": {"amount": 1, "metadata": {"a\0": "b"}},
    "a NUL alone in an id": {"amount": 1, "reservation_id": "\0"},
    "a dot in an id": {"amount": 1, "reservation_id": "a.b"},
    "a newline behind an id": {"amount": 1, "reservation_id": "a\n"},
    "an id of 129": {"amount": 1, "reservation_id": "a" * 129},
    "an empty id": {"amount": 1, "reservation_id": ""},
    "ttl 0": {"amount": 1, "ttl_seconds": 0},
    "ttl above a day": {"amount": 1, "ttl_seconds": 86_401},
    "ttl -1": {"amount": 1, "ttl_seconds": -1},
    "ttl null for credits": {"amount": 1, "ttl_seconds": None},
    "an unknown overage": {"amount": 1, "overage": "maybe"},
    "quantity 0": {"operation": "generate_image", "quantity": 0},
    "a quantity above 10^9": {"operation": "generate_image", "quantity": 10**9 + 1},
    "a param that the operation does not know": {"operation": "generate_image", "params": {"colour": "red"}},
    "a value that the multiplier does not know": {"operation": "generate_image", "params": {"quality": "8k"}},
    "no lines": {"lines": []},
    "lines that are no list": {"lines": {"operation": "generate_image"}},
    "a metadata value that is no string": {"amount": 1, "metadata": {"a": 1}},
    "21 metadata": {"amount": 1, "metadata": {f"k{n}": "v" for n in range(21)}},
    "metadata of 4 KiB and one": {"amount": 1, "metadata": {"k": "v" * 4_096}},
    "a metadata key that is not ASCII": {"amount": 1, "metadata": {"ä": "v"}},
    "an empty reference": {"amount": 1, "reference": ""},
    "a reference of 201": {"amount": 1, "reference": "r" * 201},
    "a deadline without an offset": {"amount": 1, "deadline": "2030-01-01T00:00:00"},
    "a deadline that is no instant": {"amount": 1, "deadline": "tomorrow"},
    "an unknown unit": {"amount": 1, "unit": "gold"},
    "an unknown capacity": {"amount": 1, "occupies": {"moons": 1}},
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("body", BODIES_NOT_JSON.values(), ids=BODIES_NOT_JSON.keys())
async def test_what_is_not_json_is_400_and_changes_nothing(shared: Service, body: bytes) -> None:
    before = await shared.events_written()
    answer = await shared.do("POST", RESERVE, body)
    assert (answer.status, answer.code) == (400, "invalid_json"), answer.body
    assert await shared.events_written() == before


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("body", BODIES_INVALID.values(), ids=BODIES_INVALID.keys())
async def test_what_has_no_meaning_is_422_with_the_place_and_changes_nothing(shared: Service, body: object) -> None:
    before = await shared.events_written()
    answer = await shared.do("POST", RESERVE, body)
    assert (answer.status, answer.code) == (422, "invalid_request"), answer.body
    for error in answer.json["errors"]:
        assert isinstance(error["loc"], list)
        assert error["msg"]
    assert await shared.events_written() == before


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_just_deep_enough_is_read(shared: Service) -> None:
    deep = b'{"amount":1,"metadata":{"a":' + b"[" * 30 + b"]" * 30 + b"}}"
    answer = await shared.do("POST", RESERVE, deep)
    assert (answer.status, answer.code) == (422, "invalid_request")


async def test_an_empty_body_is_an_empty_object(service: Service) -> None:
    empty = await service.do("POST", RESERVE)
    braces = await service.do("POST", RESERVE, b"{}")
    blank = await service.do("POST", RESERVE, b" \r\n\t")
    assert empty.status == 422
    assert empty.body == braces.body == blank.body
    await service.do("POST", RESERVE, {"amount": 3, "reservation_id": "r"})
    assert (await service.do("POST", RESERVE + "/r/consume")).status == 201


async def test_the_content_type_is_not_asked_for(service: Service) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await service.call("POST", RESERVE, {"amount": 1}, key="k", headers=form)
    assert answer.status == 201


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("key", [None, ""])
async def test_a_mutation_without_a_key_is_400_and_shows_the_header_to_add(shared: Service, key: str | None) -> None:
    before = await shared.events_written()
    for method, target in [("POST", RESERVE), ("PUT", T + "/plan"), ("POST", T + "/grants")]:
        body = {"plan": "pro"} if method == "PUT" else {"amount": 1}
        answer = await shared.call(method, target, body, key=key)
        assert (answer.status, answer.code) == (400, "idempotency_key_required")
        assert answer.json["header"] == "Idempotency-Key"
        assert "Idempotency-Key: " in answer.json["detail"]
    assert await shared.events_written() == before


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("key", ["k" * 201, "schlüssel", "tab\there", "\udcff"])
async def test_a_key_that_is_none_is_422(shared: Service, key: str) -> None:
    before = await shared.events_written()
    head = f"POST {RESERVE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 12\r\nIdempotency-Key: "
    sent = head.encode() + key.encode(errors="surrogateescape") + b'\r\n\r\n{"amount":1}'
    received = await shared.exchange(sent)
    assert received.startswith(b"HTTP/1.1 422 ")
    assert b'"idempotency_key"' in received
    assert await shared.events_written() == before


async def test_a_key_of_200_printable_characters_is_a_key(service: Service) -> None:
    answer = await service.do("POST", RESERVE, {"amount": 1}, key="~ !" + "k" * 197)
    assert answer.status == 201


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("header", ["Idempotency-Key", "On-Behalf-Of"])
async def test_a_header_that_stands_twice_is_422(shared: Service, header: str) -> None:
    before = await shared.events_written()
    lines = "".join(f"{name}: a\r\n" for name in {"Idempotency-Key", header})
    head = (
        f"POST {RESERVE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 12\r\n{lines}{header}: b\r\n\r\n"
    )
    received = await shared.exchange(head.encode() + b'{"amount":1}')
    assert received.startswith(b"HTTP/1.1 422 ")
    assert header.encode() in received
    assert await shared.events_written() == before


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("value", [b"", b"\xff", b"a" * 201, b"tab\there", "mañana".encode()])
async def test_on_behalf_of_what_no_event_should_hold_is_422(shared: Service, value: bytes) -> None:
    before = await shared.events_written()
    head = f"POST {RESERVE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 12\r\nIdempotency-Key: k\r\n"
    received = await shared.exchange(head.encode() + b"On-Behalf-Of: " + value + b'\r\n\r\n{"amount":1}')
    assert received.startswith(b"HTTP/1.1 422 ")
    assert await shared.events_written() == before


@pytest.mark.asyncio(loop_scope="module")
async def test_json_is_judged_first_then_types_then_the_key_then_the_rest(shared: Service) -> None:
    assert (await shared.call("POST", RESERVE, b"{")).code == "invalid_json"
    assert (await shared.call("POST", RESERVE, {"amount": "1"})).code == "invalid_request"
    assert (await shared.call("POST", RESERVE, {"operation": "unknown"})).code == "idempotency_key_required"
    assert (await shared.do("POST", RESERVE, {"operation": "unknown"})).code == "operation_not_found"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "account",
    [
        "a.b",
        "a%20b",
        "a%00b",
        "a%2Fb",
        "%2e%2e",
        "..",
        "ä".encode().hex("%", 1),
        "%C3%A4",
        "a" * 129,
        "a%0A",
        "%zz",
        "*",
    ],
)
async def test_an_account_that_is_no_id_is_422_or_nowhere_whatever_is_asked(shared: Service, account: str) -> None:
    before = await shared.events_written()
    requests = [
        ("POST", f"/v1/accounts/{account}/reservations", {"amount": 1}),
        ("GET", f"/v1/accounts/{account}", None),
        ("GET", f"/v1/accounts/{account}/balance", None),
        ("GET", f"/v1/accounts/{account}/transactions", None),
        ("GET", f"/v1/accounts/{account}/commands/k", None),
        ("GET", f"/v1/events?account={account}", None),
    ]
    for method, target, body in requests:
        answer = await shared.call(method, target, body, key="k")
        assert answer.status in {404, 422}, (target, answer.body)
        assert answer.code in {"not_found", "invalid_request"}
    assert await shared.events_written() == before


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("segment", ["%ff", "%ed%a0%80", "a%c3", ""])
async def test_a_path_that_is_no_text_names_nothing(shared: Service, segment: str) -> None:
    answer = await shared.get(f"/v1/accounts/{segment}/balance")
    assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("item", ["a.b", "a%00", "a%2Fb", "a" * 161])
async def test_an_item_that_is_no_id_is_422(shared: Service, item: str) -> None:
    for target in (f"{RESERVE}/{item}/consume", f"{RESERVE}/{item}/release", f"{T}/consumptions/{item}/refund"):
        answer = await shared.do("POST", target)
        assert (answer.status, answer.code) == (422, "invalid_request"), target


@pytest.mark.asyncio(loop_scope="module")
async def test_an_item_that_is_unknown_is_404_by_its_name(shared: Service) -> None:
    assert (await shared.do("POST", RESERVE + "/r9/consume")).code == "reservation_not_found"
    assert (await shared.do("POST", RESERVE + "/r9/release")).code == "reservation_not_found"
    assert (await shared.do("POST", T + "/consumptions/c9/refund")).code == "consumption_not_found"
    assert (await shared.do("PUT", T + "/plan", {"plan": "gold"})).code == "plan_not_found"


async def test_a_direct_consumption_never_settles_a_reservation(service: Service) -> None:
    await service.do("POST", RESERVE, {"amount": 3, "reservation_id": "r"})
    answer = await service.do("POST", T + "/consumptions", {"amount": 1, "reservation_id": "r"})
    assert (answer.status, answer.code) == (422, "invalid_request")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("size", [65_537, 1_048_576, 8_388_608])
async def test_a_body_above_64_kib_is_413(shared: Service, size: int) -> None:
    before = await shared.events_written()
    body = b'{"amount":1}'.ljust(size)
    answer = await shared.do("POST", RESERVE, body)
    assert (answer.status, answer.code) == (413, "too_large")
    assert (await shared.call("POST", "/v1/quote", body)).status == 413
    assert await shared.events_written() == before


async def test_a_body_of_64_kib_is_read(service: Service) -> None:
    answer = await service.do("POST", RESERVE, b'{"amount":1}'.ljust(65_536))
    assert answer.status == 201


async def test_a_body_that_does_not_say_its_length_is_bounded_all_the_same(service: Service) -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        yield b'{"amount":1}'
        for _ in range(count):
            yield b" " * 8_192

    async with service.session.post(
        service.url(RESERVE), data=pieces(3), headers={"Idempotency-Key": "small"}
    ) as response:
        assert response.status == 201
    async with service.session.post(
        service.url(RESERVE), data=pieces(30), headers={"Idempotency-Key": "large"}
    ) as response:
        assert response.status == 413


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "snappy"])
async def test_a_compressed_body_is_415_and_never_unpacked(service: Service, coding: str) -> None:
    bomb = gzip.compress(b'{"amount":1}'.ljust(50_000_000))
    answer = await service.call("POST", RESERVE, bomb, key="bomb", headers={"Content-Encoding": coding})
    assert (answer.status, answer.code) == (415, "unsupported_encoding")
    assert await service.events_written() == 0
