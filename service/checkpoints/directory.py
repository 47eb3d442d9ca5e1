"""The directory of checkpoints: a file for each day, to which notes are only ever added.

It may be on another machine's disk, where this process may do nothing else. A crash can leave a note there that is cut
off; the next process cannot take it back, so it writes behind it that it is not whole (`note.CUT_OFF`), and adds the
note again, from the database.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.checkpoints.keys import DASH
from service.checkpoints.note import CUT_OFF, Checkpoint, InvalidNote, parse_notes

TAIL_BYTES = 1_048_576
"""The last checkpoint of a file stands in its last bytes."""


def append_notes(directory: Path, notes: Sequence[str]) -> None:
    """Add checkpoints to the files of their days, and bring them to the disk; raises InvalidNote and OSError."""
    by_day: dict[str, list[str]] = {}
    for note in notes:
        by_day.setdefault(next(parse_notes(note)).at[:10], []).append(note)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for day, of_day in by_day.items():
        _append(directory / f"{day}.checkpoints", "".join(f"{note}\n" for note in of_day))


def _append(path: Path, text: str) -> None:
    is_new = not path.exists()
    with path.open("ab", buffering=0) as file:  # in one piece, for others may read or add
        file.write(text.encode())
        os.fsync(file.fileno())
    if is_new:
        _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _newest_first(directory: Path) -> Iterator[Path]:
    return iter(sorted(directory.glob("*.checkpoints"), reverse=True))


def mend(directory: Path) -> bool:
    """Say in the newest file that its last note is cut off, if it is; returns whether it was. Raises OSError."""
    path = next(_newest_first(directory), None) if directory.is_dir() else None
    if path is None:
        return False
    tail = _tail(path)
    if not tail or (tail.endswith("\n\n") and tail.strip("\n").rpartition("\n\n")[2].startswith((DASH, CUT_OFF))):
        return False
    _append(path, f"\n\n{CUT_OFF}\n\n")
    return True


def last_of_directory(directory: Path | None) -> Checkpoint | None:
    """Return the last whole checkpoint of a directory, None when it has none; raises OSError."""
    if directory is None or not directory.is_dir():
        return None
    return next((found for path in _newest_first(directory) if (found := _last_of(path)) is not None), None)


def last_of_each(directory: Path) -> tuple[Checkpoint, ...]:
    """Return the last checkpoint of each file of a directory, the oldest first; raises InvalidNote and OSError.

    In the newest file a note may be being written, or be cut off. Anywhere else what does not end with a whole note was
    changed.
    """
    paths = list(_newest_first(directory))
    for number, path in enumerate(paths):
        _require_whole(path, is_newest=number == 0)
    found = [_last_of(path) for path in paths]
    return tuple(checkpoint for checkpoint in reversed(found) if checkpoint is not None)


def _require_whole(path: Path, *, is_newest: bool) -> None:
    blocks = _blocks(path)
    end = _end_of_last(blocks)
    behind = blocks[end:]
    is_cut_off = behind[-1:] == [CUT_OFF] or (is_newest and len(behind) <= 1)
    ends_in_line = not is_newest and not _tail(path).endswith("\n")
    if ends_in_line or ((behind or not end) and not is_cut_off):
        raise InvalidNote(f"{path} was changed: it does not end with a checkpoint that agrees with itself")


def _last_of(path: Path) -> Checkpoint | None:
    blocks = _blocks(path)
    end = _end_of_last(blocks)
    return next(parse_notes("\n\n".join(blocks[end - 2 : end]))) if end else None


def _blocks(path: Path) -> list[str]:
    return [block.strip("\n") for block in _tail(path).split("\n\n") if block.strip()]


def _end_of_last(blocks: Sequence[str]) -> int:
    """Return behind which block the last whole note ends, 0 when there is none."""
    for end in range(len(blocks), 1, -1):
        if end < len(blocks) and blocks[end] == CUT_OFF:
            continue
        try:
            next(parse_notes("\n\n".join(blocks[end - 2 : end])))
        except InvalidNote:
            continue  # cut off by a crash, or the signatures of the one before
        return end
    return 0


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")
