"""The stream of alerts: windows stored in their order or refused, as in the stream of events, and its last alert's number."""

from __future__ import annotations

import base64

import orjson

from service.bus.event_stream import EventStream
from service.bus.jetstream import NO_MESSAGE, ApiError, api
from service.bus.streams import alerts_spec


class AlertStream(EventStream):
    """The stream of one ledger's alerts. Every method raises StreamAway when it cannot be reached."""

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix, alerts_spec(prefix))

    async def number_at(self, sequence: int, source: str) -> int:
        """Return the number of the alert that the stream has at a sequence; 0 when there is none of this ledger."""
        if not sequence:
            return 0
        try:
            told = await api(self._connected(), "STREAM.MSG.GET", self.name, body={"seq": sequence})
        except ApiError as error:
            if error.number == NO_MESSAGE:
                return 0
            raise
        try:
            event = orjson.loads(base64.b64decode(told["message"]["data"]))
            return int(event["sequence"]) if event["source"] == source else 0
        except (KeyError, TypeError, ValueError):
            return 0  # somebody else's message
