"""What one durable write costs on the disk that holds the database: 8 KiB and fdatasync, as PostgreSQL does it."""

import os
import tempfile
from time import perf_counter

from bench.jobs import Sync
from service.benching.pump import Window, percentile

PAGE = bytes(8192)
FILE_PAGES = 256


def sync(job: Sync) -> Window:
    """Overwrites pages of a preallocated file, as a log segment is, one fdatasync after each."""
    with tempfile.TemporaryFile(dir=job.directory) as file:
        descriptor = file.fileno()
        os.write(descriptor, PAGE * FILE_PAGES)
        os.fsync(descriptor)
        times: list[float] = []
        for number in range(job.writes):
            began_at = perf_counter()
            os.pwrite(descriptor, PAGE, number % FILE_PAGES * len(PAGE))
            os.fdatasync(descriptor)
            times.append(perf_counter() - began_at)
    ordered = sorted(times)
    return Window(
        per_second=len(times) / sum(times),
        counted=len(times),
        acknowledged=len(times),
        seconds=sum(times),
        p50_ms=percentile(ordered, 0.50) * 1e3,
        p99_ms=percentile(ordered, 0.99) * 1e3,
    )
