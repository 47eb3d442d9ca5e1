"""Checks proofs that the ledger answered, without the ledger: `credit-ledger audit proof`.

It shares with the service only the published format and RFC 9162. A proof is worth what the checkpoints in it are worth,
so a public key must have signed them; without one they are to be compared with checkpoints that were kept.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, cast

import msgspec

from events.merkle import leaf_hash, verify_consistency, verify_inclusion
from events.recorded import decode
from service.checkpoints.keys import PublicKey
from service.checkpoints.note import Checkpoint, parse_notes

Proof = Mapping[str, Any]


class NotProven(ValueError):
    """The proof does not prove what it says; the message says why."""


def check_proof(proof: object, keys: Sequence[PublicKey], kept: Sequence[Checkpoint] = ()) -> str:
    """Return in words what a proof proves; raises NotProven.

    One of the keys must have signed its checkpoints, and those of them that were kept must be the same. Without a key
    the checkpoint that it begins from must be one that was kept.
    """
    if not isinstance(proof, dict):
        raise NotProven("it is no proof")
    told = cast("Proof", proof)
    try:
        if "first" in told:
            return _consistency(told, keys, kept)
        return _inclusion(told, keys, kept)
    except NotProven:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, msgspec.MsgspecError) as error:
        raise NotProven(f"it is no proof of a credit ledger ({error})") from None


def _inclusion(proof: Proof, keys: Sequence[PublicKey], kept: Sequence[Checkpoint]) -> str:
    checkpoint = _trusted(proof["checkpoint"], keys, kept)
    line = str(proof["line"]).encode()
    event = decode(line)
    size, root = checkpoint.trees[event.partition]
    steps = _steps(proof["proof"])
    told = {
        "hash": sha256(line).hexdigest(),
        "partition": event.partition,
        "leaf_index": event.position - 1,
        "leaf_hash": b64encode(leaf_hash(line)).decode(),
        "tree_size": size,
        "root": b64encode(root).decode(),
    }
    _require(proof, told)
    if event.id != f"{event.partition}-{event.position}" or event.id != proof["event"]:
        raise NotProven(f"the line is of event {event.id}, not of {proof['event']}")
    if not verify_inclusion(event.position - 1, size, leaf_hash(line), steps, root):
        raise NotProven(f"event {event.id} is not in checkpoint {checkpoint.number}")
    return f"event {event.id} is in checkpoint {checkpoint.number} of {checkpoint.origin}, made at {checkpoint.at}"


def _consistency(proof: Proof, keys: Sequence[PublicKey], kept: Sequence[Checkpoint]) -> str:
    first, second = _trusted(proof["first"], keys, kept), _parsed(proof["second"], keys, kept)
    if (first.origin, len(first.trees)) != (second.origin, len(second.trees)) or first.number > second.number:
        raise NotProven("the checkpoints are of two ledgers, or in the wrong order")
    for partition, (old, new, each) in enumerate(zip(first.trees, second.trees, proof["partitions"], strict=True)):
        told = {
            "partition": partition,
            "first_size": old.size,
            "second_size": new.size,
            "first_root": b64encode(old.root).decode(),
            "second_root": b64encode(new.root).decode(),
        }
        _require(each, told)
        steps = _steps(each["proof"])
        if old.size and not verify_consistency(old.size, new.size, old.root, new.root, steps):
            raise NotProven(
                f"partition {partition} of checkpoint {second.number} does not begin with the {old.size} lines of "
                f"checkpoint {first.number}: its history was rewritten"
            )
    return (
        f"checkpoint {second.number} of {second.origin}, with {second.events} events, begins with the {first.events} of "
        f"checkpoint {first.number}: nothing was changed in between"
    )


def _require(proof: Proof, told: Mapping[str, object]) -> None:
    """Raise NotProven when a proof says of itself what does not follow from its line and its checkpoints."""
    for name, value in told.items():
        if proof[name] != value or type(proof[name]) is not type(value):
            raise NotProven(f"its {name} is {proof[name]!r}, and should be {value!r}")


def _steps(encoded: Sequence[str]) -> list[bytes]:
    steps = [b64decode(step, validate=True) for step in encoded]
    if [b64encode(step).decode() for step in steps] != list(encoded):
        raise ValueError("a step is not written as base64 is")
    return steps


def _trusted(note: object, keys: Sequence[PublicKey], kept: Sequence[Checkpoint]) -> Checkpoint:
    """Return a checkpoint that there is a reason to believe: a signature, or that it was kept."""
    checkpoint = _parsed(note, keys, kept)
    if not keys and all(other.text() != checkpoint.text() for other in kept):
        raise NotProven(f"checkpoint {checkpoint.number} is none of those that were kept, and no key was given")
    return checkpoint


def _parsed(note: object, keys: Sequence[PublicKey], kept: Sequence[Checkpoint]) -> Checkpoint:
    checkpoint = next(parse_notes(str(note)))
    if keys and not checkpoint.is_signed_by(keys):
        raise NotProven(f"checkpoint {checkpoint.number} is not signed by a key that was given")
    for other in kept:
        if (other.origin, other.number) == (checkpoint.origin, checkpoint.number) and other.text() != checkpoint.text():
            raise NotProven(f"checkpoint {checkpoint.number} is another one than the one that was kept")
    return checkpoint
