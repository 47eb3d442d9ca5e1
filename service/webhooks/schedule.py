"""When a webhook that failed is tried again: later and later, at least every hour or so, for three days."""

from __future__ import annotations

GIVE_UP_SECONDS = 3 * 86_400
FIRST_SECONDS = 5.0
FACTOR = 3.0
SECONDS_MAX = 3600.0
JITTER = 0.2


def wait_seconds(attempt: int, chance: float, asked_seconds: float | None = None) -> float:
    """Return how long to wait behind the n-th attempt (from 1): 5 s, 15 s, 45 s ... 1 h, a fifth more or less.

    `chance` is from 0 to 1. A receiver that asks for more time (`Retry-After`) gets it, up to the same hour.
    """
    planned = min(FIRST_SECONDS * FACTOR ** min(attempt - 1, 20), SECONDS_MAX)
    planned *= 1 + JITTER * (2 * chance - 1)
    return max(planned, min(asked_seconds or 0.0, SECONDS_MAX))
