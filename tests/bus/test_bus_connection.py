"""Laws of the connection: it comes when the server comes, comes back when the server does, and no message ends it."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import nats
import pytest
from nats.aio.msg import Msg

from service.bus import Bus
from service.embedded import EmbeddedNats
from service.embedded.child import free_port
from service.replies import Reply
from tests.bus.calling import Call, Scripted, bus_of, caller_of, prefix_of, publish_raw, serving
from tests.servers import EVENTUALLY_SECONDS_MAX, eventually, throwaway_directory


@pytest.fixture
async def own_nats() -> AsyncGenerator[tuple[Path, int]]:
    """A directory and a port for a NATS server of this test's own, which is not started."""
    with throwaway_directory() as data:
        yield data, free_port()


async def test_a_server_that_comes_late_is_found(own_nats: tuple[Path, int]) -> None:
    data, port = own_nats
    url = f"nats://127.0.0.1:{port}"
    bus = bus_of(Scripted(), url)
    bus.start()
    await eventually(lambda: bus._connection._is_loss_told, "the first attempt has failed")
    assert not bus.is_connected
    server = EmbeddedNats(data, port)
    await server.start()
    try:
        await asyncio.wait_for(bus.started(), EVENTUALLY_SECONDS_MAX)
        async with caller_of(bus, url) as caller:
            assert (await caller.command("reserve", {})).status == 201
    finally:
        await bus.stop()
        await server.stop()


async def test_stop_ends_at_once_when_the_server_never_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.bus.connection.CLOSE_SECONDS_MAX", 10 * EVENTUALLY_SECONDS_MAX)
    bus = bus_of(Scripted(), f"nats://127.0.0.1:{free_port()}")
    bus.start()
    await eventually(lambda: bus._connection._is_loss_told, "the first attempt has failed")
    await asyncio.wait_for(bus.stop(), EVENTUALLY_SECONDS_MAX)


async def test_a_killed_server_that_starts_again_is_served_again(own_nats: tuple[Path, int]) -> None:
    data, port = own_nats
    server = EmbeddedNats(data, port)
    url = await server.start()
    bus = bus_of(Scripted(), url)
    bus.start()
    await bus.started()
    try:
        async with caller_of(bus, url) as caller:
            assert (await caller.command("reserve", {})).status == 201
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await eventually(lambda: not bus.is_connected, "the loss is noticed")
            await server.stop()
            server = EmbeddedNats(data, port)
            await server.start()
            await eventually(lambda: bus.is_connected and caller.client.is_connected, "both are connected again")
            await caller.client.flush()
            assert (await caller.command("reserve", {})).status == 201
    finally:
        await bus.stop()
        await server.stop()


async def test_stop_while_the_server_is_away_ends_soon(own_nats: tuple[Path, int]) -> None:
    data, port = own_nats
    server = EmbeddedNats(data, port)
    bus = bus_of(Scripted(), await server.start())
    bus.start()
    await bus.started()
    await server.stop()
    await eventually(lambda: not bus.is_connected, "the loss is noticed")
    await asyncio.wait_for(bus.stop(), EVENTUALLY_SECONDS_MAX)


async def test_a_client_that_gave_up_is_replaced(nats_url: str) -> None:
    bus = bus_of(Scripted(), nats_url)
    bus.start()
    await bus.started()
    try:
        async with caller_of(bus, nats_url) as caller:
            given_up = bus._connection._client
            assert given_up is not None
            await given_up.close()  # as nats-py does by itself on an error that the server reports
            await eventually(lambda: bus._connection._client is not given_up and bus.is_connected, "a new client")
            await asyncio.wait_for(bus.started(), EVENTUALLY_SECONDS_MAX)
            assert (await caller.command("reserve", {})).status == 201
    finally:
        await bus.stop()


UNREADABLE = {
    "a subject that is not UTF-8": b"PUB %b.cmd.tester.\xff\xfe 2\r\n{}\r\n",
    "a reply subject that is not UTF-8": b"PUB %b.cmd.tester.reserve \xff\xfe 2\r\n{}\r\n",
    "a status line that is not UTF-8": b"HPUB %b.cmd.tester.reserve a 15 17\r\nNATS/1.0 \xff\xfe\r\n\r\n{}\r\n",
    "headers that are cut off": b"HPUB %b.cmd.tester.reserve a 8 10\r\nNATS/1.0{}\r\n",
    "headers that are garbage": b"HPUB %b.cmd.tester.reserve a 4 6\r\nabcd{}\r\n",
    "a subject with NUL": b"PUB %b.cmd.tester.\x00 a 2\r\n{}\r\n",
    "a subject with a form feed": b"PUB %b.cmd.tester.reser\x0cve a 2\r\n{}\r\n",
    "a subject with the number of a subscription": b"PUB %b.query.tester.balance\x0b1 2\r\n{}\r\n",
}


@pytest.mark.parametrize("line", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_message_that_cannot_be_read_makes_nobody_deaf(
    nats_url: str, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unanswered pings would wake it up as well, so there are none."""
    monkeypatch.setattr("service.bus.connection.PING_SECONDS", 10 * EVENTUALLY_SECONDS_MAX)
    gateway = Scripted()
    async with serving(gateway, nats_url) as caller:
        await publish_raw(nats_url, line % caller.prefix.encode())

        async def is_served() -> bool:
            answer = await caller.send(f"{caller.prefix}.query.tester.quota")
            done, _ = await asyncio.wait({answer}, timeout=0.5)
            return bool(done) and answer.result().headers == {"Status": "201"}

        await eventually(is_served, "a request is answered")
    assert {call.name for call in gateway.calls} <= {"quota", "\x00"}


async def answer_of(nats_url: str, subject: str, bus: Bus) -> dict[str, object]:
    """The answer of this bus among those of all instances."""
    client = await nats.connect(nats_url)
    found: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    async def take(message: Msg) -> None:
        view = json.loads(message.data)
        if view["id"] == bus.discovery.id and not found.done():
            found.set_result(view)

    inbox = client.new_inbox()
    await client.subscribe(inbox, cb=take)
    await client.publish(subject, reply=inbox)
    try:
        return await asyncio.wait_for(found, EVENTUALLY_SECONDS_MAX)
    finally:
        await client.close()


async def test_the_service_is_found_by_the_micro_protocol(nats_url: str) -> None:
    async def script(call: Call) -> Reply:
        return Reply(409, b"{}", "refused") if call.name == "refuse" else Reply(201, b"{}")

    bus = bus_of(Scripted(script), nats_url)
    bus.start()
    await bus.started()
    prefix = prefix_of(bus)
    common = {"name": "credit-ledger", "id": bus.discovery.id, "version": "1.2.3", "metadata": {}}
    try:
        async with caller_of(bus, nats_url) as caller:
            await caller.command("reserve", {})
            await caller.command("refuse", {})
            for address in ("", ".credit-ledger", f".credit-ledger.{bus.discovery.id}"):
                assert await answer_of(nats_url, f"$SRV.PING{address}", bus) == {
                    "type": "io.nats.micro.v1.ping_response",
                    **common,
                }
                info = await answer_of(nats_url, f"$SRV.INFO{address}", bus)
                assert info["type"] == "io.nats.micro.v1.info_response"
                assert info["description"]
                assert info["endpoints"] == [
                    {
                        "name": name,
                        "subject": f"{prefix}.{name}.*.*",
                        "queue_group": "credit-ledger",
                        "metadata": {},
                    }
                    for name in ("cmd", "query")
                ]
                stats = await answer_of(nats_url, f"$SRV.STATS{address}", bus)
                assert stats["type"] == "io.nats.micro.v1.stats_response"
                assert str(stats["started"]).endswith("Z")
                commands, queries = stats["endpoints"]  # type: ignore[misc]
                assert (commands["num_requests"], commands["num_errors"]) == (2, 1)
                assert commands["last_error"] == "409:refused"
                assert commands["processing_time"] >= commands["average_processing_time"] > 0
                assert (queries["num_requests"], queries["num_errors"]) == (0, 0)
    finally:
        await bus.stop()


async def test_instances_share_the_requests(nats_url: str) -> None:
    gateways = [Scripted(), Scripted()]
    first = bus_of(gateways[0], nats_url)
    second = bus_of(gateways[1], nats_url, prefix=prefix_of(first))
    for bus in (first, second):
        bus.start()
        await bus.started()
    try:
        async with caller_of(first, nats_url) as caller:
            await asyncio.gather(*(caller.command("reserve", {}) for _ in range(100)))
    finally:
        await asyncio.gather(first.stop(), second.stop())
    counts = [len(gateway.calls) for gateway in gateways]
    assert sum(counts) == 100
    assert min(counts) > 0
