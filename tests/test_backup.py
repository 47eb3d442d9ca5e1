"""Laws of backups: they are restored whole into an empty place, or not at all, and nothing is ever overwritten."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from service.backup.backing_up import back_up
from service.backup.note import DUMP, NOTE, BackupError, BackupNote, note_of, read_note, write_note
from service.backup.programs import connection
from service.backup.restoring import _copy_cluster, restore_database, restore_directory
from service.settings import Settings
from service.store.log import Log
from tests.auditing.history import write_history
from tests.servers import create_database, value

SETTINGS = Settings()


def ignore(_done: float) -> None:
    """Nobody looks at how far it is."""


@pytest.fixture
async def dump(database_url: str, tmp_path: Path) -> tuple[Path, BackupNote]:
    """The dump of a ledger with some history."""
    await write_history(database_url, rounds=5)
    log = await Log.connect(database_url, connections=1)
    note = await note_of(log, method="dump", made_at="2026-11-01T00:00:00Z", release="1")
    await log.close()
    return tmp_path / "dump", await back_up(database_url, tmp_path / "dump", note, ignore)


async def test_a_dump_is_restored_into_an_empty_database_and_into_no_other(
    dump: tuple[Path, BackupNote], postgres_url: str, database_url: str
) -> None:
    backup, note = dump
    assert read_note(backup) == note
    url = await create_database(postgres_url, f"restored_{backup.parent.name}")
    assert await restore_database(backup, note, url, SETTINGS) == note.events > 20
    triggers = "select count(*) from pg_trigger where tgname = 'append_only' and tgenabled = 'A'"
    assert await value(url, triggers) == await value(database_url, triggers)
    log = await Log.connect(url, connections=1)
    assert await log.head(3) is not None
    await log.close()
    for taken in (url, database_url):
        with pytest.raises(BackupError, match="ever overwritten"):
            await restore_database(backup, note, taken, SETTINGS)


async def test_a_damaged_dump_restores_nothing(dump: tuple[Path, BackupNote], postgres_url: str) -> None:
    backup, note = dump
    url = await create_database(postgres_url, f"damaged_{backup.parent.name}")
    whole = (backup / DUMP).read_bytes()
    (backup / DUMP).write_bytes(whole[:-9] + bytes(9))
    with pytest.raises(BackupError, match="damaged"):
        await restore_database(backup, note, url, SETTINGS)
    short = msgspec.structs.replace(note, heads=[(position + 1, told) for position, told in note.heads])
    (backup / DUMP).write_bytes(whole)
    with pytest.raises(BackupError, match="damaged"):
        await restore_database(backup, short, url, SETTINGS)


async def test_a_backup_that_is_not_whole_is_none(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "half").mkdir()
    with pytest.raises(BackupError, match="interrupted"):
        read_note(tmp_path / "half")
    (tmp_path / "half" / NOTE).write_text("{}")
    with pytest.raises(BackupError, match="cannot be read"):
        read_note(tmp_path / "half")
    note = BackupNote(ledger="x", method="dump", made_at="", release="", heads=[], checkpoint=None)
    with pytest.raises(BackupError, match="not empty"):
        await back_up(database_url, tmp_path / "half", note, ignore)
    assert (tmp_path / "half" / NOTE).read_text() == "{}"
    with pytest.raises(BackupError, match="pg_dump failed"):
        await back_up(f"{database_url}&dbname=nowhere", tmp_path / "new", note, ignore)
    assert not (tmp_path / "new").exists()


async def test_a_restore_that_fails_leaves_nothing_and_one_that_was_interrupted_is_named(tmp_path: Path) -> None:
    note = BackupNote(ledger="x", method="base", made_at="", release="", heads=[], checkpoint=None)
    backup, data = tmp_path / "backup", tmp_path / "data"
    (backup / "postgres").mkdir(parents=True)
    write_note(backup, note)
    with pytest.raises(BackupError, match="damaged"):
        await restore_directory(backup, note, data, SETTINGS, ignore)
    assert not data.exists()
    (tmp_path / "data.restoring").mkdir()  # and it was not there
    with pytest.raises(BackupError, match="was interrupted"):
        await restore_directory(backup, note, data, SETTINGS, ignore)
    with pytest.raises(BackupError, match="not empty"):
        await restore_directory(backup, note, backup, SETTINGS, ignore)


@pytest.mark.parametrize("damage", ["changed", "missing", "none"])
async def test_each_file_of_a_cluster_is_compared_with_the_manifest(tmp_path: Path, damage: str) -> None:
    source = tmp_path / "backup" / "postgres"
    (source / "base").mkdir(parents=True)
    (source / "base" / "1").write_bytes(b"one")
    (tmp_path / "backup" / "postgres.password").write_text("x")
    told = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # SHA-256 of "one"
    files = [{"Path": "base/1", "Checksum": told}]
    (source / "backup_manifest").write_bytes(msgspec.json.encode({"Files": files}))
    if damage == "changed":
        (source / "base" / "1").write_bytes(b"two")
    elif damage == "missing":
        (source / "base" / "1").unlink()
    (tmp_path / "new").mkdir()
    if damage == "none":
        await _copy_cluster(tmp_path / "backup", tmp_path / "new", ignore)
        assert (tmp_path / "new" / "postgres" / "base" / "1").read_bytes() == b"one"
        return
    with pytest.raises(BackupError, match="damaged"):
        await _copy_cluster(tmp_path / "backup", tmp_path / "new", ignore)


@pytest.mark.parametrize(
    ("url", "target", "password"),
    [
        ("postgresql://me:a%2Bb@h:1/d?sslmode=disable", "postgresql://me@h:1/d?sslmode=disable", "a+b"),
        ("postgresql://me@h/d", "postgresql://me@h/d", None),
        ("postgresql:///d?host=/a/b&user=me&password=c", "postgresql:///d?host=/a/b&user=me", "c"),
        ("postgresql://me:p@/d?host=%2Fa%20b&port=5", "postgresql://me@/d?host=/a%20b&port=5", "p"),
    ],
)
def test_a_password_is_no_argument_of_a_program(url: str, target: str, password: str | None) -> None:
    assert connection(url) == (target, {"PGPASSWORD": password} if password else {})
