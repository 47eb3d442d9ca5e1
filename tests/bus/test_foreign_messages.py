"""JetStream delivers wherever a client says; what it puts into the ledger's own streams so does not stop the ledger."""

from __future__ import annotations

from nats.js.api import AckPolicy, ConsumerConfig

from service.checkpoints.keys import SigningKey
from service.checkpoints.note import Checkpoint, Tree
from tests.auditing.signing import AT
from tests.bus.streaming import Stage
from tests.bus.test_bus_permissions import connected, guarded, serving
from tests.servers import eventually

__all__ = ["guarded"]

NOTE = Checkpoint("credit-ledger/x", 1, AT, (Tree(0, bytes(32)),)).signed([SigningKey.create("tests")]).note()


async def messages(stage: Stage, what: str) -> int:
    return (await stage.js.stream_info(stage.stream(what))).state.messages


async def test_an_answer_that_was_sent_into_the_streams_is_taken_out(database_url: str, guarded: int) -> None:
    async with serving(database_url, guarded) as stage, connected(guarded, "renderer") as renderer:
        await stage.spend("a")
        await stage.published()
        notes = stage.bus.checkpoints
        await notes.open()
        sequence = await notes.publish(1, NOTE, 0)
        before = await messages(stage, "EVENTS")
        for into in ("credits.events.0.granted.promo.a", "credits.events.5.granted.promo.a", "credits.checkpoints"):
            ask = "$JS.API.CONSUMER.INFO.CREDITS_RESULTS.renderer"
            await renderer.client.publish(ask, b"", reply=into)
        await renderer.client.flush()

        async def is_spoilt() -> bool:
            return await messages(stage, "EVENTS") == before + 2 and await messages(stage, "CHECKPOINTS") == 2

        await eventually(is_spoilt, "the answers are in the streams")
        await stage.spend("a")
        await stage.published()
        assert await messages(stage, "EVENTS") == before + 1
        assert stage.delivery.publisher.alarm is None
        state = await notes.open()
        assert state.last_note == NOTE
        assert state.last_sequence == sequence + 1


async def test_events_that_a_consumer_sends_into_the_checkpoints_are_taken_out(database_url: str, guarded: int) -> None:
    async with serving(database_url, guarded) as stage, connected(guarded, "warehouse") as warehouse:
        notes = stage.bus.checkpoints
        await notes.open()
        await stage.spend("a")
        await stage.published()
        push = ConsumerConfig(name="warehouse", deliver_subject="credits.checkpoints", ack_policy=AckPolicy.NONE)
        await warehouse.client.jetstream().add_consumer("CREDITS_EVENTS", push)

        async def is_spoilt() -> bool:
            return await messages(stage, "CHECKPOINTS") > 0

        await eventually(is_spoilt, "events are in the stream of checkpoints")
        await warehouse.client.jetstream().delete_consumer("CREDITS_EVENTS", "warehouse")
        state = await notes.open()
        assert state.last_note is None
        await notes.publish(1, NOTE, state.last_sequence)
        assert (await notes.open()).last_note == NOTE
