"""How a process of the ledger runs: one main task, which signals end, and what it logs."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import orjson
import uvloop

EXIT_FORCED = 130
GC_THRESHOLDS = (50_000, 20, 100)
FILES_MAX = 65_536


def run(main: Callable[[], Awaitable[None]]) -> bool:
    """Run to the end, or until SIGTERM or Ctrl-C, and return when all is stopped; a second Ctrl-C ends the process.

    Returns whether it came to its end by itself.
    """

    async def until_told() -> bool:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs is in a task
        is_told = False

        def tell(number: signal.Signals) -> None:
            nonlocal is_told
            if is_told and number is signal.SIGINT:
                os._exit(EXIT_FORCED)
            if not is_told:
                is_told = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, tell, number)
        try:
            await main()
        except asyncio.CancelledError:
            if not is_told:
                raise
            return False
        return True

    allow_open_files()
    return uvloop.run(until_told())


def allow_open_files() -> None:
    """Use as many open files as the system allows, which is often more than a process begins with: each caller takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(FILES_MAX, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def set_up_logging() -> None:
    """Log to standard error: lines for a person when it is a terminal, JSON otherwise; never what a request holds."""
    handler = logging.StreamHandler()
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("asyncpg.pool").setLevel(
        logging.ERROR
    )  # a traceback a second for as long as the database is away


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        seconds, _, fraction = f"{record.created:.6f}".partition(".")
        line: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(int(seconds)))}.{fraction}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def tune_collector() -> None:
    """Let the garbage collector look at what may be garbage only.

    What was built so far lives as long as the process, so it is frozen: no collection walks it again. A command makes
    thousands of short-lived objects that reference counting frees by itself; at the default threshold of 700 the
    collector runs several times for each batch and finds nothing, and each full one walks the whole state cache.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
