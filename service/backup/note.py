"""What a backup says of itself, in its file `backup.json`, which is written last: a backup without it is not whole."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from service.embedded.child import write_private
from service.store.checkpoints import StoredCheckpoints
from service.store.log import Log

NOTE = "backup.json"
DUMP = "ledger.dump"
CLUSTER = "postgres"
PASSWORD = "postgres.password"  # noqa: S105 - the name of the file

Method = Literal["base", "dump"]


class BackupError(Exception):
    """The backup cannot be made or restored; the message says why and what to do next."""


class BackupNote(msgspec.Struct, frozen=True, kw_only=True):
    """Of which ledger a backup is, and what it has at least: position and hash (hex) of each partition's last line."""

    ledger: str
    method: Method
    made_at: str
    release: str
    heads: list[tuple[int, str]]
    checkpoint: str | None
    """The last signed checkpoint when the backup began."""
    dump_sha256: str | None = None

    @property
    def events(self) -> int:
        """How many events it has at least."""
        return sum(position for position, _ in self.heads)


async def note_of(log: Log, *, method: Method, made_at: str, release: str) -> BackupNote:
    """Return the note of a backup that begins now; raises Outage."""
    ledger, partitions = await log.identity()
    heads = [await log.head(partition) for partition in range(partitions)]
    checkpoint = await StoredCheckpoints(log).latest()
    return BackupNote(
        ledger=ledger,
        method=method,
        made_at=made_at,
        release=release,
        heads=[(head.position, head.hash) for head in heads],
        checkpoint=None if checkpoint is None else checkpoint.note,
    )


def write_note(directory: Path, note: BackupNote) -> None:
    """Say that a backup is whole."""
    write_private(directory / NOTE, msgspec.json.format(msgspec.json.encode(note)).decode() + "\n")


def read_note(directory: Path) -> BackupNote:
    """Return the note of a backup; raises BackupError when it is none, or not whole."""
    try:
        return msgspec.json.decode((directory / NOTE).read_bytes(), type=BackupNote)
    except FileNotFoundError:
        raise BackupError(
            f"{directory} is no whole backup: it has no {NOTE}, which is written last. Was it interrupted?"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupError(f"{directory / NOTE} cannot be read: {error}") from None


async def compare(log: Log, note: BackupNote) -> int:
    """Return how many events a restored ledger has; raises BackupError when it lacks what the note says, and Outage."""
    ledger, partitions = await log.identity()
    if (ledger, partitions) != (note.ledger, len(note.heads)):
        raise BackupError(
            f"what was restored is ledger {ledger}, and {NOTE} says {note.ledger}: the files were mixed up"
        )
    events = 0
    for partition, (position, told) in enumerate(note.heads):
        head = await log.head(partition)
        events += head.position
        if position and await log.hash_at(partition, position) != told:
            raise BackupError(
                f"partition {partition} ends at {head.position}, and does not have the event {partition}-{position} that "
                f"{NOTE} names: the backup is damaged"
            )
    return events
