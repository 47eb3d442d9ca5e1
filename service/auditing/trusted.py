"""What a verification believes beside the log: checkpoints that were kept elsewhere, and the keys that signed them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from service.auditing.faults import Fault
from service.auditing.parallel import Marks
from service.auditing.verifier import Mark
from service.checkpoints.keys import PublicKey
from service.checkpoints.note import Checkpoint, parse_notes
from service.store.checkpoints import StoredCheckpoints
from service.store.log import Log


def read_checkpoints(path: Path) -> tuple[Checkpoint, ...]:
    """Return the checkpoints of a file; raises InvalidNote and OSError."""
    text = path.read_text(encoding="utf-8", errors="replace")  # one that is cut off may end inside of a character
    return tuple(parse_notes(text))


def read_public_keys(named: Sequence[str]) -> tuple[PublicKey, ...]:
    """Return the public keys that are given as text or as files with one in each line; raises InvalidKey, OSError."""
    texts: list[str] = []
    for each in named:
        texts += [each] if "+" in each else Path(each).read_text(encoding="utf-8").split()
    return tuple(PublicKey.parse(text) for text in texts)


def marks_of(checkpoints: Sequence[Checkpoint], trusted: Sequence[PublicKey]) -> tuple[Marks, list[Fault]]:
    """Return what checkpoints say of each partition, and a fault for each that none of the trusted keys signed."""
    marks: dict[int, list[Mark]] = {}
    faults: list[Fault] = []
    for checkpoint in checkpoints:
        if trusted and not checkpoint.is_signed_by(trusted):
            detail = f"checkpoint {checkpoint.number} of {checkpoint.origin} is not signed by a key that was given"
            faults.append(Fault(code="wrong_signature", partition=0, position=0, detail=detail))
            continue
        if checkpoint.origin != checkpoints[0].origin:
            detail = f"checkpoints of {checkpoint.origin} and of {checkpoints[0].origin} stand in one file"
            faults.append(Fault(code="wrong_signature", partition=0, position=0, detail=detail))
            continue
        for partition, tree in enumerate(checkpoint.trees):
            marks.setdefault(partition, []).append(Mark(tree.size, tree.root))
    return {partition: sorted(set(found)) for partition, found in marks.items()}, faults


async def own_marks(log: Log, marks: Marks) -> Marks:
    """Return the marks with those of the database's own last checkpoint; raises InvalidNote and Unavailable."""
    stored = await StoredCheckpoints(log).latest()
    if stored is None:
        return marks
    own, _ = marks_of([next(parse_notes(stored.note))], ())
    return {partition: [*own.get(partition, ()), *marks.get(partition, ())] for partition in {*own, *marks}}
