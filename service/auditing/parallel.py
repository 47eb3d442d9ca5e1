"""Verification on all cores: partitions do not depend on each other, so each process takes its own.

A process that is started for this takes half a second to begin, so what is small is done in this one. Ctrl-C reaches
all processes of a terminal; here it is for the first one alone, which then ends the others.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from ctypes import c_longlong
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from service.auditing.database import Advance, verify_partition
from service.auditing.exported import verify_export
from service.auditing.marks import Marks
from service.auditing.verifier import Verified
from service.store.auditing import view_of
from service.store.log import Log

Progress = Callable[[int], None]
"""Told how many lines, or bytes of a file, are done by now."""

SMALL_FILE_BYTES = 16 * 1_048_576
SMALL_LOG_LINES = 20_000
LOOK_SECONDS = 0.1
GC_THRESHOLDS = (50_000, 50, 1000)

_counter: Synchronized[int] | None = None


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def verify_file(path: Path, *, partitions: int | None, marks: Marks, progress: Progress) -> list[Verified]:
    """Return what the partitions of an export came to; `progress` is told bytes. Raises OSError."""
    if path.stat().st_size <= SMALL_FILE_BYTES or cores() == 1:
        return verify_export(path, partitions=partitions, marks=marks, advance=_summing(progress))
    shares = cores()
    with _pool(shares) as (pool, counter):
        with _deaf_to_ctrl_c():
            jobs = [pool.submit(_file_job, path, share, shares, partitions, marks) for share in range(shares)]
        return _gathered(jobs, counter, lambda done: progress(done // shares))


async def verify_database(
    log: Log,
    database_url: str,
    *,
    partitions: int,
    sizes: Mapping[int, int],
    marks: Marks,
    projections: bool = True,
    progress: Progress,
) -> list[Verified]:
    """Return what the partitions of the database came to; `progress` is told lines. Raises Unavailable.

    By `sizes`, how many lines each has, the largest partitions are begun first, so that none is left alone at the end.
    """
    if sum(sizes.values()) <= SMALL_LOG_LINES or cores() == 1:
        return await _verify_all(log, range(partitions), partitions, marks, _summing(progress), projections=projections)

    def own(partition: int) -> Marks:
        return {partition: marks.get(partition, ())}

    with _pool(min(cores(), partitions)) as (pool, counter):
        with _deaf_to_ctrl_c():
            jobs = [
                pool.submit(_database_job, database_url, partition, partitions, own(partition), projections=projections)
                for partition in sorted(range(partitions), key=lambda partition: -sizes.get(partition, 0))
            ]
        return await asyncio.to_thread(_gathered, jobs, counter, progress)


async def _verify_all(
    log: Log, wanted: Sequence[int], partitions: int, marks: Marks, advance: Advance, *, projections: bool
) -> list[Verified]:
    found: list[Verified] = []
    for partition in wanted:
        async with view_of(log, partition) as view:
            found.append(
                await verify_partition(
                    view,
                    partition,
                    partitions=partitions,
                    marks=marks.get(partition, ()),
                    projections=projections,
                    advance=advance,
                )
            )
    return found


def _summing(progress: Progress) -> Advance:
    total = 0

    def advance(more: int) -> None:
        nonlocal total
        total += more
        progress(total)

    return advance


class _pool:  # noqa: N801 - a context manager that reads as a function
    """Processes that share a counter of what is done."""

    def __init__(self, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._counter = context.Value(c_longlong, 0)
        self._pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(self._counter,))

    def __enter__(self) -> tuple[ProcessPoolExecutor, Synchronized[int]]:
        return self._pool, self._counter

    def __exit__(self, error: type[BaseException] | None, *_error: object) -> None:
        if error is not None:  # what the processes are at may take minutes, and nobody wants it any more
            for process in multiprocessing.active_children():
                process.terminate()
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf_to_ctrl_c() -> Generator[None]:
    """Let the processes that are started meanwhile not hear Ctrl-C; this one hears it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _gathered(jobs: Sequence[Future[list[Verified]]], counter: Synchronized[int], progress: Progress) -> list[Verified]:
    waiting = set(jobs)
    while waiting:
        _, waiting = wait(waiting, LOOK_SECONDS, FIRST_COMPLETED)
        waiting = {job for job in waiting if not job.cancelled()}  # `wait` would wait for these for ever
        progress(counter.value)
    return [verified for job in jobs for verified in job.result()]


def _begin(counter: Synchronized[int]) -> None:
    """Prepare a process: what it has loaded lives as long as it does."""
    global _counter  # noqa: PLW0603 - a process of the pool has one
    _counter = counter
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _advance(more: int) -> None:
    assert _counter is not None  # noqa: S101 - set when the process began
    with _counter.get_lock():
        _counter.value += more


def _file_job(path: Path, share: int, shares: int, partitions: int | None, marks: Marks) -> list[Verified]:
    return verify_export(path, share=share, shares=shares, partitions=partitions, marks=marks, advance=_advance)


def _database_job(
    database_url: str, partition: int, partitions: int, marks: Marks, *, projections: bool
) -> list[Verified]:
    async def verify() -> list[Verified]:
        log = await Log.connect(database_url, connections=1)
        try:
            return await _verify_all(log, [partition], partitions, marks, _advance, projections=projections)
        finally:
            await log.close()

    return asyncio.run(verify())
