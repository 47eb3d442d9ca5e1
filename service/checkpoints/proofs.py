"""What those who check the ledger from outside ask for: checkpoints, the keys, and proofs of inclusion and consistency."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from time import monotonic

from events.errors import InvalidRequest, NotFound
from events.merkle import leaf_hash
from service.auditing.travel import EventNotFound, NoEventId, line_of
from service.checkpoints.keys import PublicKey
from service.checkpoints.note import Checkpoint, Tree, origin_of, parse_notes
from service.checkpoints.trees import Trees
from service.outages import Unavailable
from service.store.checkpoints import StoredCheckpoints
from service.store.log import Log

WAIT_SECONDS = 2.0
POLL_SECONDS = 0.1

View = dict[str, object]


NO_KEY = "this ledger signs no checkpoints: LEDGER_SIGNING_KEY_FILE is not set"


class Proofs:
    """Answers about checkpoints; every answer is a JSON object."""

    def __init__(self, log: Log, ledger_id: str, partitions: int, keys: Sequence[PublicKey]) -> None:
        self._log = log
        self._origin = origin_of(ledger_id)
        self._partitions = partitions
        self._keys = tuple(keys)
        self._stored = StoredCheckpoints(log)
        self._trees = Trees(self._stored)

    async def latest(self) -> View:
        """Return the last checkpoint; raises NotFound and Unavailable."""
        checkpoint = await self._latest()
        if checkpoint is None:
            raise NotFound("there is no checkpoint yet")
        return _view(checkpoint)

    async def key(self) -> View:
        """Return the public keys that sign; raises NotFound when nothing is signed."""
        self._require_keys()
        return {"origin": self._origin, "keys": [str(key) for key in self._keys]}

    async def inclusion(self, event_id: str) -> View:
        """Return the proof that an event is in the last checkpoint; raises InvalidRequest, NotFound and Unavailable.

        A checkpoint that has a fresh event is waited for, 2 s at most.
        """
        self._require_keys()
        try:
            line = await line_of(self._log, self._partitions, event_id)
        except NoEventId as error:
            raise InvalidRequest.at("event", str(error)) from None
        except EventNotFound as error:
            raise NotFound(str(error), event=event_id) from None
        partition, position = line.event.partition, line.event.position
        checkpoint = await self.covering(partition, position)
        size, root = checkpoint.trees[partition]
        proof = await self._trees.inclusion(partition, position - 1, size)
        return {
            "event": event_id,
            "line": line.line.decode(),
            "hash": line.hash,
            "partition": partition,
            "leaf_index": position - 1,
            "leaf_hash": b64encode(leaf_hash(line.line)).decode(),
            "tree_size": size,
            "root": b64encode(root).decode(),
            "proof": [b64encode(step).decode() for step in proof],
            "checkpoint": checkpoint.note(),
        }

    async def proven(self, partition: int, positions: Sequence[int]) -> tuple[Checkpoint, list[list[str]]]:
        """Return a checkpoint and, for each line by its position, the proof that it has it; raises Unavailable."""
        checkpoint = await self.covering(partition, max(positions, default=0))
        indexes = [position - 1 for position in positions]
        proofs = await self._trees.inclusions(partition, indexes, checkpoint.trees[partition].size)
        return checkpoint, [[b64encode(step).decode() for step in proof] for proof in proofs]

    def _require_keys(self) -> None:
        if not self._keys:
            raise NotFound(NO_KEY)

    async def _latest(self) -> Checkpoint | None:
        self._require_keys()
        stored = await self._stored.latest()
        return None if stored is None else next(parse_notes(stored.note))

    async def numbered(self, number: int) -> View:
        """Return a checkpoint by its number; raises NotFound and Unavailable."""
        self._require_keys()
        return _view(await self._checkpoint(number))

    async def consistency(self, from_: int, to: int | None) -> View:
        """Return the proofs that each partition of a checkpoint begins with what an earlier one has.

        Raises NotFound, InvalidRequest and Unavailable.
        """
        self._require_keys()
        first = await self._checkpoint(from_)
        second = await self._latest() if to is None else await self._checkpoint(to)
        if second is None or second.number < first.number:
            raise InvalidRequest.at("to", "is a later checkpoint than from, or the same")
        pairs = enumerate(zip(first.trees, second.trees, strict=True))
        proofs = [await self._grown(partition, old, new) for partition, (old, new) in pairs]
        return {"first": first.note(), "second": second.note(), "partitions": proofs}

    async def growth(self, partition: int, from_: int, to: int | None) -> View:
        """Return the proof that a partition's tree of `to` lines, all signed ones by default, begins with `from_` of them.

        Raises NotFound, InvalidRequest and Unavailable.
        """
        self._require_keys()
        if partition >= self._partitions:
            raise InvalidRequest.at("partition", f"there are {self._partitions}, from 0")
        latest = await self._latest()
        signed = 0 if latest is None else latest.trees[partition].size
        until = signed if to is None else to
        if not from_ <= until <= signed:
            raise InvalidRequest.at("to", f"is at least from, and at most {signed}, which the last checkpoint has")
        old, new = [Tree(size, (await self._trees.frontier(partition, 0, size)).root()) for size in (from_, until)]
        return await self._grown(partition, old, new)

    async def _grown(self, partition: int, old: Tree, new: Tree) -> View:
        proof = await self._trees.consistency(partition, old.size, new.size) if old.size else []
        return {
            "partition": partition,
            "first_size": old.size,
            "second_size": new.size,
            "first_root": b64encode(old.root).decode(),
            "second_root": b64encode(new.root).decode(),
            "proof": [b64encode(step).decode() for step in proof],
        }

    async def _checkpoint(self, number: int) -> Checkpoint:
        note = await self._stored.note(number)
        if note is None:
            raise NotFound(f"checkpoint {number} is not there: it was never made, or it is older and was not kept")
        return next(parse_notes(note))

    async def covering(self, partition: int, position: int) -> Checkpoint:
        """Return the last checkpoint, which has an event; it is waited for, 2 s at most. Raises Unavailable."""
        deadline = monotonic() + WAIT_SECONDS
        while True:
            checkpoint = await self._latest()
            if checkpoint is not None and checkpoint.trees[partition].size >= position:
                return checkpoint
            if monotonic() > deadline:
                raise Unavailable(f"no checkpoint has {partition}-{position} yet")
            await asyncio.sleep(POLL_SECONDS)


def _view(checkpoint: Checkpoint) -> View:
    return {
        "number": checkpoint.number,
        "origin": checkpoint.origin,
        "time": checkpoint.at,
        "events": checkpoint.events,
        "partitions": [
            {"partition": partition, "size": tree.size, "root": b64encode(tree.root).decode()}
            for partition, tree in enumerate(checkpoint.trees)
        ],
        "note": checkpoint.note(),
    }
