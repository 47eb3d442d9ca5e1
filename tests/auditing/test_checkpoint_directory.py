"""Laws of the directory of checkpoints: wherever a crash cuts it off, what was whole is read, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.instants import Instant
from events.merkle import leaf_hash
from service.auditing.trusted import read_checkpoints
from service.checkpoints.directory import append_notes, last_of_directory, mend
from service.checkpoints.keys import SigningKey
from service.checkpoints.note import Checkpoint, InvalidNote, Tree, parse_notes

KEY = SigningKey("tests", bytes(range(32)))


def checkpoint(number: int, day: int = 1) -> Checkpoint:
    trees = tuple(Tree(number + n, leaf_hash(b"%d %d" % (number, n))) for n in range(2))
    return Checkpoint("credit-ledger/x", number, Instant(f"2026-11-0{day}T09:30:00.000000Z"), trees).signed([KEY])


def test_what_is_added_is_read_in_files_of_its_days(tmp_path: Path) -> None:
    assert last_of_directory(tmp_path / "not-there") is None
    made = [checkpoint(1), checkpoint(2), checkpoint(3, day=2)]
    append_notes(tmp_path / "new", [each.note() for each in made])
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == ["2026-11-01.checkpoints", "2026-11-02.checkpoints"]
    assert [each for file in files for each in parse_notes(file.read_text())] == made
    assert last_of_directory(tmp_path / "new") == made[2]
    assert read_checkpoints(tmp_path / "new") == (made[1], made[2]), "of each file the last"
    with pytest.raises(InvalidNote):
        read_checkpoints(tmp_path)
    assert not mend(tmp_path / "new")


def test_wherever_a_note_is_cut_off_the_next_one_is_whole(tmp_path: Path) -> None:
    notes = [checkpoint(number).note() for number in (1, 2)]
    append_notes(tmp_path, notes)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    first = len(notes[0].encode()) + 1
    for end in range(first + 1, len(whole)):
        file.write_bytes(whole[:end])
        assert mend(tmp_path)
        assert not mend(tmp_path), "once is enough"
        assert last_of_directory(tmp_path) == checkpoint(1)
        append_notes(tmp_path, [checkpoint(2).note(), checkpoint(3).note()])
        assert read_checkpoints(file) == (checkpoint(1), checkpoint(2), checkpoint(3))
        assert last_of_directory(tmp_path) == checkpoint(3)


def test_a_copy_that_ends_in_the_middle_of_a_note_has_those_before(tmp_path: Path) -> None:
    one = checkpoint(1).note()
    body = checkpoint(2).text()
    assert list(parse_notes(f"{one}\n{body[:40]}")) == [checkpoint(1)]
    for text in ("", body, "cut off\n", f"{body}\n\ncut off\n"):
        with pytest.raises(InvalidNote):
            list(parse_notes(text))


def test_a_day_that_was_changed_is_not_passed_over(tmp_path: Path) -> None:
    append_notes(tmp_path, [checkpoint(1).note(), checkpoint(2).note(), checkpoint(3, day=2).note()])
    old, new = sorted(tmp_path.iterdir())
    texts = {file: file.read_text() for file in (old, new)}
    for file, changed in (
        (old, ""),
        (old, texts[old].replace("partition 1 3", "partition 1 4")),
        (old, texts[old][:-100]),
        (new, texts[new].replace("partition 1 4", "partition 1 3")),
    ):
        assert changed != texts[file]
        file.write_text(changed)
        with pytest.raises(InvalidNote, match="was changed"):
            read_checkpoints(tmp_path)
        file.write_text(texts[file])
    new.write_text(checkpoint(3, day=2).text()[:50])
    assert read_checkpoints(tmp_path) == (checkpoint(2),), "the newest one is being written"
