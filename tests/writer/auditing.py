"""The audit: everything that a ledger's database holds must follow from the lines of its log.

It reads the tables themselves, at one instant, and trusts no code of the service: positions have no gap, the chain
holds, columns say what the lines say, a key stands once and on the first event of its command, heads are where the
lines end, and the snapshots and items that decisions read are those that a replay from nothing leads to.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import asyncpg
from msgspec.structs import replace

from events import chain
from events.account import Item, State
from events.evolve import evolve
from events.grants import Grant
from events.holds import Hold
from events.instants import Instant, instant
from events.partition import partition_of
from events.payments import Paid
from events.recorded import GENESIS, Event
from events.spending import Payers, Resets
from service.requests import key_digest
from service.snapshots import decode_account, decode_item

HEADS = "SELECT partition, position, hash, recorded_at FROM ledger.heads ORDER BY partition"
EVENTS = """
SELECT partition, position, account, type, kind, recorded_at, key, line, hash
FROM ledger.events ORDER BY partition, position
"""
ACCOUNTS = "SELECT partition, account, position, state, next_due_at FROM ledger.accounts"
ITEMS = "SELECT partition, account, kind, id, due_at, state FROM ledger.items"


@dataclass(frozen=True)
class Book:
    """What stands in the log: all events in order, those of each caller's command, and each account as replayed."""

    events: list[Event]
    commands: dict[tuple[str, str], list[Event]]
    accounts: dict[str, State]
    hash_of: dict[str, str]

    def hashes(self, account: str, key: str) -> tuple[str, ...]:
        """The hashes of a command's events, in order; none when it is not in the log."""
        return tuple(self.hash_of[event.id] for event in self.commands.get((account, key), ()))

    def available(self, account: str) -> int:
        """The credits that an account can spend."""
        return self.accounts[account].account.figures["credits"].available


async def audited(url: str) -> Book:
    """Reads the whole database and checks it; what it holds."""
    connection = await asyncpg.connect(url, command_timeout=60)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            heads, rows, accounts, items = [await connection.fetch(query) for query in (HEADS, EVENTS, ACCOUNTS, ITEMS)]
    finally:
        await connection.close()
    by_partition: dict[int, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        by_partition[row["partition"]].append(row)
    assert set(by_partition) <= {head["partition"] for head in heads}
    events: list[Event] = []
    commands: dict[tuple[str, str], list[Event]] = {}
    for head in heads:
        of_partition = by_partition[head["partition"]]
        found = _checked_lines(head, of_partition, len(heads))
        _check_keys(found, of_partition, commands)
        events += found
    states = _replayed(events)
    _check_accounts(states, accounts)
    _check_items(states, items)
    hash_of = {f"{row['partition']}-{row['position']}": row["hash"].hex() for row in rows}
    return Book(events, commands, states, hash_of)


def _checked_lines(head: asyncpg.Record, rows: Sequence[asyncpg.Record], partitions: int) -> list[Event]:
    partition = head["partition"]
    assert [row["position"] for row in rows] == list(range(1, len(rows) + 1)), f"partition {partition} has a gap"
    events = list(chain.verify(partition, [row["line"] for row in rows]))
    latest: Instant = instant(head["recorded_at"])
    for row, event in zip(rows, events, strict=True):
        assert row["hash"] == sha256(row["line"]).digest(), event.id
        columns = (row["account"], row["type"], row["kind"], instant(row["recorded_at"]))
        assert columns == (event.account, event.type, event.kind, event.recorded_at), event.id
        assert partition_of(event.account, partitions) == partition, event.id
    instants = [event.recorded_at for event in events]
    assert instants == sorted(instants), f"recorded_at goes back in partition {partition}"
    last_hash = rows[-1]["hash"] if rows else bytes.fromhex(GENESIS)
    assert (head["position"], head["hash"]) == (len(rows), last_hash), f"the head of partition {partition}"
    assert not instants or latest >= instants[-1], f"the head of partition {partition}"
    return events


def _check_keys(
    events: Sequence[Event], rows: Sequence[asyncpg.Record], commands: dict[tuple[str, str], list[Event]]
) -> None:
    before: tuple[str, str] | None = None
    for event, row in zip(events, rows, strict=True):
        key = event.command.idempotency_key
        if key is None:
            assert event.command.name == "system", event.id
            assert row["key"] is None, event.id
            before = None
            continue
        command = (event.account, key)
        if command == before:
            assert row["key"] is None, f"{event.id} is not the first event of its command"
        else:
            assert command not in commands, f"{event.id}: the command {command} stands twice in the log"
            assert row["key"] == key_digest(*command), event.id
        commands.setdefault(command, []).append(event)
        before = command


def _replayed(events: Iterable[Event]) -> dict[str, State]:
    states: dict[str, State] = {}
    for event in events:
        state = states.setdefault(event.account, State.unknown(event.account))
        evolve(state, event)
        state.settle()
    return states


def _check_accounts(states: dict[str, State], rows: Sequence[asyncpg.Record]) -> None:
    assert {row["account"] for row in rows} == set(states)
    for row in rows:
        live, state = decode_account(row["state"]), states[row["account"]]
        # When the next fact is due is a bound that decisions raise; the replay's own is the lowest there ever was.
        assert replace(live, due_at=None) == replace(state.account, due_at=None), row["account"]
        assert list(live.grants) == list(state.account.grants), f"the draw order of {row['account']}"
        assert row["position"] == live.position, row["account"]
        due = first_due(state)
        if due is not None:
            assert live.due_at is not None, f"{row['account']} would sleep through {due}"
            assert live.due_at <= due, f"{row['account']} would sleep through {due}"
            if live.idle and due >= live.period_end:
                continue  # an account that nobody uses is renewed by its next command
            assert row["next_due_at"] is not None, f"the sweeper would not find {row['account']} at {due}"
            assert instant(row["next_due_at"]) <= due, f"the sweeper would not find {row['account']} at {due}"


def _check_items(states: dict[str, State], rows: Sequence[asyncpg.Record]) -> None:
    stored: dict[str, dict[tuple[str, str], Any]] = defaultdict(dict)
    for row in rows:
        item = decode_item(row["state"])
        stored[row["account"]][row["kind"], row["id"]] = item
        assert row["kind"] == KIND_OF.get(type(item), "work"), (row["account"], row["id"])
        assert row["id"] == item.id, (row["account"], row["id"])
        due_at = item.due_at if isinstance(item, Hold) else None
        assert (None if row["due_at"] is None else instant(row["due_at"])) == due_at, (row["account"], row["id"])
    for account, state in states.items():
        assert stored[account] == {key: item for key, item in state.known.items() if item is not None}, account


KIND_OF: dict[type[Item], str] = {Grant: "grant", Paid: "payment", Payers: "payers", Resets: "resets"}


def first_due(state: State) -> Instant | None:
    """The instant of the first fact that time alone will bring about, from all that there is of an account."""
    dues = [item.due_at for item in state.known.values() if isinstance(item, Hold)]
    dues.append(state.account.turns_at)
    for grant in state.account.grants.values():
        if grant.state == "scheduled":
            dues.append(grant.starts_at)
        elif grant.state == "active":
            dues.append(grant.expires_at)
    return min((due for due in dues if due is not None), default=None)
