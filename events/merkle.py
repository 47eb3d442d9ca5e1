"""Merkle trees as RFC 9162 (section 2.1) has them: roots, and proofs that a line is in a log and that a log only grew.

A leaf is the bytes of one line of the log. `Frontier` is a tree that only grows, in memory as the few whole subtrees
that its size is made of, so a log of any length costs some hundred bytes. Proofs name the subtrees that they need by
where they begin and end; whoever has the lines, or stored the hashes of subtrees, says what their hashes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256().digest()
"""The root of a tree without leaves."""

HashOf = Callable[[int, int], bytes]
"""The root of the subtree over the leaves from the first index to the second, which is not part of it."""


def leaf_hash(line: bytes) -> bytes:
    """Return the 32 bytes that stand for a line in the tree."""
    return sha256(b"\x00" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32 bytes of a node over two others."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """A tree that leaves are added to: `size` and the roots of its whole subtrees, the largest first."""

    __slots__ = ("roots", "size")

    def __init__(self, size: int = 0, roots: Iterable[bytes] = ()) -> None:
        self.size = size
        self.roots = list(roots)
        if len(self.roots) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} whole subtrees, not {len(self.roots)}")

    def add(self, leaf: bytes) -> None:
        """Add the next leaf, by its hash."""
        roots, carry = self.roots, self.size
        while carry & 1:  # node_hash in place: this is done for every line that is verified or signed
            leaf = sha256(b"\x01" + roots.pop() + leaf).digest()
            carry >>= 1
        roots.append(leaf)
        self.size += 1

    def add_subtree(self, level: int, root: bytes) -> None:
        """Add a whole subtree of 2^`level` leaves; ValueError where none can stand."""
        if self.size & ((1 << level) - 1):
            raise ValueError(f"no subtree of {1 << level} leaves begins at {self.size}")
        carry = self.size >> level
        while carry & 1:
            root = node_hash(self.roots.pop(), root)
            carry >>= 1
        self.roots.append(root)
        self.size += 1 << level

    def root(self) -> bytes:
        """Return the root of the tree as it is."""
        if not self.roots:
            return EMPTY_ROOT
        root = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            root = node_hash(left, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaves given by their hashes."""
    tree = Frontier()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


def _split(count: int) -> int:
    """Return the largest power of two below `count`, which is above 1."""
    return 1 << (count - 1).bit_length() - 1


def inclusion_proof(index: int, size: int, hash_of: HashOf) -> list[bytes]:
    """Return the proof that the leaf at `index` (from 0) is in the tree of `size` leaves (RFC 9162 section 2.1.3)."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    proof: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            proof.append(hash_of(middle, end))
            end = middle
        else:
            proof.append(hash_of(begin, middle))
            begin = middle
    return proof[::-1]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether `proof` shows that a leaf, by its hash, stands at `index` of the tree with this size and root."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(step, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, step)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def consistency_proof(first: int, second: int, hash_of: HashOf) -> list[bytes]:
    """Return the proof that the tree of `second` leaves begins with that of `first` (RFC 9162 section 2.1.4)."""
    if not 0 < first <= second:
        raise ValueError(f"no tree of {second} leaves begins with one of {first}")
    if first == second:
        return []
    proof: list[bytes] = []
    begin, end = 0, second
    while end != first:
        middle = begin + _split(end - begin)
        if first <= middle:
            proof.append(hash_of(middle, end))
            end = middle
        else:
            proof.append(hash_of(begin, middle))
            begin = middle
    if begin:
        proof.append(hash_of(begin, end))
    return proof[::-1]


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether `proof` shows that the tree of `second` leaves begins with that of `first`."""
    if first == second:
        return not proof and first_root == second_root
    if not 0 < first < second or not proof:
        return False
    steps = list(proof) if first & (first - 1) else [first_root, *proof]
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, step)
        at, last = at >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root
