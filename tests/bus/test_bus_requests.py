"""Laws of requests over NATS, with a gateway that each test writes itself: what is tested is what stands around it."""

import asyncio

import pytest

from events.recorded import Actor
from service.access import Access
from service.bus import service as bus_service
from service.replies import BATCH_BYTES_MAX, BODY_BYTES_MAX, Reply
from tests.bus.calling import ANSWER_SECONDS_MAX, Call, Scripted, bus_of, caller_of, serving
from tests.servers import eventually

SECRET = "password=hunter2"
MESSAGE_BYTES_MAX = 8_388_608
"""`max_payload: 8MB` of the embedded server."""

ACCESS = Access.parse(
    """
    [[caller]]
    name = "tester"
    scopes = ["spend"]
    """
)


async def test_requests_to_one_endpoint_run_side_by_side(nats_url: str) -> None:
    all_inside = asyncio.Event()

    async def script(call: Call) -> Reply:
        if len(gateway.calls) == 100:
            all_inside.set()
        await all_inside.wait()
        return Reply(201, call.body)

    gateway = Scripted(script)
    async with serving(gateway, nats_url) as caller:
        answers = await asyncio.gather(*(caller.command("reserve", {"n": n}) for n in range(100)))
    assert [answer.json["n"] for answer in answers] == list(range(100))


async def test_more_requests_than_the_limit_are_answered_overloaded_at_once(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_service, "COMMANDS_CONCURRENT_MAX", 2)
    gate = asyncio.Event()

    async def script(_: Call) -> Reply:
        await gate.wait()
        return Reply(201, b"{}")

    gateway = Scripted(script)
    async with serving(gateway, nats_url) as caller:
        held = [await caller.send(f"{caller.prefix}.cmd.tester.reserve") for _ in range(2)]
        refused = await caller.command("reserve", {})
        gate.set()
        assert [(await answer).status for answer in held] == [201, 201]
        assert (await caller.command("reserve", {})).status == 201
    assert (refused.status, refused.code) == (503, "overloaded")
    assert refused.headers["Retry-After"] == "1"


async def test_a_caller_who_takes_all_places_leaves_the_others_theirs(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_service, "COMMANDS_CONCURRENT_MAX", 10)
    gate = asyncio.Event()

    async def script(_: Call) -> Reply:
        await gate.wait()
        return Reply(201, b"{}")

    gateway = Scripted(script)
    async with serving(gateway, nats_url) as caller:
        flood = [await caller.send(f"{caller.prefix}.cmd.flood.reserve") for _ in range(20)]
        turned_away = await asyncio.gather(*flood[10:])
        quiet = [await caller.send(f"{caller.prefix}.cmd.quiet.reserve") for _ in range(6)]
        assert (await quiet[5]).code == "overloaded", "its share is five of ten"
        gate.set()
        assert {(await answer).status for answer in (*flood[:10], *quiet[:5])} == {201}
    assert {answer.code for answer in turned_away} == {"overloaded"}


async def test_the_gateway_gets_name_body_caller_and_key(nats_url: str) -> None:
    gateway = Scripted()
    async with serving(gateway, nats_url) as caller:
        await caller.command("reserve", {"account": "a"}, Idempotency_Key="k-1", On_Behalf_Of="user:7")
        await caller.command("grant", b"", Idempotency_Key="")
        await caller.query("balance", b'{"account":"a"}')
    assert gateway.calls == [
        Call("reserve", b'{"account": "a"}', Actor(id="tester", via="nats", on_behalf_of="user:7"), "k-1"),
        Call("grant", b"", Actor(id="tester", via="nats"), ""),
        Call("balance", b'{"account":"a"}'),
    ]


async def test_answers_have_their_status_and_problems_the_headers_of_micro_services(nats_url: str) -> None:
    async def script(call: Call) -> Reply:
        if call.name == "reserve":
            return Reply(402, b'{"status":402}', "QUOTA_EXCEEDED")
        return Reply(202, b'{"status":"in_progress"}')

    async with serving(Scripted(script), nats_url) as caller:
        refused = await caller.command("reserve", {})
        accepted = await caller.query("outcome", {})
    assert refused.headers == {
        "Status": "402",
        "Nats-Service-Error-Code": "402",
        "Nats-Service-Error": "QUOTA_EXCEEDED",
    }
    assert accepted.headers == {"Status": "202"}


@pytest.mark.parametrize("leak", [RuntimeError(SECRET), KeyError(SECRET), asyncio.CancelledError(SECRET)], ids=repr)
async def test_nothing_of_an_exception_reaches_the_caller(nats_url: str, leak: BaseException) -> None:
    async def script(_: Call) -> Reply:
        if len(gateway.calls) == 1:
            raise leak
        return Reply(201, b"{}")

    gateway = Scripted(script)
    async with serving(gateway, nats_url) as caller:
        failed = await caller.command("reserve", {})
        assert (failed.status, failed.code) == (500, "internal")
        assert SECRET not in f"{failed.headers}{failed.body!r}"
        assert type(leak).__name__ not in f"{failed.headers}{failed.body!r}"
        assert (await caller.command("reserve", {})).status == 201


@pytest.mark.parametrize("token", ["a/b", "ä", "a" * 129, "\x00", '{"a":1}', "%s"], ids=repr)
async def test_a_caller_that_is_no_id_is_refused(nats_url: str, token: str) -> None:
    gateway = Scripted()
    async with serving(gateway, nats_url) as caller:
        for kind in ("cmd.{}.reserve", "query.{}.balance"):
            answer = await caller.ask(kind.format(token))
            assert (answer.status, answer.code) == (422, "invalid_request")
            assert answer.json["errors"][0]["loc"] == ["caller"]
    assert gateway.calls == []


@pytest.mark.parametrize("name", ["", "a" * 201, "\N{SNOWMAN}"], ids=repr)
async def test_on_behalf_of_is_short_printable_ascii(nats_url: str, name: str) -> None:
    gateway = Scripted()
    async with serving(gateway, nats_url) as caller:
        answer = await caller.command("reserve", {}, On_Behalf_Of=name)
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert answer.json["errors"][0]["loc"] == ["On-Behalf-Of"]
    assert gateway.calls == []


async def test_a_caller_does_what_its_scopes_allow_and_nothing_else(nats_url: str) -> None:
    gateway = Scripted()
    async with serving(gateway, nats_url, access=ACCESS) as caller:
        assert (await caller.command("reserve", {})).status == 201
        for refused, scope in (
            (await caller.command("grant", {}), "grant"),
            (await caller.command("change_plan", {}), "admin:write"),
            (await caller.query("balance", {}), "read"),
            (await caller.ask("cmd.stranger.reserve", {}), "spend"),
        ):
            assert (refused.status, refused.code, refused.json["scope"]) == (403, "forbidden", scope)
    assert [call.name for call in gateway.calls] == ["reserve"]


async def test_a_body_above_64_kib_is_too_large(nats_url: str) -> None:
    gateway = Scripted()
    async with serving(gateway, nats_url) as caller:
        limit = BODY_BYTES_MAX
        assert (await caller.command("reserve", b" " * limit)).status == 201
        for bytes_sent in (limit + 1, 1_000_000):
            answer = await caller.command("reserve", b" " * bytes_sent)
            assert (answer.status, answer.code) == (413, "too_large")
            assert (await caller.query("check", b" " * bytes_sent)).code == "too_large"
    assert len(gateway.calls) == 1


async def test_a_batch_above_4_mib_is_too_large_however_large_a_message_may_be(nats_url: str) -> None:
    gateway = Scripted()
    async with serving(gateway, nats_url) as caller:
        assert (await caller.command("batch", b" " * BATCH_BYTES_MAX)).code == "internal"  # this gateway has none
        answer = await caller.command("batch", b" " * (BATCH_BYTES_MAX + 1))
        assert (answer.status, answer.code) == (413, "too_large")


async def test_an_answer_that_no_message_can_hold_does_not_end_the_connection(nats_url: str) -> None:
    async def script(call: Call) -> Reply:
        return Reply(200, b" " * int(call.body))

    async with serving(Scripted(script), nats_url) as caller:
        for size in (MESSAGE_BYTES_MAX - 1024, MESSAGE_BYTES_MAX - 1023, MESSAGE_BYTES_MAX, 9_000_000):
            answer = await caller.query("balance", str(size).encode())
            assert answer.code == (None if size == MESSAGE_BYTES_MAX - 1024 else "internal")


async def test_a_message_without_a_place_for_its_answer_is_not_executed(nats_url: str) -> None:
    gateway = Scripted()
    async with serving(gateway, nats_url) as caller:
        subject = f"{caller.prefix}.cmd.tester.reserve"
        for reply in ("", f"{caller.prefix}.events.0.granted", "$JS.API.STREAM.DELETE.CREDITS_EVENTS"):
            await caller.client.publish(subject, b"{}", reply=reply)
        assert (await caller.command("reserve", {"last": True})).status == 201
    assert [call.body for call in gateway.calls] == [b'{"last": true}']


async def test_stop_answers_what_was_taken_and_takes_nothing_new(nats_url: str) -> None:
    gate = asyncio.Event()

    async def script(call: Call) -> Reply:
        if call.name == "reserve":
            await gate.wait()
        return Reply(201, b'{"answered":true}')

    gateway = Scripted(script)
    bus = bus_of(gateway, nats_url)
    bus.start()
    await bus.started()
    async with caller_of(bus, nats_url) as caller:
        taken = [await caller.send(f"{caller.prefix}.cmd.tester.reserve") for _ in range(50)]
        await eventually(lambda: len(gateway.calls) == 50, "all requests are taken")
        stopping = asyncio.create_task(bus.stop())

        async def is_deaf() -> bool:
            return (await caller.query("balance")).body == b""  # the server's own "no responders"

        await eventually(is_deaf, "new requests find no responder")
        assert not stopping.done()
        gate.set()
        answers = await asyncio.gather(*taken)
        await stopping
    assert all(answer.json == {"answered": True} for answer in answers)
    assert not bus.is_connected


async def test_stop_does_not_wait_for_ever(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.bus.endpoint.FINISH_SECONDS_MAX", 0.05)

    async def script(_: Call) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    gateway = Scripted(script)
    bus = bus_of(gateway, nats_url)
    bus.start()
    await bus.started()
    async with caller_of(bus, nats_url) as caller:
        unanswered = await caller.send(f"{caller.prefix}.cmd.tester.reserve")
        await eventually(lambda: len(gateway.calls) == 1, "the request is taken")
        await asyncio.wait_for(bus.stop(), ANSWER_SECONDS_MAX)
        assert not unanswered.done()
