"""The log over HTTP: the lines as stored, chained, complete, filtered, bounded, and followed."""

import asyncio
import json
from collections import defaultdict
from hashlib import sha256
from typing import Any

import asyncpg
import pytest

from events.partition import partition_of
from service.store import feed as feed_module
from service.store.feed import Feed, FeedQuery
from service.store.log import Log
from tests.http.stage import Answer, Service
from tests.servers import eventually

ACCOUNTS = [f"team-{number}" for number in range(40)]


def lines_of(answer: Answer) -> list[Any]:
    """The events of an export, after a look at its form."""
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert not answer.body or answer.body.endswith(b"\n")
    return [json.loads(line) for line in answer.body.splitlines()]


async def written(service: Service) -> None:
    """Two commands for each account: 4 events, of which 1 was consumed."""
    for account in ACCOUNTS:
        await service.opened(account)
        await service.do("POST", f"/v1/accounts/{account}/reservations", {"amount": 1})


async def test_the_lines_of_each_partition_chain_by_their_sha256(service: Service) -> None:
    await written(service)
    answer = await service.get("/v1/events")
    expected: dict[int, tuple[int, str]] = defaultdict(lambda: (1, "0" * 64))
    for raw in answer.body.splitlines():
        line = json.loads(raw)
        position, prev_hash = expected[line["partition"]]
        assert (line["position"], line["prev_hash"]) == (position, prev_hash)
        expected[line["partition"]] = (position + 1, sha256(raw).hexdigest())
    heads = await service.feed.heads()
    assert {partition: position - 1 for partition, (position, _) in expected.items()} == {
        partition: position for partition, position in heads.items() if position
    }


async def test_the_export_is_the_stored_bytes_by_partition_then_position(service: Service, database_url: str) -> None:
    await written(service)
    connection = await asyncpg.connect(database_url)
    stored = await connection.fetch("select line from ledger.events order by partition, position")
    await connection.close()
    answer = await service.get("/v1/events")
    assert answer.body == b"".join(row["line"] + b"\n" for row in stored)


async def test_an_empty_log_is_an_empty_export(service: Service) -> None:
    assert lines_of(await service.get("/v1/events")) == []


async def test_after_goes_on_behind_a_position_of_its_partition(service: Service) -> None:
    await written(service)
    partition = partition_of("team-1", 16)
    whole = lines_of(await service.get(f"/v1/events?partition={partition}"))
    assert {line["partition"] for line in whole} == {partition}
    for after in (0, 1, len(whole) - 1, len(whole), len(whole) + 100):
        rest = lines_of(await service.get(f"/v1/events?partition={partition}&after={after}"))
        assert rest == whole[after:]


async def test_filters_by_account_and_type_and_a_limit_leave_the_order_as_it_is(service: Service) -> None:
    await written(service)
    whole = lines_of(await service.get("/v1/events"))
    of_account = lines_of(await service.get("/v1/events?account=team-7"))
    assert of_account == [line for line in whole if line["account"] == "team-7"]
    assert len(of_account) == 4
    consumed = lines_of(await service.get("/v1/events?type=consumed"))
    assert consumed == [line for line in whole if line["type"] == "consumed"]
    both = lines_of(await service.get("/v1/events?type=consumed&account=team-7"))
    assert both == [line for line in of_account if line["type"] == "consumed"]
    for limit in (1, 3, len(consumed), 10**9):
        assert lines_of(await service.get(f"/v1/events?type=consumed&limit={limit}")) == consumed[:limit]
        assert lines_of(await service.get(f"/v1/events?limit={limit}")) == whole[:limit]
    assert lines_of(await service.get("/v1/events?account=nobody")) == []
    assert lines_of(await service.get("/v1/events?type=refunded")) == []


async def test_pages_of_any_size_make_the_same_stream(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    await written(service)
    targets = [
        "/v1/events",
        "/v1/events?type=consumed",
        "/v1/events?account=team-7",
        "/v1/events?account=team-7&type=reserved",
    ]
    whole = [(await service.get(target)).body for target in targets]
    for lines_max, bytes_max in ((1, 10**6), (3, 10**6), (1_000, 1), (1_000, 3_000)):
        monkeypatch.setattr(feed_module, "PAGE_LINES_MAX", lines_max)
        monkeypatch.setattr(feed_module, "PAGE_BYTES_MAX", bytes_max)
        assert [(await service.get(target)).body for target in targets] == whole


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "query",
    [
        "after=1",
        "after=1&account=team-42",
        "partition=16",
        "partition=-1",
        "partition=x",
        "partition=1.0",
        "partition=1&after=-1",
        "partition=1&after=x",
        "partition=1&after=" + "9" * 30,
        "limit=0",
        "limit=x",
        "type=opened",
        "type=",
        "account=",
        "account=a.b",
        "account=%00",
        "follow=1",
        "follow=",
        "unknown=1",
        "limit=1&limit=1",
        "account=team-42&partition=" + str((partition_of("team-42", 16) + 1) % 16),
    ],
)
async def test_parameters_without_a_meaning_are_422(shared: Service, query: str) -> None:
    answer = await shared.get("/v1/events?" + query)
    assert (answer.status, answer.code) == (422, "invalid_request"), answer.body


async def test_an_account_may_be_read_on_from_a_position_of_its_partition(service: Service) -> None:
    await written(service)
    whole = lines_of(await service.get("/v1/events?account=team-7"))
    partition, position = whole[1]["partition"], whole[1]["position"]
    rest = lines_of(await service.get(f"/v1/events?account=team-7&partition={partition}&after={position}"))
    assert rest == whole[2:]


async def test_who_follows_gets_what_is_there_and_then_what_is_written(service: Service) -> None:
    await service.opened("team-1")
    async with service.session.get(service.url("/v1/events?follow=true")) as response:
        seen = [json.loads(await response.content.readline()) for _ in range(3)]
        assert [line["account"] for line in seen] == ["team-1"] * 3
        for account in ("team-2", "team-3", "team-2"):
            await service.do("POST", f"/v1/accounts/{account}/consumptions", {"amount": 1})
        seen = [json.loads(await response.content.readline()) for _ in range(7)]
        assert sorted(line["account"] for line in seen) == ["team-2"] * 4 + ["team-3"] * 3
        await service.server.stop()
        assert await response.content.read() == b""  # a whole response: a cut one would raise


async def test_who_follows_with_a_limit_gets_as_much_and_the_end(service: Service) -> None:
    await service.opened("team-1")
    partition = partition_of("team-1", 16)
    target = f"/v1/events?follow=true&partition={partition}&after=3&type=consumed&limit=2"
    following = asyncio.create_task(service.get(target))
    for _ in range(3):
        await service.opened("team-1")
    lines = lines_of(await following)
    assert [line["position"] for line in lines] == [4, 5]


async def test_a_stream_without_follow_ends_at_the_head_of_its_start(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.opened("team-1")
    monkeypatch.setattr(feed_module, "PAGE_LINES_MAX", 1)
    pages = service.feed.stream(FeedQuery())
    first = await anext(pages)
    await written(service)
    rest = [page async for page in pages]
    assert len([first, *rest]) == 3


async def test_followers_that_went_away_leave_their_places_to_others(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "STREAMS_MAX", 2)
    one = await service.session.get(service.url("/v1/events?follow=true"))
    two = await service.session.get(service.url("/v1/events?follow=true"))
    refused = await service.get("/v1/events")
    assert (refused.status, refused.code) == (503, "overloaded")
    assert int(refused.headers["Retry-After"]) >= 1
    one.close()
    two.close()

    async def there_is_room() -> bool:
        return (await service.get("/v1/events")).status == 200

    await eventually(there_is_room, "the streams were given back")


async def test_a_reader_that_takes_nothing_holds_up_only_itself(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is cut off when its time is over, and nothing that it did not take is kept for it."""
    from service.http import export

    monkeypatch.setattr(export, "TAKE_SECONDS_MAX", 1.0)
    for number in range(30):
        body = {"amount": 1, "metadata": {"about": "x" * 4_000}}
        await service.do("POST", f"/v1/accounts/{ACCOUNTS[number]}/reservations", body)
    size = len((await service.get("/v1/events")).body)
    assert size > 100_000
    _, writer = await asyncio.open_connection("127.0.0.1", service.server.port, limit=1)
    for _ in range(32 * 1_048_576 // size):  # more than the buffers between the two take
        writer.write(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    await eventually(lambda: service.feed._open == 1, "a stream is open")
    assert (await service.get("/healthz")).status == 200
    await eventually(lambda: "its reader took nothing" in caplog.text, "the stream was cut")
    await eventually(lambda: service.feed._open == 0, "its place was given back")
    writer.close()


async def test_an_export_that_breaks_never_looks_whole(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    import aiohttp

    await written(service)
    monkeypatch.setattr(feed_module, "PAGE_LINES_MAX", 1)
    async with service.session.get(service.url("/v1/events?follow=true")) as response:
        await response.content.readline()
        await service.feed._log.close()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()


async def test_a_log_that_cannot_be_read_is_a_problem_of_503(service: Service) -> None:
    await service.feed._log.close()
    answer = await service.get("/v1/events")
    assert (answer.status, answer.code) == (503, "unavailable")
    assert "Retry-After" in answer.headers


async def test_a_feed_that_is_closed_takes_on_no_stream(database_url: str) -> None:
    from service.outages import Unavailable

    log = await Log.connect(database_url)
    feed = Feed(log, 16)
    feed.close()
    with pytest.raises(Unavailable):
        await anext(feed.stream(FeedQuery()))
    await log.close()
