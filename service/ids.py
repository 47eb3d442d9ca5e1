"""Ids that nobody else has: their first part is the time, so that what is made together is stored together."""

from __future__ import annotations

import os
import time
from itertools import count

_process = os.urandom(6).hex()
_numbers = count(int.from_bytes(os.urandom(3), "big"))


def new_id() -> str:
    """Return 32 hexadecimal digits: the milliseconds since 1970 (12), 48 random bits of the process, and a count."""
    return f"{time.time_ns() // 1_000_000:012x}{_process}{next(_numbers) & 0xFFFFFFFF:08x}"
