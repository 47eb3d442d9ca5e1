"""Restores backups: into a data directory that is new or empty, or a dump into a database without a ledger.

A data directory is made beside its place and gets its name when all is there, so one that was interrupted is never taken
for a ledger. What was restored is started once and compared with what the backup says of itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec
from pydantic import SecretStr

from service.app import explained
from service.backup.backing_up import Progress, require_empty, sha256_of, size_of
from service.backup.note import CLUSTER, DUMP, PASSWORD, BackupError, BackupNote, compare
from service.backup.programs import connection, run
from service.embedded import EmbeddedPostgres
from service.settings import Settings
from service.store.log import Log
from service.store.restoring import prepare

MANIFEST = "backup_manifest"
PIECE_BYTES = 1_048_576


class _File(msgspec.Struct, rename={"path": "Path", "checksum": "Checksum"}):
    path: str
    checksum: str


class _Manifest(msgspec.Struct, rename={"files": "Files"}):
    files: list[_File]


async def restore_directory(backup: Path, note: BackupNote, data: Path, settings: Settings, progress: Progress) -> int:
    """Restore into a data directory that is new or empty; returns how many events it has.

    Raises BackupError, EmbeddedServerError, StartError and Outage.
    """
    with _beside(data) as workshop:
        if note.method == "base":
            await _copy_cluster(backup, workshop, progress)
        server = EmbeddedPostgres(workshop)
        try:
            await server.start()
            url = server.socket_url
            if note.method == "dump":
                await _load(backup, note, url)
            return await _compared(url, note, settings)
        finally:
            await server.stop()


async def restore_database(backup: Path, note: BackupNote, url: str, settings: Settings) -> int:
    """Restore a dump into a database without a ledger; returns how many events it has.

    Raises BackupError, StartError and Outage.
    """
    if note.method != "dump":
        raise BackupError(f"{backup} is the copy of an embedded cluster: restore it with --data DIRECTORY")
    with explained(_of(settings, url)):
        await _load(backup, note, url)
    return await _compared(url, note, settings)


def _of(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"database_url": SecretStr(url)})


async def _compared(url: str, note: BackupNote, settings: Settings) -> int:
    with explained(_of(settings, url)):
        log = await Log.connect(url, connections=1)
        try:
            return await compare(log, note)
        finally:
            await log.close()


async def _load(backup: Path, note: BackupNote, url: str) -> None:
    dump = backup / DUMP
    if not dump.is_file() or await asyncio.to_thread(sha256_of, dump) != note.dump_sha256:
        raise BackupError(f"{dump} is not the file that the backup was made with: it is damaged")
    if not await prepare(url):
        raise BackupError("the database has a ledger, and nothing is ever overwritten: name an empty one")
    target, secrets = connection(url)
    arguments = ("--exit-on-error", "--no-owner", "--single-transaction", "--no-password", f"--dbname={target}")
    await run("pg_restore", *arguments, str(dump), secrets=secrets, line=lambda _: None)


@contextmanager
def _beside(data: Path) -> Generator[Path]:
    """Lend a directory that gets the name `data` at the end, and is removed when something fails."""
    data = data.absolute()
    require_empty(data)
    if data.is_mount():
        raise BackupError(
            f"{data} is a mount point, which cannot get its content in one step: name a directory below it"
        )
    workshop = data.with_name(f"{data.name}.restoring")
    if workshop.exists():
        raise BackupError(f"{workshop} is of a restore that was interrupted, or goes on: delete it when none goes on")
    try:
        workshop.mkdir(mode=0o700, parents=True)
        yield workshop
        if data.exists():
            data.rmdir()
        workshop.rename(data)
    except BaseException as error:
        shutil.rmtree(workshop, ignore_errors=True)
        if isinstance(error, OSError):
            raise BackupError(f"{data} cannot be written: {error}") from error
        raise


async def _copy_cluster(backup: Path, workshop: Path, progress: Progress) -> None:
    """Copy the cluster, each file compared with PostgreSQL's manifest; raises BackupError and OSError."""
    source, target = backup / CLUSTER, workshop / CLUSTER
    told = _told(source / MANIFEST)
    total, done = max(1, size_of(source)), 0
    for path in _made(source, target):
        found, size = await asyncio.to_thread(_copy, source / path, target / path)  # one by one, so that Ctrl-C ends it
        if told.pop(path, found) != found:
            raise BackupError(f"{source / path} is damaged: it is not what the backup was made with")
        done += size
        progress(done / total)
    if told:
        raise BackupError(f"{source} is damaged: {len(told)} files are missing, {min(told)} for one")
    _copy(backup / PASSWORD, workshop / PASSWORD)


def _made(source: Path, target: Path) -> list[str]:
    """Make the directories of a cluster, and return the paths of its files."""
    files: list[str] = []
    for folder, _, names in os.walk(source):
        below = Path(folder).relative_to(source)
        (target / below).mkdir(mode=0o700)
        files += [(below / name).as_posix() for name in names]
    return files


def _told(manifest: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that a backup should have, the write-ahead log left out."""
    try:
        return {file.path: file.checksum for file in msgspec.json.decode(manifest.read_bytes(), type=_Manifest).files}
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupError(f"{manifest} cannot be read: the backup is damaged ({error})") from None


def _copy(source: Path, target: Path) -> tuple[str, int]:
    """Copy a file to the disk, and return its SHA-256 and its size."""
    digest, size = sha256(), 0
    with source.open("rb") as from_, target.open("xb") as to:
        while piece := from_.read(PIECE_BYTES):
            digest.update(piece)
            size += to.write(piece)
        to.flush()
        os.fsync(to.fileno())
    target.chmod(0o600)
    return digest.hexdigest(), size
