"""What a verification believes beside the log: checkpoints that were kept elsewhere, and the keys that signed them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from service.auditing.faults import Fault
from service.auditing.marks import MarkList, Marks, MarkTable
from service.checkpoints.directory import last_of_each
from service.checkpoints.keys import PublicKey
from service.checkpoints.note import Checkpoint, InvalidNote, parse_notes
from service.store.checkpoints import StoredCheckpoints
from service.store.log import Log


def read_checkpoints(path: Path) -> tuple[Checkpoint, ...]:
    """Return the checkpoints of a file, or of a directory the last one of each of its files.

    The last one of a day has all lines that those before it have. Raises InvalidNote and OSError.
    """
    if path.is_dir():
        found = last_of_each(path)
        if not found:
            raise InvalidNote(f"there is no checkpoint in {path}")
        return found
    text = path.read_text(encoding="utf-8", errors="replace")  # one that is cut off may end inside of a character
    return tuple(parse_notes(text))


def read_public_keys(named: Sequence[str]) -> tuple[PublicKey, ...]:
    """Return the public keys that are given as text or as files with one in each line; raises InvalidKey, OSError."""
    texts: list[str] = []
    for each in named:
        texts += [each] if "+" in each else Path(each).read_text(encoding="utf-8").split()
    return tuple(PublicKey.parse(text) for text in texts)


def marks_of(checkpoints: Sequence[Checkpoint], trusted: Sequence[PublicKey]) -> tuple[MarkTable, list[Fault]]:
    """Return what checkpoints say of each partition, and a fault for each that none of the trusted keys signed."""
    marks = MarkTable()
    faults: list[Fault] = []
    for checkpoint in checkpoints:
        if trusted and not checkpoint.is_signed_by(trusted):
            detail = f"checkpoint {checkpoint.number} of {checkpoint.origin} is not signed by a key that was given"
            faults.append(untrusted(detail))
        elif checkpoint.origin != checkpoints[0].origin:
            faults.append(untrusted(f"checkpoints of {checkpoint.origin} and of {checkpoints[0].origin} were given"))
        else:
            marks.add(checkpoint)
    return marks, faults


def untrusted(detail: str) -> Fault:
    """Return the fault of a checkpoint that there is no reason to believe."""
    return Fault(code="wrong_signature", partition=0, position=0, detail=detail)


async def last_marks(log: Log) -> Marks:
    """Return what the last checkpoint in the database says; raises InvalidNote and Unavailable."""
    stored = await StoredCheckpoints(log).latest()
    return {} if stored is None else marks_of([next(parse_notes(stored.note))], ())[0]


def together(some: Marks, others: Marks) -> Marks:
    """Return the marks of both."""
    return {
        partition: MarkList(chain(some.get(partition, ()), others.get(partition, ()))) for partition in {*some, *others}
    }
