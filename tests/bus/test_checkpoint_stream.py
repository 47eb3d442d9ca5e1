"""Laws of the stream of checkpoints: each stands in it once and in order, whatever happened to the stream or the database."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest
from nats.js.errors import NotFoundError

from events.instants import Instant
from events.merkle import leaf_hash
from service.bus.checkpoint_stream import CheckpointsMoved
from service.checkpoint_publisher import CheckpointPublisher
from service.checkpoints.keys import SigningKey
from service.checkpoints.note import Checkpoint, Tree
from service.store.checkpoints import StoredCheckpoints, StoredNote
from tests.bus.streaming import Stage, delivering, new_prefix
from tests.servers import eventually

KEY = SigningKey("tests", bytes(range(32)))
AT = Instant("2026-11-01T09:30:00.000000Z")


@pytest.fixture
async def stage(database_url: str, nats_url: str) -> AsyncGenerator[Stage]:
    """A ledger whose checkpoints are published when a test says so."""
    async with delivering(database_url, nats_url, new_prefix()) as stage:
        await eventually(lambda: stage.delivery.publisher.positions is not None, "NATS is there")
        yield stage


def note(number: int, origin: str = "credit-ledger/x") -> str:
    trees = (Tree(number, leaf_hash(b"%d" % number)),)
    return Checkpoint(origin, number, AT, trees).signed([KEY]).note()


async def sign(stage: Stage, *numbers: int) -> None:
    stored = StoredCheckpoints(stage.log)
    for number in numbers:
        assert await stored.add(StoredNote(number, note(number)), AT, [])


def publisher(stage: Stage) -> CheckpointPublisher:
    return CheckpointPublisher(StoredCheckpoints(stage.log), stage.bus.checkpoints)


async def published(stage: Stage) -> list[str]:
    messages = await stage.stored("CHECKPOINTS")
    assert all(one.sequence < other.sequence for one, other in pairwise(messages))
    assert {message.subject for message in messages} <= {f"{stage.prefix}.checkpoints"}
    return [message.data.decode() for message in messages]


async def test_every_checkpoint_is_in_the_stream_once_and_in_order(stage: Stage) -> None:
    one, other = publisher(stage), publisher(stage)
    await one.publish(lambda: True)
    with pytest.raises(NotFoundError):
        await published(stage)
    await sign(stage, *range(1, 121))
    await one.publish(lambda: True)
    await sign(stage, 121)
    for each in (other, one, other):
        await each.publish(lambda: True)
    assert await published(stage) == [note(number) for number in range(1, 122)]
    assert (one.number, one.alarm) == (121, None)
    assert (await stage.stored("CHECKPOINTS"))[-1].headers["Checkpoint-Number"] == "121"


async def test_two_at_once_store_each_one_once(stage: Stage) -> None:
    await sign(stage, *range(1, 60))

    async def until_all_is_published(one: CheckpointPublisher) -> None:
        while one.number != 59:
            try:
                await one.publish(lambda: True)
            except CheckpointsMoved:
                continue

    await asyncio.gather(*(until_all_is_published(publisher(stage)) for _ in range(3)))
    assert await published(stage) == [note(number) for number in range(1, 60)]


@pytest.mark.parametrize("loss", ["deleted", "purged", "purged and gone on"])
async def test_a_stream_that_lost_its_messages_is_filled_from_the_database(stage: Stage, loss: str) -> None:
    await sign(stage, 1, 2, 3)
    one = publisher(stage)
    await one.publish(lambda: True)
    await one.publish(lambda: True)
    name = stage.stream("CHECKPOINTS")
    await (stage.js.delete_stream(name) if loss == "deleted" else stage.js.purge_stream(name))
    if loss == "purged and gone on":
        await sign(stage, 4)
        await stage.bus.checkpoints.publish(4, note(4), 3)
    for _ in range(2):
        await one.publish(lambda: True)
    assert await published(stage) == [note(number) for number in range(1, 5 if "gone" in loss else 4)]


@pytest.mark.parametrize("wrong", [note(3), note(1).replace("09:30", "09:31"), note(1, "credit-ledger/y")])
async def test_a_stream_that_knows_more_than_the_database_tells_that_a_backup_was_restored(
    stage: Stage, wrong: str
) -> None:
    await sign(stage, 1, 2)
    await stage.bus.checkpoints.open()
    await stage.bus.checkpoints.publish(3, wrong, 0)
    one = publisher(stage)
    await one.publish(lambda: True)
    assert one.alarm is not None
    assert ("old backup" in one.alarm) == ("ledger/y" not in wrong)
    assert await published(stage) == [wrong], "nothing more is published"
    await stage.js.delete_stream(stage.stream("CHECKPOINTS"))
    await one.publish(lambda: True)
    assert (one.alarm, await published(stage)) == (None, [note(1), note(2)])


async def test_a_late_publisher_is_refused(stage: Stage) -> None:
    await sign(stage, 1, 2)
    await publisher(stage).publish(lambda: True)
    with pytest.raises(CheckpointsMoved):
        await stage.bus.checkpoints.publish(2, note(2), 1)
    lost = publisher(stage)
    await sign(stage, 3)
    await lost.publish(lambda: False)
    assert await published(stage) == [note(1), note(2)]
