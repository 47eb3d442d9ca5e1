"""Many marks in little memory: a ledger that is busy all day long signs 86,400 checkpoints of all its partitions."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping

from service.auditing.verifier import Mark
from service.checkpoints.note import Checkpoint

ROOT_BYTES = 32


class MarkList:
    """Marks of one partition, 40 bytes each."""

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        self._sizes = array("q")
        self._roots = bytearray()
        for mark in marks:
            self.add(mark)

    def add(self, mark: Mark) -> None:
        """Add a mark, unless it is the one that was added last: a partition in which nothing happens keeps its own."""
        sizes, roots = self._sizes, self._roots
        if sizes and sizes[-1] == mark.size and roots.endswith(mark.root):
            return
        if len(mark.root) != ROOT_BYTES:
            raise ValueError(f"a Merkle root has {ROOT_BYTES} bytes")
        sizes.append(mark.size)
        roots += mark.root

    def __iter__(self) -> Iterator[Mark]:
        """Yield the marks in the order in which they were added."""
        for number, size in enumerate(self._sizes):
            yield Mark(size, bytes(self._roots[number * ROOT_BYTES : (number + 1) * ROOT_BYTES]))


Marks = Mapping[int, Iterable[Mark]]
"""What signed checkpoints say of each partition."""


class MarkTable(dict[int, MarkList]):
    """The marks of all partitions."""

    def add(self, checkpoint: Checkpoint) -> None:
        """Add what a checkpoint says; ValueError when a root in it is none."""
        for partition, tree in enumerate(checkpoint.trees):
            if partition not in self:
                self[partition] = MarkList()
            self[partition].add(Mark(tree.size, tree.root))
