"""Load from callers in the ledger's own process: one task for each lane, and the ledger's answers awaited directly.

The commands are built inside the window, one pair at a time, because a caller in process builds them too, and what
the edge of a service computes for each command (its fingerprint) belongs to what a command costs.
"""

from bench.jobs import InProcess, accounts_to_open
from bench.measure import Pump, Window, run_lanes
from bench.target import Target


async def in_process(job: InProcess, target: Target) -> Window:
    """Runs one round against a started target."""
    load = job.load
    if job.opening:
        pairs = (target.opening(account, load.run) for account in accounts_to_open(load.accounts))
    else:
        pairs = (target.pair(account, id_) for account, id_ in load.draw())
    pump = Pump[object](pairs, load.in_flight, load.seconds)
    return await run_lanes(pump, [target.submit] * load.in_flight)
