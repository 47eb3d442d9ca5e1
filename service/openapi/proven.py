"""What checkpoints, proofs and the state of the process look like, as types (see `answers`)."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from service.openapi.answers import Answer, At, Hash, Token


class TreeView(Answer):
    """The Merkle tree of a partition."""

    partition: int
    size: int
    root: str


class CheckpointAnswer(Answer):
    """A signed checkpoint; `note` is what is signed."""

    number: int
    origin: str
    time: At
    events: int
    partitions: list[TreeView]
    note: str


class KeysAnswer(Answer):
    """The public keys that sign."""

    origin: str
    keys: list[str]


class InclusionAnswer(Answer):
    """The proof that an event is in a checkpoint."""

    event: Token
    line: str
    hash: Hash
    partition: int
    leaf_index: int
    leaf_hash: str
    tree_size: int
    root: str
    proof: list[str]
    checkpoint: str


class GrowthAnswer(Answer):
    """The proof that a partition's tree begins with an earlier one."""

    partition: int
    first_size: int
    second_size: int
    first_root: str
    second_root: str
    proof: list[str]


class ConsistencyAnswer(Answer):
    """The proofs between two checkpoints (`first` and `second` are their notes), or of one partition alone."""

    first: str | UnsetType = UNSET
    second: str | UnsetType = UNSET
    partitions: list[GrowthAnswer] | UnsetType = UNSET
    partition: int | UnsetType = UNSET
    first_size: int | UnsetType = UNSET
    second_size: int | UnsetType = UNSET
    first_root: str | UnsetType = UNSET
    second_root: str | UnsetType = UNSET
    proof: list[str] | UnsetType = UNSET


class AliveAnswer(Answer):
    """The process is alive."""

    status: Literal["alive"]


class ReadyAnswer(Answer):
    """The process is ready; `alarms` by part."""

    status: Literal["ready"]
    alarms: dict[str, str] | UnsetType = UNSET
