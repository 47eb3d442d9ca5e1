"""What a ledger keeps beside the partitions: checkpoints, catalogs, and rows where none belong.

Every checkpoint is held against the log by its roots, so all that a signature adds is who says so. The last one has every
line that those before it have; when a key that is known signed it, the others need no key that may be gone since they were
made. When nobody known signed it, somebody else may have written it, and the lines as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from events.catalog import InvalidCatalog, parse_catalog
from events.instants import moment
from service.auditing.faults import Fault
from service.auditing.marks import MarkTable
from service.auditing.trusted import untrusted
from service.checkpoints.directory import last_of_directory
from service.checkpoints.keys import PublicKey, name_of
from service.checkpoints.note import Checkpoint, InvalidNote, origin_of, parse_notes
from service.store.beside import StoredCatalogRow, rows_elsewhere, stored_catalogs
from service.store.checkpoints import KeptNote, StoredCheckpoints
from service.store.log import Log

NOTES_PER_PAGE = 500
ALL_KEPT = timedelta(hours=24)
"""For so long no checkpoint is deleted (migration 0060)."""


async def stored_marks(log: Log, keys: Sequence[PublicKey] = ()) -> tuple[MarkTable, list[Fault]]:
    """Return what all checkpoints in the database say, and what is wrong with the first one of which anything is.

    One of the keys must have signed the last one; without any nobody needs to have. Raises Unavailable.
    """
    ledger_id, partitions = await log.identity()
    marks, stored = MarkTable(), StoredCheckpoints(log)
    before, last = 0, None
    while page := await stored.kept(before, NOTES_PER_PAGE):
        for kept in page:
            try:
                last = _of_ledger(kept, ledger_id, partitions)
                marks.add(last)
            except ValueError as error:
                told = f"checkpoint {kept.number} in the database is not one of this ledger: {error}"
                return marks, [untrusted(told)]
            wrong = _wrong(kept, last, before)
            if wrong is not None:
                return marks, [Fault(code="wrong_checkpoint", partition=0, position=0, detail=wrong)]
            before = kept.number
    if last is not None and keys and not last.is_signed_by(keys):
        return marks, [untrusted(_unsigned(last, "the database"))]
    return marks, []


async def directory_marks(
    log: Log, directory: Path | None, keys: Sequence[PublicKey] = ()
) -> tuple[MarkTable, list[Fault]]:
    """Return what the last checkpoint of the ledger's own directory says, and what is wrong with that checkpoint.

    Somebody who may change the database, and even has the key, may not be able to change that. Raises OSError and
    Unavailable.
    """
    marks = MarkTable()
    last = last_of_directory(directory)
    if last is None:
        return marks, []
    ledger_id, partitions = await log.identity()
    if last.origin != origin_of(ledger_id) or len(last.trees) != partitions:
        told = f"checkpoint {last.number} in {directory} is not one of this ledger: it is of {last.origin}"
        return marks, [untrusted(told)]
    marks.add(last)
    if keys and not last.is_signed_by(keys):
        return marks, [untrusted(_unsigned(last, str(directory)))]
    stored = await StoredCheckpoints(log).latest()
    number = 0 if stored is None else stored.number
    if number < last.number - 1:  # a backup may have been made between the two
        told = f"{directory} has checkpoint {last.number}, the last one in the database is {number}: those behind it are gone"
        return marks, [Fault(code="wrong_checkpoint", partition=0, position=0, detail=told)]
    return marks, []


def _of_ledger(kept: KeptNote, ledger_id: str, partitions: int) -> Checkpoint:
    checkpoint = next(parse_notes(kept.note))
    if (checkpoint.number, checkpoint.origin) != (kept.number, origin_of(ledger_id)):
        raise InvalidNote(f"it is number {checkpoint.number} of {checkpoint.origin}")
    if len(checkpoint.trees) != partitions:
        raise InvalidNote(f"it has {len(checkpoint.trees)} partitions")
    return checkpoint


def _wrong(kept: KeptNote, checkpoint: Checkpoint, before: int) -> str | None:
    """Say what is wrong with how a checkpoint is kept: one that is thinned out lies in the hour of the one that stays."""
    if kept.made_at != moment(checkpoint.at):
        return f"checkpoint {kept.number} was made at {checkpoint.at}, the column made_at is {kept.made_at.isoformat()}"
    if kept.number > before + 1 and _hour_of(kept.made_at) >= kept.now - ALL_KEPT:
        gone = f"{before + 1}" if kept.number == before + 2 else f"{before + 1} to {kept.number - 1}"
        return f"checkpoint {gone} is gone: all of the last 24 hours are kept"
    return None


def _hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _unsigned(checkpoint: Checkpoint, place: str) -> str:
    names = ", ".join(sorted({name_of(line) for line in checkpoint.signatures})) or "nobody"
    return (
        f"checkpoint {checkpoint.number}, the last one in {place}, is signed by {names}, and by no key that is known: "
        "another hand made it, or the key was changed; if so, name the --key that signs now"
    )


async def wrong_beside(log: Log) -> list[Fault]:
    """Return what is wrong with the catalogs, and the first rows in partitions that there are none of; raises Unavailable."""
    _, partitions = await log.identity()
    faults = [
        Fault(code="wrong_catalog", partition=0, position=0, detail=wrong)
        for row in await stored_catalogs(log)
        if (wrong := _wrong_catalog(row)) is not None
    ][:1]
    for table, partition in await rows_elsewhere(log, partitions):
        detail = f"{table} has rows of partition {partition}; there are {partitions}, from 0"
        faults.append(Fault(code="wrong_partition", partition=partition, position=0, detail=detail))
    return faults


def _wrong_catalog(row: StoredCatalogRow) -> str | None:
    try:
        catalog = parse_catalog(row.source)
    except InvalidCatalog:
        return None  # of a release that could read it; its hash is of what it says
    if (catalog.version, catalog.hash) != (row.version, row.hash):
        return f"catalog {row.version} is stored with the hash {row.hash}; what it says has {catalog.hash}"
    if row.activated not in {None, row.hash}:
        return f"catalog {row.version} has the hash {row.hash}, and was activated with {row.activated}"
    return None
