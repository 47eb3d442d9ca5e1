"""The format of the log is told well enough: a verifier written from the page alone accepts good logs and no bad ones."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from events.instants import Instant
from events.merkle import leaf_hash, root_of
from service.auditing.faults import MEANINGS
from service.checkpoints.keys import SigningKey
from service.checkpoints.note import Checkpoint, Tree
from tests.auditing.outsider import verify
from tests.auditing.test_tampering import OF_LINES, by_partition
from tests.servers import PARTITIONS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "log-format.md"


def signed(lines: dict[int, list[bytes]]) -> str:
    trees = [Tree(len(lines.get(n, [])), root_of(map(leaf_hash, lines.get(n, [])))) for n in range(PARTITIONS)]
    at = Instant("2026-11-01T09:30:00.000000Z")
    return Checkpoint("credit-ledger/x", 1, at, tuple(trees)).signed([SigningKey.create("x")]).note()


def test_it_accepts_good_logs(exported_lines: list[bytes]) -> None:
    assert verify(exported_lines, signed(by_partition(exported_lines))) is None


def test_it_understands_every_kind_of_event() -> None:
    from tests.domain.test_replay import eventful

    assert verify([line.line for line in eventful().log]) is None


def test_it_accepts_no_bad_log(exported_lines: list[bytes]) -> None:
    random, true = Random(3), by_partition(exported_lines)
    note = signed(true)
    for number in range(40):
        partition = random.choice([each for each in true if len(true[each]) > 2])
        lines = {**true, partition: list(true[partition])}
        OF_LINES[number % len(OF_LINES)](lines[partition], random.randrange(len(true[partition])), random)
        assert verify([line for of in lines.values() for line in of], note) is not None


def test_the_page_has_every_code_that_the_verifier_reports() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert {code: told.get(code) for code in MEANINGS} == MEANINGS
