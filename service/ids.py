"""Ids that nobody else has: what a process makes stands together, in the order in which it was made."""

from __future__ import annotations

import os
import time
from itertools import count

_process = f"{time.time_ns() // 1_000_000:012x}{os.urandom(6).hex()}"
_numbers = count()


def new_id() -> str:
    """Return 32 hexadecimal digits: the start of the process in milliseconds since 1970 (12), 48 random bits, a count."""
    return f"{_process}{next(_numbers):08x}"
