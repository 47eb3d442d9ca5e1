"""`credit-ledger audit` as auditors and support meet it."""

from __future__ import annotations

import gzip
import itertools
import json
import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from subprocess import CompletedProcess

import click
import orjson
import pytest

from events.instants import Instant
from service.auditing.commanding import COULD_NOT_RUN, CouldNotRun, could_not_run
from service.auditing.exported import verify_export
from service.auditing.trusted import read_checkpoints, read_public_keys
from service.checkpoints.keys import InvalidKey, SigningKey, read_keys
from service.checkpoints.note import Checkpoint, InvalidNote, Tree, origin_of
from tests.program import credit_ledger
from tests.servers import PARTITIONS

LATE = "2999-01-01T00:00:00Z"


def audit(directory: Path, url: str, *arguments: str) -> CompletedProcess[str]:
    return credit_ledger(directory, "audit", *arguments, DATABASE_URL=url)


def test_a_sound_ledger_is_sound_from_the_database_and_from_its_export(tmp_path: Path, audited_url: str) -> None:
    from_database = audit(tmp_path, audited_url, "verify", "--json")
    assert (from_database.returncode, from_database.stderr) == (0, "")
    exported = audit(tmp_path, audited_url, "export", "log.ndjson")
    assert (exported.returncode, exported.stdout) == (0, "")
    from_file = credit_ledger(tmp_path, "audit", "verify", "--from-file", "log.ndjson", "--json")
    assert from_file.returncode == 0
    one, other = json.loads(from_database.stdout), json.loads(from_file.stdout)
    assert one["sound"] and one["events"] == other["events"] > 300
    roots = {part["partition"]: (part["root"], part["hash"]) for part in one["partitions"] if part["events"]}
    assert roots == {part["partition"]: (part["root"], part["hash"]) for part in other["partitions"]}
    assert credit_ledger(tmp_path, "audit", "verify", "--from-file", "log.ndjson").stdout.startswith("sound: ")


def test_the_hash_of_a_line_is_the_next_lines_prev_hash(
    tmp_path: Path, audited_url: str, exported_lines: list[bytes]
) -> None:
    home = json.loads(exported_lines[0])["partition"]
    lines = audit(tmp_path, audited_url, "export", "--partition", str(home)).stdout.splitlines()
    assert len(lines) > 1
    for line, following in itertools.pairwise(lines):
        assert json.loads(following)["prev_hash"] == sha256(line.encode()).hexdigest()


def test_a_ledger_that_signs_and_has_no_checkpoint_is_told_so(tmp_path: Path, audited_url: str) -> None:
    (tmp_path / "signing.key").write_text(SigningKey.create("tests").secret())
    named = {"DATABASE_URL": audited_url, "SIGNING_KEY_FILE": "signing.key"}
    ran = credit_ledger(tmp_path, "audit", "verify", **named)
    assert (ran.returncode, ran.stderr.startswith("note: the ledger has no checkpoint")) == (0, True)


def test_a_wrong_line_is_named_and_ends_with_1(tmp_path: Path, export: Path) -> None:
    lines = export.read_bytes().splitlines()
    wrong = json.loads(lines[5])
    lines[5] = lines[5].replace(b'"available":', b'"available":1', 1)
    export.write_bytes(b"\n".join(lines))
    ran = credit_ledger(tmp_path, "audit", "verify", "--from-file", export.name)
    assert ran.returncode == 1
    assert f"event {wrong['id']} of account {wrong['account']}" in ran.stdout
    report = json.loads(credit_ledger(tmp_path, "audit", "verify", "--from-file", export.name, "--json").stdout)
    assert (report["sound"], report["fault"]["position"]) == (False, wrong["position"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "--from-file", "nothing.ndjson"],
        ["replay", "--account", "nobody"],
        ["replay", "--account", "team-1", "--at", LATE],
        ["replay", "--account", "team-1", "--at", "yesterday"],
        ["diff", "--account", "team-1", "--from", LATE, "--to", "2020-01-01T00:00:00Z"],
        ["explain", "0-999999"],
        ["explain", "first"],
    ],
)
def test_what_cannot_be_done_ends_with_2_and_a_sentence(tmp_path: Path, audited_url: str, arguments: list[str]) -> None:
    ran = audit(tmp_path, audited_url, *arguments)
    assert (ran.returncode, "Traceback" in ran.stderr) == (2, False)
    assert "Error: " in ran.stderr


def test_without_a_database_it_could_not_run(tmp_path: Path) -> None:
    ran = audit(tmp_path, "postgresql://127.0.0.1:1/none", "verify")
    assert (ran.returncode, "cannot be reached" in ran.stderr) == (2, True)


def test_an_account_is_shown_as_it_was_and_what_changed_since(
    tmp_path: Path, audited_url: str, exported_lines: list[bytes]
) -> None:
    events = [event for line in exported_lines if (event := json.loads(line))["account"] == "team-3"]
    middle, last = events[len(events) // 2], events[-1]
    at, end = middle["recorded_at"], last["recorded_at"]
    was = json.loads(audit(tmp_path, audited_url, "replay", "--account", "team-3", "--at", at, "--json").stdout)
    told = [event for event in events if event["recorded_at"] <= at]
    assert (was["events"], was["last_position"]) == (len(told), told[-1]["position"])
    balance = was["balances"]["credits"]
    assert {name: balance[name] for name in told[-1]["balance"]["credits"]} == told[-1]["balance"]["credits"]
    range_ = ("--account", "team-3", "--from", at, "--to", end)
    changed = json.loads(audit(tmp_path, audited_url, "diff", *range_, "--json").stdout)
    between = [event for event in events if at < event["recorded_at"] <= end]
    assert [event["id"] for event in changed["events"]] == [event["id"] for event in between]
    moved = sum(event["delta"]["credits"]["available"] for event in between)
    assert changed["balances"]["credits"]["change"]["available"] == moved
    assert "team-3" in audit(tmp_path, audited_url, "replay", "--account", "team-3").stdout
    assert last["id"] in audit(tmp_path, audited_url, "diff", *range_).stdout


def test_an_event_is_explained_to_people_and_to_programs(
    tmp_path: Path, audited_url: str, exported_lines: list[bytes]
) -> None:
    held = next(event for line in reversed(exported_lines) if (event := json.loads(line))["kind"] == "hold")
    view = json.loads(audit(tmp_path, audited_url, "explain", held["id"], "--json").stdout)
    assert view["event"]["id"] == held["id"]
    gave = {grant["grant_id"]: grant["gave"] for grant in view["grants"] if grant["gave"]}
    assert gave == {part["grant_id"]: part["amount"] for part in held["data"]["allocation"]}
    text = audit(tmp_path, audited_url, "explain", held["id"]).stdout
    assert "price of create_reel" in text


def test_an_export_for_spreadsheets_has_a_row_for_each_event(
    tmp_path: Path, audited_url: str, exported_lines: list[bytes]
) -> None:
    import csv

    ran = audit(tmp_path, audited_url, "export", "log.csv", "--format", "csv")
    assert ran.returncode == 0
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [json.loads(line)["id"] for line in exported_lines]
    assert [row["hash"] for row in rows] == [sha256(line).hexdigest() for line in exported_lines]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), click.Abort(), RuntimeError("a slip"), OSError(28, "disk full")]
)
def test_what_breaks_off_says_nothing_about_the_history(error: BaseException) -> None:
    with pytest.raises(CouldNotRun) as ended, could_not_run():
        raise error
    assert ended.value.exit_code == COULD_NOT_RUN


def test_temporary_files_without_room_are_told_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CouldNotRun, match=r"temporary files in .* TMPDIR"), could_not_run():
        raise sqlite3.OperationalError("database or disk is full")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("checkpoint", b'{"number": 4, "note": "..."}', r"kept: .*keep the `note` alone"),
        ("checkpoint", b"some words", r"kept: .*no checkpoint"),
        ("key", b"\xff\xfe", r"kept has something else in it than public keys"),
        ("key", b"PRIVATE+KEY+name+id+secret", r"kept has something else .*`credit-ledger key show`"),
        ("key", None, r"kept is neither a file nor a public key"),
        ("signing key", b"some words", r"kept is no file of signing keys"),
    ],
)
def test_a_file_that_is_something_else_is_named(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    read = {"checkpoint": read_checkpoints, "key": lambda path: read_public_keys([str(path)]), "signing key": read_keys}
    kept = tmp_path / "kept"
    if content is not None:
        kept.write_bytes(content)
    with pytest.raises((InvalidKey, InvalidNote), match=told):
        read[name](kept)


def test_an_output_that_is_full_is_no_database_that_is_away(tmp_path: Path, audited_url: str) -> None:
    ran = audit(tmp_path, audited_url, "export", "not-there/log.ndjson")
    assert ran.returncode == COULD_NOT_RUN
    assert ran.stderr.startswith("Error: not-there/log.ndjson cannot be written")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (lambda log: log.replace(b"\n", b"\r\n"), "ends with a carriage return"),
        (lambda log: b"\xef\xbb\xbf" + log, "begins with a byte order mark"),
        (lambda log: b"\n" + log, "is empty"),
        (gzip.compress, "is compressed"),
    ],
)
def test_what_a_tool_did_to_an_export_is_said(
    tmp_path: Path, export: Path, written: Callable[[bytes], bytes], told: str
) -> None:
    export.write_bytes(written(export.read_bytes()))
    (first, *_) = verify_export(export, advance=lambda _done: None)
    assert first.fault is not None
    assert first.fault.position == 1
    assert told in first.fault.detail


def test_a_checkpoint_says_how_many_partitions_an_export_may_have(tmp_path: Path, export: Path) -> None:
    line = export.read_bytes().splitlines()[0]
    event = json.loads(line)
    elsewhere = {**event, "id": "40-1", "partition": 40, "position": 1}
    home = b"".join(orjson.dumps(each, option=orjson.OPT_SORT_KEYS) + b"\n" for each in (elsewhere,))
    export.write_bytes(export.read_bytes() + home)
    signed = Checkpoint(origin_of("x"), 1, Instant("2026-11-01T09:30:00.000000Z"), (Tree(0, bytes(32)),) * PARTITIONS)
    kept = tmp_path / "kept.checkpoints"
    kept.write_text(signed.signed([SigningKey.create("tests")]).note())
    ran = credit_ledger(tmp_path, "audit", "verify", "--from-file", export.name, "--checkpoint", kept.name)
    assert ran.returncode == 1
    assert "event 40-1" in ran.stdout
    assert "wrong_partition" in ran.stdout
