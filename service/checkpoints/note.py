"""A checkpoint as text: a C2SP signed note in the checkpoint format (c2sp.org/tlog-checkpoint).

    credit-ledger/6f1c...          the origin: which ledger
    16                             how many partitions it has: the leaves of the tree over them
    gGg3...=                       the Merkle root over the partition lines below
    number 17                      the 17th checkpoint
    time 2026-11-01T09:30:00.000000Z
    partition 0 1234 uyT0...=      partition, how many lines it had, and the Merkle root over these lines
    partition 1 0 47DE...=
    ...
                                   an empty line, then the signatures over all of the above
    \N{EM DASH} credit-ledger f0kN...=

A leaf of the tree over the partitions is the text of a partition's line. Several notes may stand in a file, with an empty
line between them; one behind which stands a line `cut off` was not written to its end, and is passed over.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from events.instants import Instant
from events.merkle import leaf_hash, root_of
from service.checkpoints.keys import DASH, PublicKey, SigningKey, verified_by

CUT_OFF = "cut off"
"""Stands behind a note in a file that a crash cut off."""


def origin_of(ledger_id: str) -> str:
    """Return the first line of a ledger's checkpoints."""
    return f"credit-ledger/{ledger_id}"


class InvalidNote(ValueError):
    """The text is no checkpoint of a ledger; the message says why."""


class Tree(NamedTuple):
    """A partition in a checkpoint: how many lines it had, and their Merkle root."""

    size: int
    root: bytes


class Checkpoint(NamedTuple):
    """What a ledger was at an instant, with the signature lines; `trees` has all partitions, by their number."""

    origin: str
    number: int
    at: Instant
    trees: tuple[Tree, ...]
    signatures: tuple[str, ...] = ()

    @property
    def events(self) -> int:
        """How many events the ledger had."""
        return sum(tree.size for tree in self.trees)

    def text(self) -> str:
        """Return what is signed."""
        lines = [_line(partition, tree) for partition, tree in enumerate(self.trees)]
        root = b64encode(root_of(leaf_hash(line.encode()) for line in lines)).decode()
        head = [self.origin, str(len(lines)), root, f"number {self.number}", f"time {self.at}"]
        return "".join(f"{line}\n" for line in (*head, *lines))

    def signed(self, keys: Sequence[SigningKey]) -> Checkpoint:
        """Return the checkpoint with the signatures of all keys."""
        text = self.text()
        return self._replace(signatures=tuple(key.sign(text) for key in keys))

    def note(self) -> str:
        """Return the signed note."""
        return f"{self.text()}\n" + "".join(f"{line}\n" for line in self.signatures)

    def is_signed_by(self, keys: Sequence[PublicKey]) -> bool:
        """Say whether one of the keys signed it."""
        return verified_by(self.text(), self.signatures, keys)


def _line(partition: int, tree: Tree) -> str:
    return f"partition {partition} {tree.size} {b64encode(tree.root).decode()}"


def parse_notes(text: str) -> Iterator[Checkpoint]:
    """Yield the checkpoints of a file, which has at least one; raises InvalidNote.

    One that is cut off is passed over, at the end of the file as well.
    """
    found = 0
    blocks = [block.strip("\n") for block in text.replace("\r\n", "\n").split("\n\n") if block.strip()]
    at = 0
    while at < len(blocks):
        cut_off = next((end for end in (at, at + 1, at + 2) if blocks[end : end + 1] == [CUT_OFF]), None)
        if cut_off is not None:
            at = cut_off + 1
            continue
        if at + 1 == len(blocks) and found:
            return
        yield _parsed(blocks[at], "".join(blocks[at + 1 : at + 2]).split("\n"))
        found += 1
        at += 2
    if not found:
        raise InvalidNote("there is no checkpoint in it")


def _parsed(body: str, signatures: list[str]) -> Checkpoint:
    lines = body.split("\n")
    try:
        origin, count, _, number, at, *partitions = lines
        trees = tuple(_tree(partition, line) for partition, line in enumerate(partitions))
        checkpoint = Checkpoint(
            origin,
            int(number.removeprefix("number ")),
            Instant(at.removeprefix("time ")),
            trees,
            tuple(line for line in signatures if line.startswith(f"{DASH} ")),
        )
        is_whole = int(count) == len(trees) and len(checkpoint.signatures) == len(signatures)
    except (ValueError, IndexError):
        raise InvalidNote("it is no checkpoint of a credit ledger") from None
    if not is_whole or checkpoint.text() != f"{body}\n":
        raise InvalidNote("it does not agree with itself: its root is not that of its partitions, or it is cut off")
    return checkpoint


def _tree(partition: int, line: str) -> Tree:
    word, number, size, root = line.split(" ")
    if word != "partition" or int(number) != partition:
        raise ValueError(line)
    return Tree(int(size), b64decode(root, validate=True))
