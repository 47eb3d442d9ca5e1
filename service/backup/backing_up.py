"""Makes backups, while the ledger runs: `base`, the embedded cluster as it is, or `dump`, the ledger's schemas as data.

    <backup>/postgres            base: the cluster, with the write-ahead log that makes it whole, and PostgreSQL's manifest
    <backup>/postgres.password   base: the password that the cluster asks for
    <backup>/ledger.dump         dump: in the custom format of pg_dump
    <backup>/backup.json         what it is a backup of; written last

Neither has the key that signs checkpoints, nor the directory of checkpoints. The one would let whoever finds a backup sign
another history; the other is what tells that a backup is old, so it must not come from the backup.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path

import msgspec

from service.backup.note import CLUSTER, DUMP, PASSWORD, BackupError, BackupNote, write_note
from service.backup.programs import connection, run
from service.embedded.child import write_private

PROGRESS = re.compile(r"\((\d+)%\)")
SCHEMAS = ("ledger", "projections")
LOOK_SECONDS = 0.2

Progress = Callable[[float], None]
"""Is told how much is done: a share for a base backup, the bytes so far for a dump."""


async def back_up(database_url: str, directory: Path, note: BackupNote, progress: Progress) -> BackupNote:
    """Make a backup in a directory that is new or empty, and return its note; raises BackupError."""
    with filled(directory):
        if note.method == "base":
            await _base(database_url, directory, progress)
        else:
            note = msgspec.structs.replace(note, dump_sha256=await _dump(database_url, directory / DUMP, progress))
        write_note(directory, note)
        return note


async def _base(database_url: str, directory: Path, progress: Progress) -> None:
    url, secrets = connection(database_url)

    def line(text: str) -> None:
        for share in PROGRESS.findall(text):
            progress(int(share) / 100)

    arguments = ("--wal-method=stream", "--checkpoint=fast", "--manifest-checksums=SHA256", "--label=credit-ledger")
    target = f"--pgdata={directory / CLUSTER}"
    await run(
        "pg_basebackup",
        f"--dbname={url}",
        target,
        "--no-password",
        "--progress",
        *arguments,
        secrets=secrets,
        line=line,
    )
    write_private(directory / PASSWORD, secrets.get("PGPASSWORD", ""))


async def _dump(database_url: str, file: Path, progress: Progress) -> str:
    """Dump the ledger's schemas, as of one instant, and return the SHA-256 of the file."""
    url, secrets = connection(database_url)

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            progress(size_of(file.parent))

    watching = asyncio.create_task(watch())
    try:
        schemas = [f"--schema={schema}" for schema in SCHEMAS]
        arguments = ("--format=custom", "--no-owner", "--no-password", f"--file={file}", *schemas)
        await run("pg_dump", *arguments, f"--dbname={url}", secrets=secrets, line=lambda _: None)
    finally:
        watching.cancel()
    return await asyncio.to_thread(sha256_of, file)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def require_empty(directory: Path) -> None:
    """Raise BackupError unless the directory can be made, or is there and empty."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BackupError(
            f"{directory} is not empty, and nothing is ever overwritten: name a directory that is new or empty"
        )


@contextmanager
def filled(directory: Path) -> Generator[None]:
    """Make a directory that is new or empty, and remove it when filling it fails; raises BackupError."""
    require_empty(directory)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except BaseException as error:
        shutil.rmtree(directory, ignore_errors=True)
        if isinstance(error, OSError):
            raise BackupError(f"{directory} cannot be written: {error}") from error
        raise


def size_of(directory: Path) -> int:
    """Return how many bytes the files of a directory have."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())
