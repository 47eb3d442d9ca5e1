"""Ids that nobody else has: what a process makes stands together, in the order in which it was made."""

from __future__ import annotations

import os
import time
from itertools import count

_process = ""
_numbers = count()


def _begin() -> None:
    """Take ids that no other process takes; a fork is another process."""
    global _process  # noqa: PLW0603 - the one thing that a fork has to change
    _process = f"{time.time_ns() // 1_000_000:012x}{os.urandom(6).hex()}"


_begin()
os.register_at_fork(after_in_child=_begin)


def new_id() -> str:
    """Return 32 hexadecimal digits: the start of the process in milliseconds since 1970 (12), 48 random bits, a count."""
    return f"{_process}{next(_numbers):08x}"
