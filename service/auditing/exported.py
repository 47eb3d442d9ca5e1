"""Verification of an export: a file of lines as they are stored, of any number of partitions in any mixture.

Each process reads the whole file and judges the lines of its own partitions, so nothing has to be handed from one
process to another, and memory stays bounded whatever the file's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from service.auditing.database import Advance
from service.auditing.faults import Faulty
from service.auditing.memory import UNITS_IN_MEMORY_MAX, States
from service.auditing.shelf import SHELF_ITEMS_MAX, Budget
from service.auditing.verifier import Mark, Verified, Verifier

PARTITIONS_MAX = 1024
ADVANCE_BYTES = 1_048_576
_PARTITION = b'"partition":'
_DIGITS_MAX = 4
_TAIL_BYTES = 300
"""The field and what stands behind it are shorter."""


def verify_export(
    path: Path,
    *,
    share: int = 0,
    shares: int = 1,
    partitions: int | None = None,
    marks: Mapping[int, Iterable[Mark]] | None = None,
    advance: Advance,
) -> list[Verified]:
    """Return what the partitions of a file came to that belong to one of `shares`; raises OSError."""
    judged = _Share(partitions, marks or {})
    try:
        with path.open("rb") as file:
            partition = share
            done = 0
            for line in file:
                named = _partition_of(line)
                # A line that names no partition is judged as one of the partition that the line before it is of.
                partition = partition if named is None else named
                if partition % shares == share:
                    judged.take(partition, line.removesuffix(b"\n"))
                done += len(line)
                if done > ADVANCE_BYTES:
                    advance(done)
                    done = 0
            advance(done)
        return judged.results()
    finally:
        judged.close()


def _partition_of(line: bytes) -> int | None:
    """Return the partition that a line says it is of; behind that field there is no text that a caller chose."""
    begin = line.rfind(_PARTITION, -_TAIL_BYTES)
    if begin < 0:
        return None
    begin += len(_PARTITION)
    digits = line[begin : line.find(b",", begin)]
    return int(digits) if len(digits) <= _DIGITS_MAX and digits.isdigit() and int(digits) < PARTITIONS_MAX else None


class _Share:
    """The partitions that one process judges."""

    def __init__(self, partitions: int | None, marks: Mapping[int, Iterable[Mark]]) -> None:
        self._partitions = partitions
        self._marks = marks
        self._budget = Budget(SHELF_ITEMS_MAX)
        self._verifiers: dict[int, Verifier] = {}
        self._results: dict[int, Verified] = {}

    def take(self, partition: int, line: bytes) -> None:
        if partition in self._results:
            return  # something is wrong with it already, and nothing behind it can be judged
        verifier = self._verifiers.get(partition) or self._begin(partition)
        try:
            verifier.take(line)
        except Faulty as faulty:
            self._end(verifier, faulty)

    def _begin(self, partition: int) -> Verifier:
        states = States(budget=self._budget)
        verifier = Verifier(partition, states, partitions=self._partitions, marks=self._marks.get(partition, ()))
        self._verifiers[partition] = verifier
        for each in self._verifiers.values():
            each.states.units_max = UNITS_IN_MEMORY_MAX // len(self._verifiers)
        return verifier

    def _end(self, verifier: Verifier, faulty: Faulty | None) -> None:
        self._results[verifier.partition] = verifier.result(None if faulty is None else faulty.fault)
        verifier.states.close()

    def results(self) -> list[Verified]:
        """Return what became of each partition."""
        for partition, verifier in self._verifiers.items():
            if partition in self._results:
                continue
            try:
                verifier.end()
                verifier.finish()
            except Faulty as faulty:
                self._end(verifier, faulty)
            else:
                self._end(verifier, None)
        return [self._results[partition] for partition in sorted(self._results)]

    def close(self) -> None:
        for verifier in self._verifiers.values():
            verifier.states.close()
