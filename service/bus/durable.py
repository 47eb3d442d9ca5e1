"""The durable half of the bus: the streams of events, checkpoints and commands, on a connection of their own.

A connection of their own, because a window of events or a thousand commands shall not stand before somebody's answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from service.access import Access
from service.bus.alert_stream import AlertStream
from service.bus.backlog import Backlog
from service.bus.checkpoint_stream import CheckpointStream
from service.bus.connection import Connection, LastingClient
from service.bus.event_stream import EventStream
from service.bus.submissions import Submissions
from service.bus.told import Refusals
from service.gateway import Gateway


class DurableBus:
    """What a ledger publishes into and takes from streams, from `start` to `stop`; the server may come and go."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        access: Access,
        healthy: Callable[[], Awaitable[object]],
        url: str,
        credentials: Path | None = None,
        prefix: str = "credits",
    ) -> None:
        self.events = EventStream(prefix)
        self.backlog = Backlog(prefix)
        self.refusals = Refusals(prefix)
        self.alerts = AlertStream(prefix)
        self.checkpoints = CheckpointStream(prefix)
        self.submissions = Submissions(gateway=gateway, access=access, prefix=prefix, healthy=healthy)
        self._connection = Connection(url, attach=self._attach, credentials=credentials, name="credit-ledger-streams")

    def start(self) -> None:
        """Connect, now or when the server is there; returns at once."""
        self._connection.open()

    async def started(self) -> None:
        """Wait until the server is there."""
        await self._connection.attached()

    async def stop(self) -> None:
        """Close the connection; takes seconds at most."""
        await self._connection.close()

    async def _attach(self, client: LastingClient) -> None:
        await self.events.attach(client)
        await self.alerts.attach(client)
        await self.checkpoints.attach(client)
        await self.submissions.attach(client)
        await self.backlog.attach(client)
        await self.refusals.attach(client)
