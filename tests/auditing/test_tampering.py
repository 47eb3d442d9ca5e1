"""Two hundred ways to falsify a history, each of which is noticed; and the true one, of which nothing is said.

Whoever tampers is an admin of the database, or has the export in his hands. He can do anything but sign: the checkpoint
that the verifier believes was made before.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import msgspec
import pytest

from events.account import Account
from events.merkle import leaf_hash, root_of
from service.auditing.database import verify_partition
from service.auditing.exported import verify_export
from service.auditing.faults import Fault
from service.auditing.report import report
from service.auditing.verifier import Mark
from service.store.auditing import PartitionView
from tests.servers import PARTITIONS

TIMES = 100
Lines = dict[int, list[bytes]]


def by_partition(exported: list[bytes]) -> Lines:
    lines: Lines = {}
    for line in exported:
        lines.setdefault(msgspec.json.decode(line)["partition"], []).append(line)
    return lines


def marks_of(lines: Lines) -> dict[int, list[Mark]]:
    return {
        partition: [
            Mark(len(of), root_of(map(leaf_hash, of))),
            Mark(len(of) // 2, root_of(map(leaf_hash, of[: len(of) // 2]))),
        ]
        for partition, of in lines.items()
    }


def forged(line: bytes, **changes: Any) -> bytes:
    """A line that says something else, as canonically as the true one."""
    event = msgspec.json.decode(line)
    event.update(changes)
    return msgspec.json.encode(event, order="sorted")


def rechained(lines: list[bytes], start: int) -> list[bytes]:
    """The same lines with all hashes computed again from `start` on."""
    made = lines[:start]
    for line in lines[start:]:
        made.append(forged(line, prev_hash=sha256(made[-1]).hexdigest() if made else "0" * 64))
    return made


def other_actor(line: bytes) -> bytes:
    """The same event, by somebody else: nothing in it contradicts anything."""
    return forged(line, actor={"id": "forger", "via": "http"})


# -- of an export ------------------------------------------------------------------------------------------------------


def flip_a_bit(lines: list[bytes], at: int, random: Random) -> None:
    line = bytearray(lines[at])
    line[random.randrange(len(line))] ^= 1 << random.randrange(7)
    lines[at] = bytes(line)


def remove(lines: list[bytes], at: int, _random: Random) -> None:
    del lines[at]


def insert(lines: list[bytes], at: int, _random: Random) -> None:
    event = msgspec.json.decode(lines[at])
    lines.insert(at, other_actor(forged(lines[at], prev_hash=event["prev_hash"])))


def swap(lines: list[bytes], at: int, _random: Random) -> None:
    at = max(at, 1)
    lines[at - 1], lines[at] = lines[at], lines[at - 1]


def double(lines: list[bytes], at: int, _random: Random) -> None:
    lines.insert(at, lines[at])


def cut_off(lines: list[bytes], at: int, _random: Random) -> None:
    del lines[at:]


def rewrite_the_tail(lines: list[bytes], at: int, _random: Random) -> None:
    lines[at] = other_actor(lines[at])
    lines[:] = rechained(lines, at)


def lose_a_part_of_the_past(lines: list[bytes], at: int, _random: Random) -> None:
    """Go back to an old state, and let other things happen from there on."""
    del lines[at:]
    if lines:
        lines[-1] = other_actor(lines[-1])


OF_LINES = (flip_a_bit, remove, insert, swap, double, cut_off, rewrite_the_tail, lose_a_part_of_the_past)


def judged(file: Path, lines: Lines, marks: dict[int, list[Mark]]) -> list[Fault]:
    file.write_bytes(b"".join(line + b"\n" for of in lines.values() for line in of))
    return list(report(verify_export(file, marks=marks, advance=lambda _done: None), marks).faults)


def test_nothing_is_said_of_the_true_export(tmp_path: Path, exported_lines: list[bytes]) -> None:
    lines = by_partition(exported_lines)
    assert judged(tmp_path / "log", lines, marks_of(lines)) == []
    assert judged(tmp_path / "log", lines, {}) == []


def test_every_change_of_an_export_is_noticed(tmp_path: Path, exported_lines: list[bytes]) -> None:
    random, true = Random(7), by_partition(exported_lines)
    marks = marks_of(true)
    for number in range(TIMES):
        change = OF_LINES[number % len(OF_LINES)]
        partition = random.choice([each for each in true if len(true[each]) > 2])
        lines = {**true, partition: list(true[partition])}
        at = random.randrange(len(true[partition]))
        change(lines[partition], at, random)
        assert lines[partition] != true[partition]
        faults = judged(tmp_path / "log", lines, marks)
        assert faults, f"{change.__name__} at {partition}-{at + 1} was not noticed"
        assert any(fault.partition == partition for fault in faults) or change is flip_a_bit


@pytest.mark.parametrize(
    ("change", "code", "position"),
    [
        (lambda lines: lines.__setitem__(4, other_actor(lines[4])), "broken_chain", 5),
        (lambda lines: lines.__setitem__(4, forged(lines[4], prev_hash="0" * 64)), "broken_chain", 5),
        (lambda lines: lines.__setitem__(4, lines[4] + b" "), "not_canonical", 5),
        (lambda lines: lines.__setitem__(4, lines[4][:-1]), "not_an_event", 5),
        (lambda lines: lines.__delitem__(4), "missing_events", 5),
        (lambda lines: lines.insert(4, lines[4]), "out_of_place", 6),
        (lambda lines: lines.__setitem__(slice(3, 5), [lines[4], lines[3]]), "missing_events", 4),
        (
            lambda lines: lines.__setitem__(4, forged(lines[4], recorded_at="2020-01-01T00:00:00.000000Z")),
            "wrong_time",
            5,
        ),
        (lambda lines: lines.__delitem__(-1), "rolled_back", None),
    ],
)
def test_the_first_wrong_event_is_named(
    tmp_path: Path, exported_lines: list[bytes], change: Callable[[list[bytes]], None], code: str, position: int | None
) -> None:
    lines = by_partition(exported_lines)
    marks = marks_of(lines)
    partition = max(lines, key=lambda each: len(lines[each]))
    change(lines[partition])
    (fault,) = judged(tmp_path / "log", lines, marks)
    assert (fault.partition, fault.code) == (partition, code)
    assert fault.position == (len(lines[partition]) + 1 if position is None else position)


# -- of a database -----------------------------------------------------------------------------------------------------


class Admin:
    """Somebody who may do anything in the database, and what he did is undone afterwards."""

    def __init__(self, connection: Any, partition: int, random: Random) -> None:
        self.connection = connection
        self.partition = partition
        self.random = random

    async def run(self, statement: str, *values: object) -> None:
        await self.connection.execute(statement, self.partition, *values)

    async def lines(self) -> list[bytes]:
        rows = await self.connection.fetch(
            "select line from ledger.events where partition = $1 order by position", self.partition
        )
        return [row["line"] for row in rows]

    async def write(self, lines: list[bytes], start: int) -> None:
        """Let the log from `start` on be these lines, with their hashes, and the head as well."""
        for position, line in enumerate(lines[start:], start=start + 1):
            await self.run(
                "update ledger.events set line = $3, hash = $4 where partition = $1 and position = $2",
                *(position, line, sha256(line).digest()),
            )
        await self.run("delete from ledger.events where partition = $1 and position > $2", len(lines))
        digest = sha256(lines[-1]).digest() if lines else bytes(32)
        await self.run("update ledger.heads set position = $2, hash = $3 where partition = $1", len(lines), digest)

    async def position(self) -> int:
        return self.random.randrange(len(await self.lines())) + 1


async def flip_a_stored_bit(admin: Admin) -> None:
    bit = admin.random.randrange(8 * 200)
    await admin.run(
        "update ledger.events set line = set_bit(line, $3, 1 - get_bit(line, $3)) where partition = $1 and position = $2",
        *(await admin.position(), bit),
    )


async def change_a_line_and_its_hash(admin: Admin) -> None:
    lines = await admin.lines()
    at = admin.random.randrange(len(lines))
    line = other_actor(lines[at])
    await admin.run(
        "update ledger.events set line = $3, hash = $4 where partition = $1 and position = $2",
        *(at + 1, line, sha256(line).digest()),
    )


async def rewrite_everything_behind(admin: Admin) -> None:
    lines = await admin.lines()
    at = admin.random.randrange(len(lines))
    lines[at] = other_actor(lines[at])
    await admin.write(rechained(lines, at), at)


async def delete_an_event(admin: Admin) -> None:
    await admin.run("delete from ledger.events where partition = $1 and position = $2", await admin.position())


async def restore_an_old_log(admin: Admin) -> None:
    lines = await admin.lines()
    await admin.write(lines[: admin.random.randrange(len(lines))], len(lines))


async def swap_two_events(admin: Admin) -> None:
    lines = await admin.lines()
    at = admin.random.randrange(len(lines) - 1)
    await admin.write([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]], at)


async def double_the_last_event(admin: Admin) -> None:
    lines = await admin.lines()
    await admin.run(
        "insert into ledger.events (partition, position, account, type, kind, recorded_at, line, hash) "
        "select partition, position + 1, account, type, kind, recorded_at, line, hash from ledger.events "
        "where partition = $1 and position = $2",
        len(lines),
    )
    await admin.run("update ledger.heads set position = $2 where partition = $1", len(lines) + 1)


async def forge_the_head(admin: Admin) -> None:
    change = admin.random.choice(("position = position + 1", "hash = sha256(hash)"))
    await admin.run(f"update ledger.heads set {change} where partition = $1")


async def change_a_column(admin: Admin) -> None:
    change = admin.random.choice(
        (
            "account = account || 'x'",
            "kind = kind || 'x'",
            "recorded_at = recorded_at + interval '1 second'",
            "key = substring(sha256(hash), 1, 16)",
        )
    )
    await admin.run(f"update ledger.events set {change} where partition = $1 and position = $2", await admin.position())


async def give_an_account_credits(admin: Admin) -> None:
    row = await admin.connection.fetchrow(
        "select account, state from ledger.accounts where partition = $1 order by account limit 1", admin.partition
    )
    account = msgspec.msgpack.decode(row["state"], type=Account)
    figures = account.figures["credits"]
    account.figures["credits"] = msgspec.structs.replace(figures, available=figures.available + 1)
    await admin.run(
        "update ledger.accounts set state = $3 where partition = $1 and account = $2",
        *(row["account"], msgspec.msgpack.encode(account)),
    )


async def lose_an_account(admin: Admin) -> None:
    await admin.run(
        "delete from ledger.accounts where partition = $1 "
        "and account = (select account from ledger.accounts where partition = $1 limit 1)"
    )


async def lose_an_item(admin: Admin) -> None:
    await admin.run(
        "delete from ledger.items where partition = $1 "
        "and (account, kind, id) = (select account, kind, id from ledger.items where partition = $1 limit 1)"
    )


async def invent_an_item(admin: Admin) -> None:
    await admin.run(
        "insert into ledger.items (partition, account, kind, id, due_at, state) "
        "select partition, account, kind, id || 'x', due_at, state from ledger.items where partition = $1 limit 1"
    )


async def change_an_item(admin: Admin) -> None:
    await admin.run(
        "update ledger.items set due_at = coalesce(due_at, now()) + interval '1 hour' where partition = $1 "
        "and (account, kind, id) = (select account, kind, id from ledger.items where partition = $1 limit 1)"
    )


OF_A_DATABASE = (
    *(flip_a_stored_bit, change_a_line_and_its_hash, rewrite_everything_behind, delete_an_event, restore_an_old_log),
    *(swap_two_events, double_the_last_event, forge_the_head, change_a_column, give_an_account_credits),
    *(lose_an_account, lose_an_item, invent_an_item, change_an_item),
)


async def test_every_change_of_a_database_is_noticed(audited_url: str, exported_lines: list[bytes]) -> None:
    random, lines = Random(11), by_partition(exported_lines)
    marks = marks_of(lines)
    busy = [partition for partition, of in lines.items() if len(of) > 20]
    connection = await asyncpg.connect(audited_url)
    try:
        for number in range(TIMES):
            change, partition = OF_A_DATABASE[number % len(OF_A_DATABASE)], random.choice(busy)
            undo = connection.transaction()
            await undo.start()
            await connection.execute("alter table ledger.events disable trigger append_only")
            await change(Admin(connection, partition, random))
            found = await verify_partition(
                PartitionView(connection, partition),
                partition,
                partitions=PARTITIONS,
                marks=marks[partition],
                advance=lambda _done: None,
            )
            await undo.rollback()
            assert found.fault is not None, f"{change.__name__} in partition {partition} was not noticed"
        for partition in range(PARTITIONS):
            found = await verify_partition(
                PartitionView(connection, partition),
                partition,
                partitions=PARTITIONS,
                marks=marks.get(partition, ()),
                advance=lambda _done: None,
            )
            assert found.fault is None, "nothing is said of the true history"
    finally:
        await connection.close()
