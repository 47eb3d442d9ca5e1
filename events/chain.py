"""The hash chain of a partition, checked: every line names the hash of the one before it (CONTRACT.md).

`verify` is what an auditor runs over an export. It trusts nothing that it did not compute from the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from events.recorded import GENESIS, Event, decode


class BrokenChain(ValueError):
    """A line of the log does not follow from the one before it."""

    def __init__(self, partition: int, position: int, reason: str) -> None:
        super().__init__(f"partition {partition}, position {position}: {reason}")
        self.partition = partition
        self.position = position
        self.reason = reason


def verify(partition: int, lines: Iterable[bytes]) -> Iterable[Event]:
    """Yield the events of `lines`, the whole log of `partition` from position 1; raises BrokenChain at the first fault."""
    expected, prefix = GENESIS, f"{partition}-"
    for position, line in enumerate(lines, start=1):
        event = decode(line)
        if event.partition != partition or event.position != position:
            raise BrokenChain(partition, position, f"the line says it is {event.partition}-{event.position}")
        if event.id != prefix + str(position):
            raise BrokenChain(partition, position, f"the id is {event.id}")
        if event.prev_hash != expected:
            raise BrokenChain(partition, position, f"prev_hash is {event.prev_hash}, the line before has {expected}")
        expected = sha256(line).hexdigest()
        yield event
