"""The stream of checkpoints: signed notes, each behind the one before it, for those who keep them elsewhere.

Each note is published with the sequence that the stream must have reached, and only one is under way. What comes behind
a note follows from its number, so whoever publishes late, or twice, stores what belongs there or is refused.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

from nats.aio.client import Client

from service.bus.jetstream import (
    EXPECTED_SEQUENCE,
    NO_MESSAGE,
    WRONG_SEQUENCE,
    ApiError,
    StreamAway,
    api,
    publish,
    take_out,
)
from service.bus.streams import StreamUnusable, checkpoints_spec, ensure

CONTENT_TYPE = "text/plain; charset=utf-8"
NUMBER = "Checkpoint-Number"


class CheckpointsMoved(Exception):
    """Somebody else published a checkpoint meanwhile: look again."""


class PublishedNotes(NamedTuple):
    """How the stream stands: when it was made, the sequences that it begins and ends with, and its last note."""

    created: str
    first_sequence: int
    last_sequence: int
    last_note: str | None


class CheckpointStream:
    """The stream of one ledger's checkpoints. Every method raises StreamAway when it cannot be reached."""

    def __init__(self, prefix: str) -> None:
        self._spec = checkpoints_spec(prefix)
        self._client: Client | None = None

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._spec.name

    async def attach(self, client: Client) -> None:
        """Use this client."""
        self._client = client

    async def open(self) -> PublishedNotes:
        """Return how the stream stands, after it was made if need be; raises StreamUnusable."""
        info = await ensure(self._connected(), self._spec)
        state = info["state"]
        last = await self._last() if state["messages"] else None
        return PublishedNotes(str(info["created"]), int(state["first_seq"]), int(state["last_seq"]), last)

    async def empty(self) -> None:
        """Delete all messages."""
        await api(self._connected(), "STREAM.PURGE", self.name)

    async def publish(self, number: int, note: str, last_sequence: int) -> int:
        """Store a note behind `last_sequence`, and return its sequence; raises CheckpointsMoved.

        After StreamAway it may be stored.
        """
        headers = {
            "Content-Type": CONTENT_TYPE,
            NUMBER: str(number),
            EXPECTED_SEQUENCE: str(last_sequence),
        }
        try:
            return await publish(self._connected(), self._spec.subjects[0], note.encode(), headers)
        except ApiError as error:
            if error.number == WRONG_SEQUENCE:
                raise CheckpointsMoved(error.description) from None
            raise

    async def _last(self) -> str | None:
        body = {"last_by_subj": self._spec.subjects[0]}
        try:
            told = await api(self._connected(), "STREAM.MSG.GET", self.name, body=body)
            if await take_out(self._connected(), self.name, told["message"], NUMBER):
                return await self._last()
            return base64.b64decode(told["message"]["data"]).decode()
        except ApiError as error:
            if error.number == NO_MESSAGE:
                return None
            raise
        except (KeyError, TypeError, ValueError):
            raise StreamUnusable(f"the last message of {self.name} is no checkpoint") from None

    def _connected(self) -> Client:
        if self._client is None or not self._client.is_connected:
            raise StreamAway("NATS is not connected")
        return self._client
