"""The ledger goes on from no checkpoint that somebody else made, and blames no history for what is only kept beside it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import asyncpg
import pytest

from service.checkpoints.checkpointer import Checkpointer
from service.checkpoints.keys import SigningKey
from service.store.checkpoints import StoredCheckpoints
from service.store.feed import Feed
from tests.auditing.signing import AT, KEY, Signer, signing
from tests.servers import PARTITIONS

NEW = SigningKey("new", bytes(range(1, 33)))


@pytest.fixture
async def signer(postgres_url: str, _template: None) -> AsyncGenerator[Signer]:
    async with signing(postgres_url) as signer:
        await signer.sign(0.2)
        yield signer


async def begun(signer: Signer, *keys: SigningKey, held: Sequence[int] = ()) -> Checkpointer:
    """A checkpointer that has looked at what there is; no other partitions are held back than these."""
    found: list[int] = []
    checkpointer = Checkpointer(
        ledger_id=signer.ledger_id,
        partitions=PARTITIONS,
        feed=Feed(signer.log, PARTITIONS),
        stored=StoredCheckpoints(signer.log),
        keys=keys,
        clock=lambda: AT,
        hold_back=lambda partition, _reason: found.append(partition),
    )
    await checkpointer.begin()
    assert found == list(held)
    return checkpointer


async def test_nothing_is_signed_behind_a_checkpoint_of_another_hand(signer: Signer) -> None:
    await signer.sign(0.4, keys=[SigningKey.create(KEY.public.name)])
    checkpointer = await begun(signer, KEY)
    assert "checkpoint 2 " in str(checkpointer.alarm())
    assert await checkpointer.make() is None
    assert await StoredCheckpoints(signer.log).note(3) is None


async def test_one_that_comes_while_the_ledger_runs_is_noticed(signer: Signer) -> None:
    checkpointer = await begun(signer, KEY)
    await signer.sign(0.4, keys=[NEW])
    assert await checkpointer.make() is None
    assert "checkpoint 2 " in str(checkpointer.alarm())
    assert await checkpointer.make() is None


async def test_a_key_is_changed_with_both_and_in_need_at_once(signer: Signer) -> None:
    await signer.sign(0.4, keys=[KEY, NEW])
    await signer.sign(0.6, keys=[NEW])
    only = SigningKey.create("only")
    for keys in ([NEW], [KEY, NEW], [only]):
        checkpointer = await begun(signer, *keys)
        assert checkpointer.alarm() is None
    assert (made := await checkpointer.make()) is not None
    assert made.is_signed_by([only.public])


async def test_a_wrong_subtree_is_no_wrong_history(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.checkpoints.trees.LEVELS", (2,))
    connection = await asyncpg.connect(signer.url)
    await connection.execute("alter table ledger.subtrees drop constraint subtrees_level_check")
    await connection.execute(
        "insert into ledger.subtrees (partition, level, number, root) values ($1, 2, 0, $2)", signer.busiest, bytes(32)
    )
    await connection.close()
    await signer.sign()
    checkpointer = await begun(signer, KEY)
    assert f"partition {signer.busiest}" in str(checkpointer.alarm())
    assert "rewritten" not in str(checkpointer.alarm())


async def test_a_partition_whose_lines_are_gone_does_not_keep_the_service_from_saying_so(signer: Signer) -> None:
    connection = await asyncpg.connect(signer.url)
    await connection.execute("alter table ledger.events disable trigger all")
    await connection.execute("delete from ledger.events where partition = $1", signer.busiest)
    await connection.close()
    checkpointer = await begun(signer, KEY, held=[signer.busiest])
    assert "history_rolled_back" in str(checkpointer.alarm())
