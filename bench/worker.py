"""A load process: reads jobs as lines of JSON from stdin, runs one after the other, writes outcomes to stdout.

It lives as long as the run, so that starting Python is never measured and a ledger in this process stays warm. What
the libraries print goes to stderr, so that stdout carries outcomes only. It ends when stdin ends.
"""

import asyncio
import gc
import os
import sys

import msgspec
import uvloop

from bench.jobs import Copy, Done, Failure, Http, InProcess, Job, Nats, Outcome, Replay, Sql, Sync
from bench.load_disk import sync
from bench.load_in_process import in_process
from bench.load_sql import copy, spend
from bench.load_wire import http, nats
from bench.replay import replay
from bench.target import Target, start_target
from service.benching.pump import Window


class Worker:
    """Runs jobs; keeps the in-process ledger between them."""

    def __init__(self) -> None:
        self._target: Target | None = None

    async def run(self, job: Job) -> Window:
        """One round."""
        match job:
            case Sync():
                return sync(job)
            case Copy():
                return await copy(job)
            case Sql():
                return await spend(job)
            case Http():
                return await http(job)
            case Nats():
                return await nats(job)
            case Replay():
                return await replay(job)
            case InProcess():
                if self._target is None:
                    self._target = await start_target(job.database_url, job.catalog)
                return await in_process(job, self._target)

    async def stop(self) -> None:
        """Ends the in-process ledger, if one was started."""
        if self._target is not None:
            await self._target.stop()


async def outcome(worker: Worker, job: Job) -> Outcome:
    """The job's figures, or why there are none; the run fails with that reason."""
    try:
        return Done(await worker.run(job))
    except Exception as error:  # noqa: BLE001 -- told to the process that asked, which ends the run with it
        return Failure(f"{type(error).__name__}: {error}")
    finally:
        gc.collect()


async def main() -> None:
    """Serves jobs until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    jobs = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(jobs), sys.stdin)
    worker = Worker()
    try:
        while line := await jobs.readline():
            job: Job = msgspec.json.decode(line, type=Job)
            answers.write(msgspec.json.encode(await outcome(worker, job)) + b"\n")
    finally:
        await worker.stop()


if __name__ == "__main__":
    uvloop.run(main())
