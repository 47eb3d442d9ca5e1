"""Laws of the stream of events: it is the log, whatever happened to it, to the server or to the process in between."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from nats.js.api import DiscardPolicy

from service.bus.event_stream import EventStream, StreamMoved
from service.cloud_events import Message
from service.embedded import EmbeddedNats
from service.embedded.child import free_port
from service.outages import Unavailable
from service.republishing import republish
from service.settings import Settings, load
from service.store.publishing import Outbox
from service.telemetry.metrics import Metrics
from tests.bus.streaming import Stage, delivering, new_prefix, spread
from tests.servers import eventually, throwaway_directory


@pytest.fixture
async def stage(database_url: str, nats_url: str) -> AsyncGenerator[Stage]:
    async with delivering(database_url, nats_url, new_prefix()) as stage:
        yield stage


async def test_every_event_is_in_the_stream_once_and_in_log_order(stage: Stage) -> None:
    await spread(stage, 40, 5)
    await stage.stream_is_the_log()


async def test_an_event_is_a_cloud_event_around_the_stored_line(stage: Stage) -> None:
    await stage.spend("a", 3)
    await stage.published()
    messages = await stage.stored("EVENTS")
    message = messages[-1]
    event, data = message.json, message.json["data"]
    assert message.headers["Nats-Msg-Id"] == data["id"]
    assert message.headers["Content-Type"] == "application/cloudevents+json"
    assert event == {
        "specversion": "1.0",
        "id": data["id"],
        "source": f"urn:credit-ledger:{stage.ledger.id}",
        "type": "credits.consumed.direct.v1",
        "subject": "a",
        "time": data["recorded_at"],
        "datacontenttype": "application/json",
        "sequence": str(data["position"]),
        "partitionkey": str(data["partition"]),
        "data": data,
    }
    assert (data["type"], data["kind"], data["account"]) == ("consumed", "direct", "a")


async def test_what_another_process_writes_is_published_too(stage: Stage, database_url: str, nats_url: str) -> None:
    await stage.spend("a")
    async with delivering(database_url, nats_url, stage.prefix, start=False) as other:
        await spread(other, 20, 2)
        await stage.stream_is_the_log()


async def test_one_process_publishes_and_another_goes_on_when_it_stops(database_url: str, nats_url: str) -> None:
    prefix = new_prefix()
    async with delivering(database_url, nats_url, prefix) as second:
        async with delivering(database_url, nats_url, prefix) as first:
            await spread(first, 30)
            leading = [first.delivery.publisher.positions is not None, second.delivery.publisher.positions is not None]
            assert leading.count(True) <= 1
        await spread(second, 30)
        await second.stream_is_the_log()


async def test_what_was_written_without_nats_is_published_at_the_next_start(database_url: str, nats_url: str) -> None:
    prefix = new_prefix()
    async with delivering(database_url, nats_url, prefix, start=False) as stage:
        await spread(stage, 100, 4)
    async with delivering(database_url, nats_url, prefix) as stage:
        await stage.stream_is_the_log()


@pytest.mark.parametrize("spends", [True, False])
@pytest.mark.parametrize("loss", ["deleted", "purged"])
async def test_a_stream_that_lost_its_messages_is_filled_from_the_log(stage: Stage, loss: str, spends: bool) -> None:
    await spread(stage, 30, 2)
    await stage.published()
    if loss == "deleted":
        await stage.js.delete_stream(stage.stream("EVENTS"))
    else:
        await stage.js.purge_stream(stage.stream("EVENTS"))
    if spends:
        await stage.spend("a")

    async def is_filled() -> bool:
        events = sum((await Outbox(stage.log).heads()).values())
        try:
            return (await stage.js.stream_info(stage.stream("EVENTS"))).state.messages >= events
        except Exception:  # noqa: BLE001 - it is not there yet
            return False

    await eventually(is_filled, "the stream is filled")
    await stage.stream_is_the_log()


async def test_events_that_the_streams_limits_deleted_are_not_sent_again(database_url: str, nats_url: str) -> None:
    prefix = new_prefix()
    async with delivering(database_url, nats_url, prefix) as stage:
        await spread(stage, 30)
        await stage.published()
        info = await stage.js.stream_info(stage.stream("EVENTS"))
        info.config.max_msgs = 5
        await stage.js.update_stream(info.config)

        async def is_kept() -> bool:
            async with stage.log.connection() as connection:
                kept = await connection.fetchval("select positions from ledger.publishing")
            return list(kept) == stage.delivery.publisher.positions

        await eventually(is_kept, "the positions are kept beside the lease")
        last = info.state.last_seq
    async with delivering(database_url, nats_url, prefix) as stage:
        await stage.spend("a")
        await stage.published()
        state = (await stage.js.stream_info(stage.stream("EVENTS"))).state
        assert state.last_seq - last <= 4  # an opening and a consumption


async def test_a_stale_publisher_is_refused_for_ever(stage: Stage) -> None:
    await spread(stage, 10)
    await stage.published()
    frozen = EventStream(stage.prefix)
    await frozen.attach(stage.client)
    then = await frozen.open()
    window = [Message(0, n, f"0-{n}", f"{stage.prefix}.events.0.granted.promo.a", b"{}") for n in range(1000, 1128)]
    await spread(stage, 10)
    await stage.published()
    with pytest.raises(StreamMoved):
        await frozen.publish(window, then.last_sequence)
    await stage.stream_is_the_log()


async def test_of_a_window_with_a_hole_nothing_behind_the_hole_is_stored(stage: Stage) -> None:
    """Messages that a frozen publisher still had in its buffer fit by their sequences, and not by what stands before."""
    await stage.delivery.stop_intake()
    await stage.spend("a")
    await stage.published()
    frozen, other = EventStream(stage.prefix), EventStream(stage.prefix)
    for stream in (frozen, other):
        await stream.attach(stage.client)
    start = (await frozen.open()).last_sequence
    subject = f"{stage.prefix}.events.0.granted.promo.a"
    await other.publish([Message(9, 1, "9-1", subject, b"{}")], start)
    with pytest.raises(StreamMoved):
        await frozen.publish([Message(0, n, f"0-{n}", subject, b"{}") for n in range(1, 9)], start)
    state = (await stage.js.stream_info(stage.stream("EVENTS"))).state
    assert state.last_seq == start + 1


async def test_a_log_that_ends_before_the_stream_stops_the_publisher_and_is_told(
    database_url: str, postgres_url: str, nats_url: str
) -> None:
    prefix = new_prefix()
    from tests.servers import clone_template

    async with delivering(database_url, nats_url, prefix) as stage:
        await spread(stage, 10)
        await stage.published()
        before = len(await stage.stored("EVENTS"))
    async with delivering(await clone_template(postgres_url), nats_url, prefix) as restored:
        publisher = restored.delivery.publisher
        await eventually(lambda: publisher.alarm is not None, "the alarm")
        assert publisher.alarm is not None
        assert publisher.alarm[0] == "history_rolled_back"
        with pytest.raises(Unavailable, match="history_rolled_back"):
            await publisher.check()
        metrics = Metrics()
        restored.delivery.measure(metrics)
        assert 'credit_ledger_delivery_alarm{code="history_rolled_back"} 1' in await metrics.exposition()
        await spread(restored, 3)
        assert len(await restored.stored("EVENTS")) == before
        await restored.js.delete_stream(restored.stream("EVENTS"))
        await restored.stream_is_the_log()
        await publisher.check()


async def test_a_stream_with_other_subjects_is_left_alone_and_told(database_url: str, nats_url: str) -> None:
    prefix = new_prefix()
    async with delivering(database_url, nats_url, prefix, start=False) as stage:
        await stage.js.add_stream(name=stage.stream("EVENTS"), subjects=[f"{prefix}.else.>"])
        stage.delivery.start()
        await eventually(lambda: stage.delivery.publisher.alarm is not None, "the alarm")
        assert stage.delivery.publisher.alarm is not None
        assert stage.delivery.publisher.alarm[0] == "stream_unusable"
        await stage.spend("a")


async def test_republish_sends_a_partition_again_and_the_service_goes_on(
    stage: Stage, nats_url: str, database_url: str
) -> None:
    await spread(stage, 30, 2)
    await stage.published()
    partition = stage.ledger.partition("a0")
    head = (await Outbox(stage.log).heads())[partition]
    settings = load(Settings, {"subject_prefix": stage.prefix, "auth": "off"})
    assert await republish(stage.log, nats_url, settings, partition, 1) == head - 1
    await spread(stage, 30)

    async def positions() -> list[int]:
        events = [message.json["data"] for message in await stage.stored("EVENTS")]
        return [event["position"] for event in events if event["partition"] == partition]

    end = (await Outbox(stage.log).heads())[partition]

    async def is_there() -> bool:
        return (await positions())[-1] == end

    await eventually(is_there, "the service goes on")
    assert await positions() == [*range(1, head + 1), *range(2, end + 1)]


async def test_while_the_disk_is_full_the_ledger_goes_on_and_catches_up_after(database_url: str) -> None:
    with throwaway_directory() as data, small_disk(data) as filler:
        port = free_port()
        server = EmbeddedNats(data, port)
        async with delivering(database_url, await server.start(), "credits") as stage:
            await spread(stage, 5)
            await stage.published()
            fill(filler)
            await spread(stage, 20, 20)
            await eventually(lambda: stage.delivery.publisher.alarm is not None, "the alarm")
            filler.unlink()
            await kill(server)  # a stream that met a full disk stays wedged until the server starts again
            server = EmbeddedNats(data, port)
            await server.start()
            await stage.stream_is_the_log()
            assert stage.delivery.publisher.alarm is None
        await server.stop()


async def test_a_stream_that_may_not_grow_is_an_alarm_and_is_filled_when_it_may(stage: Stage) -> None:
    """What a full disk does, on any machine: JetStream refuses to store, and the ledger goes on."""
    await spread(stage, 5)
    await stage.published()
    info = await stage.js.stream_info(stage.stream("EVENTS"))
    info.config.max_bytes, info.config.discard = info.state.bytes + 1, DiscardPolicy.NEW
    await stage.js.update_stream(info.config)
    await spread(stage, 20, 5)
    await eventually(lambda: stage.delivery.publisher.alarm is not None, "the alarm")
    assert stage.delivery.publisher.alarm is not None
    assert stage.delivery.publisher.alarm[0] == "stream_unavailable"
    info.config.max_bytes = -1
    await stage.js.update_stream(info.config)
    await stage.stream_is_the_log()
    assert stage.delivery.publisher.alarm is None


async def test_metrics_say_how_far_it_is(stage: Stage) -> None:
    metrics = Metrics()
    stage.delivery.measure(metrics)
    await stage.spend("a")
    await stage.published()
    text = await metrics.exposition()
    events = sum((await Outbox(stage.log).heads()).values())
    partition = stage.ledger.partition("a")
    assert f'credit_ledger_published_position{{partition="{partition}"}} {events}' in text
    assert "credit_ledger_publisher_lag_events 0" in text
    assert "credit_ledger_delivery_leading 1" in text
    assert "credit_ledger_publisher_delay_seconds_count 0" not in text


async def test_nats_killed_and_its_store_deleted_under_load_leaves_the_stream_equal_to_the_log(
    database_url: str,
) -> None:
    with throwaway_directory() as data:
        port = free_port()
        server = EmbeddedNats(data, port)
        url = await server.start()
        async with delivering(database_url, url, "credits") as stage:
            load = asyncio.create_task(spread(stage, 20, 60))
            for round_ in range(3):
                await eventually(lambda: stage.delivery.publisher.positions is not None, "it publishes")
                await kill(server)
                if round_ == 1:
                    delete_store(data)
                server = EmbeddedNats(data, port)
                await server.start()
            await load
            await stage.stream_is_the_log()
        await server.stop()


@contextmanager
def small_disk(directory: Path) -> Generator[Path]:
    """Put the directory on a disk of 4 MB of its own; a file there that is not there yet."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", directory], check=False)
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small disk; the test of a stream that may not grow stands in for it")
    try:
        yield directory / "filler"
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(filler: Path) -> None:
    """Leave no room on the disk of this file."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


async def kill(server: EmbeddedNats) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()


def delete_store(data: Path) -> None:
    import shutil

    shutil.rmtree(data / "nats" / "jetstream")
