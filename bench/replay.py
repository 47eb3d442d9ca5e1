"""How fast a log is read back: every line decoded, its link in the hash chain checked, its account evolved.

Reading the lines from the database is not timed here (`audit verify`, measured beside it, has that in it and checks much
more): this is what a rebuild of states costs, on one core. Garbage is collected as in every process of the ledger.
"""

import gc
from time import perf_counter

import asyncpg

from bench.jobs import Replay
from events.account import State
from events.chain import verify
from events.evolve import evolve
from service.benching.pump import BenchError, Window
from service.process import GC_THRESHOLDS

LINES_OF_PARTITION = "select line from ledger.events where partition = $1 order by position limit $2"
PARTITIONS = "select partition from ledger.heads where position > 0 order by partition"
COMMAND_TIMEOUT_SECONDS = 60.0


async def replay(job: Replay) -> Window:
    """Replays whole partitions until `events` lines were replayed."""
    connection = await asyncpg.connect(job.database_url, command_timeout=COMMAND_TIMEOUT_SECONDS)
    events, seconds, thresholds = 0, 0.0, gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        for row in await connection.fetch(PARTITIONS):
            lines = [bytes(each[0]) for each in await connection.fetch(LINES_OF_PARTITION, row[0], job.events - events)]
            gc.collect()
            seconds += replay_lines(row[0], lines)
            events += len(lines)
            if events >= job.events:
                break
    finally:
        gc.set_threshold(*thresholds)
        await connection.close()
    if not events:
        raise BenchError("there is no log to replay")
    return Window(per_second=events / seconds, counted=events, acknowledged=events, seconds=seconds)


def replay_lines(partition: int, lines: list[bytes]) -> float:
    """Checks the chain of a partition's lines and evolves the accounts; the seconds that it took."""
    states: dict[str, State] = {}
    began_at = perf_counter()
    for event in verify(partition, lines):
        state = states.get(event.account)
        if state is None:
            state = states[event.account] = State.unknown(event.account)
        evolve(state, event)
        state.settle()
    return perf_counter() - began_at
