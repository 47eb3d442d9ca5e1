"""What a verification found: a verdict, and for each partition how far it came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from service.auditing.faults import Fault
from service.auditing.verifier import Mark, Verified


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a verification: `fault` is the first in the order of the partitions, `faults` has all."""

    sound: bool
    events: int
    accounts: int
    partitions: tuple[Verified, ...]
    fault: Fault | None
    faults: tuple[Fault, ...]


def report(
    verified: Iterable[Verified], marks: Mapping[int, Iterable[Mark]] | None = None, others: Iterable[Fault] = ()
) -> Report:
    """Sum up what the partitions came to; one that a checkpoint has seen and that is not there was rolled back."""
    partitions = sorted(verified, key=lambda each: each.partition)
    faults = [*others, *(each.fault for each in partitions if each.fault is not None)]
    there = {each.partition for each in partitions}
    for partition, seen in (marks or {}).items():
        size = max((mark.size for mark in seen), default=0)
        if size and partition not in there:
            detail = f"there is no line of it; a signed checkpoint has seen {size} events"
            faults.append(Fault(code="rolled_back", partition=partition, position=1, detail=detail))
    faults.sort(key=lambda fault: (fault.partition, fault.position))
    return Report(
        sound=not faults,
        events=sum(each.events for each in partitions),
        accounts=sum(each.accounts for each in partitions),
        partitions=tuple(partitions),
        fault=faults[0] if faults else None,
        faults=tuple(faults),
    )
