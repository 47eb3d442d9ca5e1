"""The Merkle trees of the partitions: grown as the log grows, known again after a restart, asked for proofs.

Of a tree only its frontier is in memory. Roots of whole subtrees of 256 and 65,536 lines are stored, so that whatever part
of a tree is asked for, at most some hundred hashes are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from events.merkle import Frontier, consistency_proof, inclusion_proof
from service.store.checkpoints import StoredCheckpoints, Subtree

LEVELS = (16, 8)
PAGE_LINES = 2_048


class Growing:
    """The tree of a partition as it grows, and the subtrees that became whole on the way and are not stored yet."""

    def __init__(self, partition: int, tree: Frontier) -> None:
        self.partition = partition
        self.tree = tree
        self.subtrees: list[Subtree] = []

    def add(self, leaf: bytes) -> None:
        """Add the next leaf, by its hash."""
        size = self.tree.size
        for level in LEVELS:
            mask = (1 << level) - 1
            if size & mask == mask:
                # The frontier's smallest subtrees are those of the block that this leaf makes whole.
                block = Frontier(mask, self.tree.roots[-level:])
                block.add(leaf)
                self.subtrees.append(Subtree(self.partition, level, size >> level, block.root()))
        self.tree.add(leaf)


def _placeholder(begin: int, end: int) -> bytes:
    return b"%d %d" % (begin, end)


class Trees:
    """Reads parts of trees from the database; every method raises Unavailable."""

    def __init__(self, stored: StoredCheckpoints) -> None:
        self._stored = stored

    async def frontier(self, partition: int, begin: int, end: int) -> Frontier:
        """Return the tree over the lines from index `begin` to `end`; raises LookupError when some are not there."""
        tree = Frontier()
        for level in LEVELS:
            width = 1 << level
            first, last = (begin + tree.size) >> level, end >> level
            if (begin + tree.size) % width == 0 and first < last:
                for root in await self._stored.subtrees(partition, level, first, last):
                    tree.add_subtree(level, root)
        while begin + tree.size < end:
            at = begin + tree.size
            leaves = await self._stored.leaves(partition, at, min(end, at + PAGE_LINES))
            if not leaves:
                raise LookupError(f"partition {partition} has no line {at + 1}")
            for leaf in leaves:
                tree.add(leaf)
        return tree

    async def inclusion(self, partition: int, index: int, size: int) -> list[bytes]:
        """Return the proof that a line, by its index from 0, is in the tree of `size` lines."""
        return await self._resolved(partition, inclusion_proof(index, size, _placeholder))

    async def consistency(self, partition: int, first: int, second: int) -> list[bytes]:
        """Return the proof that the tree of `second` lines begins with that of `first`."""
        return await self._resolved(partition, consistency_proof(first, second, _placeholder))

    async def _resolved(self, partition: int, proof: Sequence[bytes]) -> list[bytes]:
        ranges = [tuple(map(int, step.split())) for step in proof]
        return [(await self.frontier(partition, begin, end)).root() for begin, end in ranges]
