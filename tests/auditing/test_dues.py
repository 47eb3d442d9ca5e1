"""A stored bound that is later than what is due would let it pass: grants that never end, periods that never turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from events.instants import Instant
from service.snapshots import decode_account, encode_account
from tests.auditing.test_divergence import admin, home, noticed, projected_url, verified

if TYPE_CHECKING:
    from tests.auditing.test_divergence import Connection

__all__ = ["admin", "projected_url"]

LATER = Instant("2999-01-01T00:00:00.000000Z")


async def due_account(admin: Connection, partition: int) -> tuple[str, bytes]:
    """An account that is swept some day, with its snapshot."""
    row = await admin.fetchrow(
        "select account, state from ledger.accounts where partition = $1 and next_due_at is not null limit 1",
        partition,
    )
    assert row is not None
    return row["account"], row["state"]


async def test_a_snapshot_that_puts_off_what_is_due_is_wrong(admin: Connection) -> None:
    partition, _ = await home(admin)
    name, state = await due_account(admin, partition)
    for later in (LATER, None):
        changed = encode_account(msgspec.structs.replace(decode_account(state), due_at=later))
        change = "update ledger.accounts set state = $3 where partition = $1 and account = $2"
        await admin.execute(change, partition, name, changed)
        fault = await noticed(admin, partition)
        assert (fault.code, fault.account) == ("wrong_snapshot", name)
        assert "due_at is" in fault.detail


async def test_a_sweeper_that_is_told_to_come_later_or_never_is_wrong(admin: Connection) -> None:
    partition, _ = await home(admin)
    name, _ = await due_account(admin, partition)
    for later in ("'2999-01-01'", "null"):
        change = f"update ledger.accounts set next_due_at = {later} where partition = $1 and account = $2"
        await admin.execute(change, partition, name)
        fault = await noticed(admin, partition)
        assert (fault.code, fault.account) == ("wrong_snapshot", name)
        assert "next_due_at is" in fault.detail


async def test_an_earlier_bound_is_no_fault(admin: Connection) -> None:
    partition, _ = await home(admin)
    change = "update ledger.accounts set next_due_at = next_due_at - interval '1 day' where partition = $1"
    await admin.execute(change, partition)
    assert await verified(admin, partition) is None


async def test_a_head_whose_instant_is_not_that_of_its_last_line_is_forged(admin: Connection) -> None:
    partition, _ = await home(admin)
    change = "update ledger.heads set recorded_at = recorded_at + interval '1 year' where partition = $1"
    await admin.execute(change, partition)
    fault = await noticed(admin, partition)
    assert fault.code == "forged_head"
    assert "recorded_at" in fault.detail
