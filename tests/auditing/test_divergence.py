"""What is stored beside the log and differs from its replay is named by the first event where the two part."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from events.account import Account
from events.recorded import Event, decode
from service.auditing.database import verify_partition
from service.auditing.faults import Fault
from service.projector import Projector
from service.snapshots import decode_account, decode_item, encode_account, encode_item
from service.store.auditing import PartitionView
from service.store.log import Log
from tests.auditing.history import write_history
from tests.servers import PARTITIONS, clone_template

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def projected_url(postgres_url: str, _template: None) -> str:
    """The database of a ledger with some history and all projections."""
    url = await clone_template(postgres_url)
    await write_history(url, rounds=40, seed=3)
    log = await Log.connect(url, connections=2)
    projector = Projector(log)
    await projector.store.register()
    await projector.catch_up()
    await log.close()
    return url


@pytest.fixture
async def admin(projected_url: str) -> AsyncGenerator[Connection]:
    """A connection of somebody who may change anything; what he changes is undone."""
    connection = await asyncpg.connect(projected_url, command_timeout=60)
    await connection.execute("begin")
    yield connection
    await connection.execute("rollback")
    await connection.close()


async def home(admin: Connection) -> tuple[int, list[Event]]:
    """The partition with most events, and these."""
    partition = await admin.fetchval("select partition from ledger.heads order by position desc limit 1")
    rows = await admin.fetch("select line from ledger.events where partition = $1 order by position", partition)
    return partition, [decode(row["line"]) for row in rows]


async def verified(admin: Connection, partition: int) -> Fault | None:
    view = PartitionView(admin, partition)
    return (await verify_partition(view, partition, partitions=PARTITIONS, advance=lambda _done: None)).fault


async def noticed(admin: Connection, partition: int) -> Fault:
    fault = await verified(admin, partition)
    assert fault is not None, "what was changed was not noticed"
    return fault


async def test_projections_that_say_what_the_log_says_are_sound(admin: Connection) -> None:
    for partition in range(PARTITIONS):
        assert await verified(admin, partition) is None


async def test_a_projection_that_lags_is_compared_up_to_where_it_is(admin: Connection, projected_url: str) -> None:
    partition, events = await home(admin)
    behind = len(events) // 2
    for name in ("history", "accounts"):
        await admin.execute(
            "update projections.checkpoints set position = $1 where partition = $2 and name = $3",
            behind,
            partition,
            name,
        )
    await admin.execute("delete from projections.history where partition = $1 and position > $2", partition, behind)
    assert await verified(admin, partition) is None


async def test_a_row_of_the_history_that_is_gone_is_named_by_its_event(admin: Connection) -> None:
    partition, events = await home(admin)
    event = events[len(events) // 2]
    await admin.execute(
        "delete from projections.history where partition = $1 and position = $2", partition, event.position
    )
    fault = await noticed(admin, partition)
    assert (fault.code, fault.event, fault.account) == ("wrong_projection", event.id, event.account)


@pytest.mark.parametrize("by", [1, -1])
async def test_a_figure_of_the_usage_is_named_by_the_event_that_it_lacks_or_has_too_much(
    admin: Connection, by: int
) -> None:
    partition, events = await home(admin)
    consumed = [event for event in events if event.kind in {"direct", "settle"}]
    event = consumed[-1]
    changed = await admin.execute(
        "update projections.usage set used = used + $1 where partition = $2 and account = $3 and hour = $4",
        *(by, partition, event.account, f"{event.recorded_at[:13]}:00:00.000000Z"),
    )
    fault = await verified(admin, partition)
    assert fault is not None and changed != "UPDATE 0"
    assert (fault.code, fault.account) == ("wrong_projection", event.account)
    assert "usage parts from the replay" in fault.detail


async def test_what_was_projected_once_too_often_parts_at_the_event_that_did_it(admin: Connection) -> None:
    partition, events = await home(admin)
    event = next(event for event in events if event.kind == "opened")
    await admin.execute("update projections.accounts set plan = 'gold' where account = $1", event.account)
    fault = await verified(admin, partition)
    assert fault is not None and fault.account == event.account
    assert (fault.code, fault.event) == ("wrong_projection", event.id)


async def test_what_is_known_for_alerts_parts_at_an_event_of_its_account(admin: Connection) -> None:
    partition, events = await home(admin)
    account = events[-1].account
    await admin.execute(
        "update projections.alerts set state = replace(state, 'free', 'gold') where account = $1", account
    )
    fault = await noticed(admin, partition)
    assert (fault.code, fault.account) == ("wrong_projection", account)
    assert "alerts parts from the replay" in fault.detail


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("update projections.holds_made set amount = amount + 1 where partition = $1", "made"),
        ("update projections.holds_settled set holds = holds + 1 where partition = $1", "settled"),
        (
            """insert into projections.holds_endless
               select partition, generation, 'a', 'slot', '', 'a', '{}', hour
               from projections.holds_made where partition = $1 limit 1""",
            "endless",
        ),
        (
            """insert into projections.holds_expired
               select partition, generation, 'a', hour, unit, operation, actor, 1, 1, 1, 0
               from projections.holds_made where partition = $1 limit 1""",
            "expired",
        ),
    ],
)
async def test_rows_of_holds_that_were_changed_are_found(admin: Connection, change: str, kind: str) -> None:
    partition, _ = await home(admin)
    assert await admin.execute(change, partition) not in {"UPDATE 0", "INSERT 0 0"}
    fault = await verified(admin, partition)
    assert fault is not None and fault.code == "wrong_projection"
    assert f"holds parts from the replay here: the row {kind}" in fault.detail


async def test_an_old_snapshot_parts_at_the_next_event_of_its_account(admin: Connection) -> None:
    partition, events = await home(admin)
    account = events[-1].account
    row = await admin.fetchrow("select state from ledger.accounts where account = $1", account)
    assert row is not None
    stored = decode_account(row["state"])
    last = next(event for event in reversed(events) if event.account == account and event.delta["credits"].available)
    figures = stored.figures["credits"]
    wrong = msgspec.structs.replace(figures, available=figures.available - last.delta["credits"].available)
    await _store(admin, stored, {"credits": wrong})
    fault = await noticed(admin, partition)
    assert (fault.code, fault.event, fault.account) == ("wrong_snapshot", last.id, account)
    assert f"from {last.id}" in fault.detail


async def _store(admin: Connection, account: Account, figures: dict[str, object]) -> None:
    changed = msgspec.structs.replace(account, figures={**account.figures, **figures})
    await admin.execute("update ledger.accounts set state = $1 where account = $2", encode_account(changed), account.id)


async def test_a_hold_that_was_opened_again_parts_at_the_step_that_ended_it(admin: Connection) -> None:
    partition, events = await home(admin)
    settled = next(event for event in reversed(events) if event.kind == "settle")
    hold_id = settled.data.reservation_id
    where = "where account = $1 and kind = 'work' and id = $2"
    row = await admin.fetchrow(f"select state from ledger.items {where}", settled.account, hold_id)
    assert row is not None
    again = msgspec.structs.replace(decode_item(row["state"]), state="open")
    await admin.execute(f"update ledger.items set state = $3 {where}", settled.account, hold_id, encode_item(again))
    fault = await noticed(admin, partition)
    assert (fault.code, fault.event, fault.account) == ("wrong_item", settled.id, settled.account)


@pytest.mark.parametrize("gone", ["and name = 'usage'", ""])
async def test_a_projection_that_does_not_say_how_far_it_is_has_nothing(admin: Connection, gone: str) -> None:
    partition, _ = await home(admin)
    await admin.execute(f"delete from projections.checkpoints where partition = $1 {gone}", partition)
    fault = await noticed(admin, partition)
    assert (fault.code, fault.position) == ("wrong_projection", 0)


async def test_no_projection_is_further_than_the_log(admin: Connection) -> None:
    partition, events = await home(admin)
    change = "update projections.checkpoints set position = position + 1 where partition = $1 and name = 'accounts'"
    await admin.execute(change, partition)
    fault = await noticed(admin, partition)
    assert (fault.code, fault.position) == ("wrong_projection", len(events))
    assert "the log ends at" in fault.detail
