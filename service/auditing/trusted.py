"""What a verification believes beside the log: checkpoints that were kept elsewhere, and the keys that signed them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from service.auditing.faults import Fault
from service.auditing.marks import MarkList, Marks, MarkTable
from service.checkpoints.directory import last_of_each
from service.checkpoints.keys import InvalidKey, PublicKey
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
    try:
        return tuple(parse_notes(text))
    except InvalidNote as error:
        what = f"in {path}: {error}"
        if text.startswith("{"):
            what += "; this is JSON: of an answer of GET /v1/checkpoints/latest keep the `note` alone"
        raise InvalidNote(what) from None


def read_public_keys(named: Sequence[str]) -> tuple[PublicKey, ...]:
    """Return the public keys that are given as text or as files with one in each line; raises InvalidKey, OSError."""
    return tuple(key for each in named for key in _public_keys(each))


def _public_keys(named: str) -> list[PublicKey]:
    if "+" in named:
        return [PublicKey.parse(named)]
    if not Path(named).is_file():
        raise InvalidKey(f"{named} is neither a file nor a public key, which is <name>+<id>+<base64>")
    try:
        return [PublicKey.parse(text) for text in Path(named).read_text(encoding="utf-8").split()]
    except (InvalidKey, UnicodeDecodeError):
        raise InvalidKey(
            f"{named} has something else in it than public keys, which are <name>+<id>+<base64>; `credit-ledger key show` "
            "prints those of a signing key's file"
        ) from None


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
