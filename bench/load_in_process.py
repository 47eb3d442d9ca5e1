"""Load from callers in the ledger's own process: one task for each lane, and the ledger's answers awaited directly.

The commands are built inside the window, when a lane takes them, because a caller in process builds them too, and what
the edge of a service computes for each command (its fingerprint) belongs to what a command costs.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from bench.jobs import InProcess
from bench.target import Target
from service.benching.pump import Window, run_lanes
from service.benching.requests import account_name, account_names

Batch = list[object]


async def in_process(job: InProcess, target: Target) -> Window:
    """Runs one round against a started target."""
    load = job.load
    if load.batch:
        return await run_lanes(load.pump(by_two(batches(job, target))), [target.submit_all] * load.in_flight)
    pairs = (
        (target.opening(account, load.run) for account in account_names(load.accounts))
        if job.shape == "opening"
        else (pair_of(job, target)(account, id_) for account, id_ in load.draw())
    )
    return await run_lanes(load.pump(pairs), [target.submit] * load.in_flight)


def batches(job: InProcess, target: Target) -> Iterator[Batch]:
    """The job's commands in full batches."""
    commands = iter(commands_of(job, target))
    while len(batch := list(islice(commands, job.load.batch))) == job.load.batch:
        yield batch


def commands_of(job: InProcess, target: Target) -> Iterator[object]:
    """The job's commands, one behind the other."""
    load = job.load
    if job.shape == "opening_more":
        for number in range(load.first, load.accounts):
            yield target.opening(account_name(number), load.run)[0]
    elif job.shape == "holds":
        for account, id_ in load.draw():
            yield target.pair(account, id_)[0]
    else:
        for account, id_ in load.draw():
            yield from pair_of(job, target)(account, id_)


def pair_of(job: InProcess, target: Target) -> Callable[[str, str], tuple[object, object]]:
    """What makes the job's pairs."""
    return target.mixed if job.shape == "mixed" else target.pair


def by_two(all_batches: Iterable[Batch]) -> Iterator[tuple[Batch, Batch]]:
    """Batches in pairs, as a pump hands them out."""
    rest = iter(all_batches)
    return zip(rest, rest, strict=False)
