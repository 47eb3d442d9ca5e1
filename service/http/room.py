"""Room for connections: how many there may be at once, and what the next one hears.

Each takes a file of the process, and the database, NATS and the disk need some too: a crowd of callers, or one that opens
connections and says nothing, shall not take the last one. Above the bound a connection is answered 503 and closed before
it says anything; those that are there go on. One that is idle is closed after a while (`listener.py`), so room comes back.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from time import monotonic
from typing import cast

from service.http.answers import Answer, answer, first_line
from service.outages import Overloaded
from service.replies import out_of_order

CONNECTIONS_MAX = 10_000
FILES_KEPT = 200
"""For all that is no caller: the database, NATS, the log, checkpoints."""
TOLD_AGAIN_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Room:
    """Counts those who found none; `connections_max` is what the process's limit of open files leaves, unless given."""

    def __init__(self, connections_max: int | None = None) -> None:
        self.connections_max = _left() if connections_max is None else connections_max
        self.turned_away = 0
        self._told_at = -TOLD_AGAIN_SECONDS

    def turn_away(self) -> asyncio.Protocol:
        """Return what answers a connection for which there is no room."""
        self.turned_away += 1
        if monotonic() - self._told_at >= TOLD_AGAIN_SECONDS:
            self._told_at = monotonic()
            _log.warning("%d connections are open: the next ones are turned away", self.connections_max)
        return _TurnedAway(answer(out_of_order(Overloaded(f"{self.connections_max} connections are open"))))


class _TurnedAway(asyncio.Protocol):
    """Gives one answer, whatever is asked, and closes."""

    def __init__(self, given: Answer) -> None:
        self._given = given

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer and close."""
        status, head, body = self._given
        out = cast("asyncio.WriteTransport", transport)
        out.write(
            b"%b%bContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (first_line(status), head, len(body), body)
        )
        out.close()


def _left() -> int:
    """Return how many connections the process's limit of open files leaves room for."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if files == resource.RLIM_INFINITY else max(1, min(CONNECTIONS_MAX, files - FILES_KEPT))
