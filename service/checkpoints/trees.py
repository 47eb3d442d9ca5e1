"""The Merkle trees of the partitions: grown as the log grows, known again after a restart, asked for proofs.

Of a tree only its frontier is in memory. Roots of whole subtrees of 256 and 65,536 lines are stored, so that whatever part
of a tree is asked for, at most some hundred hashes are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from events.merkle import Frontier, consistency_proof, inclusion_proof
from service.store.checkpoints import StoredCheckpoints, Subtree

LEVELS = (16, 8)
PAGE_LINES = 2_048


class Range(NamedTuple):
    """A part of a tree: the lines from index `begin` to `end`, which is not part of it."""

    begin: int
    end: int


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

    async def frontier(self, partition: int, begin: int, end: int, *, of_lines: bool = False) -> Frontier:
        """Return the tree over the lines from index `begin` to `end`; raises LookupError when some are not there.

        With `of_lines` nothing is believed but the lines.
        """
        tree = Frontier()
        for level in () if of_lines else LEVELS:
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
        return (await self.inclusions(partition, [index], size))[0]

    async def inclusions(self, partition: int, indexes: Sequence[int], size: int) -> list[list[bytes]]:
        """Return the proofs that lines, by their indexes from 0, are in the tree of `size` lines."""
        proofs = [_ranges(inclusion_proof(index, size, _placeholder)) for index in indexes]
        roots = await self._roots(partition, {step for proof in proofs for step in proof})
        return [[roots[step] for step in proof] for proof in proofs]

    async def consistency(self, partition: int, first: int, second: int) -> list[bytes]:
        """Return the proof that the tree of `second` lines begins with that of `first`; ValueError for none that can."""
        proof = _ranges(consistency_proof(first, second, _placeholder))
        roots = await self._roots(partition, set(proof))
        return [roots[step] for step in proof]

    async def _roots(self, partition: int, ranges: Collection[Range]) -> dict[Range, bytes]:
        """Return the roots over some parts of a tree; raises LookupError when lines are missing."""
        found: dict[int, dict[int, bytes]] = {}
        missing = sorted(ranges)
        for level in LEVELS:
            numbers = sorted({number for part in missing for number in _whole(part, level)})
            found[level] = await self._stored.subtrees_of(partition, level, numbers) if numbers else {}
            missing = [gap for part in missing for gap in _gaps(part, level, found[level])]
        found[0] = {}
        for page in _pages(_merged(missing)):
            found[0] |= await self._stored.leaves_of(partition, page)
        roots: dict[Range, bytes] = {}
        for part in ranges:
            roots[part] = _root(part, found)
            await asyncio.sleep(0)  # others have their turn
        return roots


def _ranges(proof: Sequence[bytes]) -> list[Range]:
    return [Range(*map(int, step.split())) for step in proof]


def _whole(part: Range, level: int) -> range:
    """Return the numbers of the subtrees of a level that lie in a part."""
    return range(-(-part.begin >> level), part.end >> level)


def _gaps(part: Range, level: int, found: Mapping[int, bytes]) -> Iterator[Range]:
    """Yield what of a part the found subtrees do not cover."""
    at = part.begin
    for number in _whole(part, level):
        if number in found:
            if at < number << level:
                yield Range(at, number << level)
            at = (number + 1) << level
    if at < part.end:
        yield Range(at, part.end)


def _merged(parts: Iterable[Range]) -> Iterator[Range]:
    """Yield the same without overlaps, in order."""
    last: Range | None = None
    for part in sorted(parts):
        if last is None or part.begin > last.end:
            if last is not None:
                yield last
            last = part
        else:
            last = Range(last.begin, max(last.end, part.end))
    if last is not None:
        yield last


def _pages(parts: Iterable[Range]) -> Iterator[list[Range]]:
    """Yield the parts, cut so that the lines of a page are bounded."""
    page: list[Range] = []
    lines = 0
    for part in parts:
        for begin in range(part.begin, part.end, PAGE_LINES):
            page.append(Range(begin, min(part.end, begin + PAGE_LINES)))
            lines += page[-1].end - begin
            if lines >= PAGE_LINES:
                yield page
                page, lines = [], 0
    if page:
        yield page


def _root(part: Range, found: Mapping[int, Mapping[int, bytes]]) -> bytes:
    tree = Frontier()
    at = part.begin
    while at < part.end:
        for level in (*LEVELS, 0):
            number = at >> level
            root = found[level].get(number) if number << level == at and (number + 1) << level <= part.end else None
            if root is not None:
                tree.add_subtree(level, root)
                at += 1 << level
                break
        else:
            raise LookupError(f"there is no line {at + 1}")
    return tree.root()
