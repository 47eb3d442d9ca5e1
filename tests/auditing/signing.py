"""A ledger whose checkpoints a test signs itself, of any part of it, and by any key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from events.instants import Instant
from events.merkle import leaf_hash, root_of
from service.auditing.beside import directory_marks, stored_marks, wrong_beside
from service.auditing.faults import Fault
from service.auditing.parallel import verify_database
from service.auditing.trusted import together
from service.checkpoints.directory import append_notes
from service.checkpoints.keys import SigningKey
from service.checkpoints.note import Checkpoint, Tree, origin_of
from service.store.checkpoints import StoredCheckpoints, StoredNote
from service.store.log import Log
from tests.auditing.history import write_history
from tests.servers import PARTITIONS, clone_template

KEY = SigningKey("tests", bytes(range(32)))
AT = Instant("2026-11-01T09:30:00.000000Z")


class Signer:
    """Signs the trees of a ledger at any size that its partitions had."""

    def __init__(self, log: Log, url: str, ledger_id: str, lines: dict[int, list[bytes]]) -> None:
        self.log, self.url, self.ledger_id, self.lines = log, url, ledger_id, lines
        self.number = 0
        self.at = AT
        self.busiest = max(lines, key=lambda partition: len(lines[partition]))

    async def sign(
        self,
        share: float = 1.0,
        *,
        origin: str = "",
        others: bytes = b"",
        keys: Sequence[SigningKey] = (KEY,),
        directory: Path | None = None,
    ) -> None:
        """Keep a checkpoint of the first part of each partition; with `others` of the busiest one's lines as others.

        It goes into the database, or into a directory.
        """
        trees: list[Tree] = []
        for partition, lines in self.lines.items():
            first = lines[: int(len(lines) * share)]
            leaves = [leaf_hash(line + (others if partition == self.busiest else b"")) for line in first]
            trees.append(Tree(len(first), root_of(leaves)))
        number = self.number + 1
        note = Checkpoint(origin or origin_of(self.ledger_id), number, self.at, tuple(trees)).signed(keys).note()
        if directory is None:
            self.number = number
            await self.keep(note)
        else:
            append_notes(directory, [note])

    async def keep(self, note: str) -> None:
        assert await StoredCheckpoints(self.log).add(StoredNote(self.number, note), self.at, [])

    async def faults(self, *keys: SigningKey, directory: Path | None = None) -> list[Fault]:
        """What a verification finds that knows these keys, and has this directory of checkpoints."""
        known = [key.public for key in keys]
        stored, faults = await stored_marks(self.log, known)
        kept, not_kept = await directory_marks(self.log, directory, known)
        faults += not_kept + await wrong_beside(self.log)
        found = await verify_database(
            self.log,
            self.url,
            partitions=PARTITIONS,
            sizes={},
            marks=together(stored, kept),
            progress=lambda _done: None,
        )
        return faults + [each.fault for each in found if each.fault is not None]


@asynccontextmanager
async def signing(postgres_url: str) -> AsyncGenerator[Signer]:
    """Lend a ledger of its own with some history, which nothing is signed of yet."""
    url = await clone_template(postgres_url)
    await write_history(url, rounds=10)
    log = await Log.connect(url, connections=2)
    ledger_id, _ = await log.identity()
    lines = {n: [stored.line for stored in await log.lines_from(n, 1, 10_000)] for n in range(PARTITIONS)}
    yield Signer(log, url, ledger_id, lines)
    await log.close()
