"""The checkpointer: signs what the log is, every second in which something was written.

At the start the trees are read anew up to the last checkpoint, the one of the database and the one of the directory, which
no restored backup brings back to an older state. When the log is not the one that was signed, the partition takes no more
commands, nothing is signed, and the alarm is `history_rolled_back`.

Several processes may run one each: a checkpoint's number is taken once, and who comes second goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic

from events.instants import Instant
from events.merkle import Frontier
from service.checkpoints.directory import append_notes, last_of_directory, mend
from service.checkpoints.hands import other_hand
from service.checkpoints.keys import SigningKey
from service.checkpoints.note import Checkpoint, Tree, origin_of, parse_notes
from service.checkpoints.trees import PAGE_LINES, Growing, Trees
from service.ending import ended
from service.outages import Outage, Unavailable
from service.store.checkpoints import StoredCheckpoints, StoredNote
from service.store.feed import Feed
from service.telemetry.metrics import Metrics

EVERY_SECONDS = 1.0
OUTAGE_SECONDS = 5.0
THIN_SECONDS = 600.0
THINNED_AT_ONCE = 1_000
KEPT_AT_ONCE = 500
"""How many checkpoints the directory gets at once that it did not have."""

_log = logging.getLogger(__name__)


class Checkpointer:
    """Makes checkpoints of a ledger until it is stopped; `hold_back` is told which partition takes no more commands."""

    def __init__(
        self,
        *,
        ledger_id: str,
        partitions: int,
        feed: Feed,
        stored: StoredCheckpoints,
        keys: Sequence[SigningKey],
        clock: Callable[[], Instant],
        hold_back: Callable[[int, str], None],
        directory: Path | None = None,
    ) -> None:
        self._origin = origin_of(ledger_id)
        self._partitions = partitions
        self._feed = feed
        self._stored = stored
        self._keys = tuple(keys)
        self._public = [key.public for key in keys]
        self._clock = clock
        self._hold_back = hold_back
        self._directory = directory
        self._trees = Trees(stored)
        self._growing: list[Growing] = []
        self._task: asyncio.Task[None] | None = None
        self._kept = 0
        """The number of the last checkpoint in the directory."""
        self.latest: Checkpoint | None = None
        self.alarms: dict[int, str] = {}
        self._other_hand: str | None = None
        """That the last checkpoint is somebody else's, in words."""
        self._damaged: set[int] = set()
        """Partitions of which subtrees are stored that are not those of their lines."""

    async def begin(self) -> None:
        """Compare the log with the last checkpoints, and go on from there; raises Outage and InvalidNote."""
        heads = await self._feed.heads()
        note = await self._stored.latest()
        self.latest = None if note is None else next(parse_notes(note.note))
        if self.latest is not None and self._other_hand is None:
            self._other_hand = await other_hand(self.latest, self._stored, self._public)
            if self._other_hand is not None:
                _log.critical("%s", self._other_hand)
        if self._directory is not None:
            await asyncio.to_thread(_mend, self._directory)
        kept = last_of_directory(self._directory)
        self._kept = 0 if kept is None else kept.number
        for checkpoint in (self.latest, kept):
            if checkpoint is not None:
                self.alarms |= await self.differences(checkpoint, heads)
        for partition, detail in self.alarms.items():
            _log.critical("history_rolled_back: partition %d takes no more commands: %s", partition, detail)
            self._hold_back(partition, f"history_rolled_back: {detail}")
        if self._signs:
            await self._recover()
            if kept is not None and kept.number == self._number + 1 and kept.is_signed_by(self._public):
                await self._add(kept)  # a backup was made between an event and its checkpoint

    @property
    def _signs(self) -> bool:
        return not self.alarms and self._other_hand is None

    @property
    def _number(self) -> int:
        return 0 if self.latest is None else self.latest.number

    async def differences(self, checkpoint: Checkpoint, heads: Mapping[int, int]) -> dict[int, str]:
        """Return the partitions that are not what a checkpoint says they were, and why."""
        if checkpoint.origin != self._origin or len(checkpoint.trees) != self._partitions:
            detail = f"the last checkpoint is of {checkpoint.origin}, this ledger is {self._origin}"
            return dict.fromkeys(range(self._partitions), detail)
        found: dict[int, str] = {}
        for partition, tree in enumerate(checkpoint.trees):
            if heads.get(partition, 0) < tree.size:
                found[partition] = (
                    f"it ends at {heads.get(partition, 0)}, and checkpoint {checkpoint.number} of {checkpoint.at} has "
                    f"{tree.size} events of it: an old backup was restored"
                )
            elif not await self._is_of_lines(partition, tree):
                found[partition] = (
                    f"its first {tree.size} lines are not those that checkpoint {checkpoint.number} of {checkpoint.at} "
                    "was made of: they were rewritten"
                )
        return found

    async def _is_of_lines(self, partition: int, wanted: Tree) -> bool:
        try:
            return (await self._tree(partition, wanted)).root() == wanted.root
        except LookupError:  # lines are gone, and the head does not say so
            return False

    async def _tree(self, partition: int, wanted: Tree) -> Frontier:
        """Return the tree of a partition: that of its lines, whatever is stored of it."""
        if partition not in self._damaged:
            found = await self._trees.frontier(partition, 0, wanted.size)
            if found.root() == wanted.root:
                return found
        found = await self._trees.frontier(partition, 0, wanted.size, of_lines=True)
        if found.root() == wanted.root and partition not in self._damaged:
            self._damaged.add(partition)
            _log.critical("ledger.subtrees of partition %d are not those of its lines", partition)
        return found

    async def _recover(self) -> None:
        trees = [Tree(0, Frontier().root())] * self._partitions if self.latest is None else self.latest.trees
        self._growing = [Growing(partition, await self._tree(partition, tree)) for partition, tree in enumerate(trees)]

    def start(self) -> None:
        """Begin to make checkpoints, unless there is an alarm."""
        if self._signs:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; what was written since the last checkpoint is in the next one."""
        if self._task is not None:
            await ended([self._task])

    def alarm(self) -> str | None:
        """Return what is wrong with the history, in words, or None."""
        told = [f"history_rolled_back: partition {partition}: {why}" for partition, why in self.alarms.items()]
        if self._other_hand is not None:
            told.append(self._other_hand)
        told += [
            f"ledger.subtrees of partition {partition} are not those of its lines: delete them, no proof holds till then"
            for partition in sorted(self._damaged)
        ]
        return "; ".join(told) or None

    async def make(self) -> Checkpoint | None:
        """Make a checkpoint when something was written since the last one; raises Outage and OSError.

        The directory gets it, and all that it did not get before.
        """
        made = await self._make()
        if self._directory is not None and self._signs:
            while self._kept < self._number and (notes := await self._stored.after(self._kept, KEPT_AT_ONCE)):
                await asyncio.to_thread(append_notes, self._directory, [stored.note for stored in notes])
                self._kept = notes[-1].number
        return made

    async def _make(self) -> Checkpoint | None:
        if not self._signs:
            return None
        heads = await self._feed.heads()
        if self.latest is None:
            if not any(heads.values()):
                return None
        elif all(heads[partition] <= tree.size for partition, tree in enumerate(self.latest.trees)):
            return None
        for growing in self._growing:
            await self._grow(growing, heads[growing.partition])
        trees = tuple(Tree(growing.tree.size, growing.tree.root()) for growing in self._growing)
        checkpoint = Checkpoint(self._origin, self._number + 1, self._clock(), trees).signed(self._keys)
        if await self._add(checkpoint):
            return checkpoint
        await self.begin()  # another process was faster
        return None

    async def _add(self, checkpoint: Checkpoint) -> bool:
        """Add the next checkpoint to the database; False when there is one of its number."""
        for growing in self._growing:
            await self._grow(growing, checkpoint.trees[growing.partition].size)
        subtrees = [subtree for growing in self._growing for subtree in growing.subtrees]
        if not await self._stored.add(StoredNote(checkpoint.number, checkpoint.note()), checkpoint.at, subtrees):
            return False
        for growing in self._growing:
            growing.subtrees.clear()
        self.latest = checkpoint
        return True

    async def _grow(self, growing: Growing, size: int) -> None:
        while growing.tree.size < size:
            at = growing.tree.size
            leaves = await self._stored.leaves(growing.partition, at, min(size, at + PAGE_LINES))
            if not leaves:
                raise Unavailable(f"partition {growing.partition} has no line {at + 1}")
            for leaf in leaves:
                growing.add(leaf)

    async def thin(self) -> int:
        """Delete what need not be kept of old checkpoints; returns how many. Raises Outage."""
        deleted = 0
        while found := await self._stored.thin(THINNED_AT_ONCE):
            deleted += found
            await asyncio.sleep(0)
        return deleted

    async def _run(self) -> None:
        thinned_at = -THIN_SECONDS
        while True:
            pause = EVERY_SECONDS
            try:
                await self.make()
                if monotonic() - thinned_at > THIN_SECONDS:
                    thinned_at = monotonic()
                    await self.thin()
            except Outage as outage:
                _log.warning("no checkpoint is made now: %s", outage)
                pause = OUTAGE_SECONDS
            except Exception:  # noqa: BLE001 - the next round may fare better, and nobody waits for this one
                _log.exception("a checkpoint failed")
                pause = OUTAGE_SECONDS
            await asyncio.sleep(pause)

    def measure(self, metrics: Metrics) -> None:
        """Add what there is to know about checkpoints."""
        number = metrics.number("gauge", "credit_ledger_checkpoint_number", "Number of the last signed checkpoint.")
        events = metrics.number("gauge", "credit_ledger_checkpoint_events", "Events that the last checkpoint covers.")
        alarms = metrics.number(
            "gauge", "credit_ledger_history_rolled_back", "Partitions whose history is not the one that was signed."
        )

        async def show() -> None:
            alarms.labels().value = len(self.alarms)
            if self.latest is not None:
                number.labels().value, events.labels().value = self.latest.number, self.latest.events

        metrics.probe(show)


def _mend(directory: Path) -> None:
    try:
        if mend(directory):
            _log.warning("the last checkpoint in %s is cut off, and is added again", directory)
    except OSError as error:
        _log.warning("the directory of checkpoints cannot be written: %s", error)
