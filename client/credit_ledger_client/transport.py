"""What a transport is: it carries one request to the ledger once, and brings back its answer.

Patience, keys and meaning are not its business. It tells two failures apart, because they mean different things for a
command: `Unreached`, when the ledger certainly did not get it, and `Unanswered`, when nobody knows.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic_core import from_json

from credit_ledger_client.errors import Unsupported

_OVER_NATS = "durable commands and the stream of events go over NATS: use Ledger.over_nats"
_OVER_HTTP = "lines of the log are read over HTTP: use Ledger.over_http"


class Unreached(Exception):
    """The request did not reach the ledger."""


class Unanswered(Exception):
    """The request may have reached the ledger, and no answer came."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `fields` has everything, the ids that stand in an HTTP path included."""

    kind: Literal["command", "query", "batch"]
    name: str
    fields: Mapping[str, Any]
    key: str | None = None
    dry_run: bool = False
    on_behalf_of: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: the status of the contract and its JSON."""

    status: int
    body: bytes
    retry_after_seconds: float | None = None

    @property
    def json(self) -> dict[str, Any]:
        """The body as an object; of a body that is none, as proxies write them, a problem of that status."""
        try:
            value = from_json(self.body)
        except ValueError:
            value = None
        if isinstance(value, dict):
            return value  # pyright: ignore[reportUnknownVariableType] - JSON is what it is
        return {"status": self.status, "code": "refused" if self.status < 500 else "unavailable"}


class Published(NamedTuple):
    """An event as the stream has it: its place in the stream, and the CloudEvent's bytes."""

    sequence: int
    body: bytes


@dataclass(slots=True)
class Start:
    """Where to begin in the stream: behind `sequence` of the stream made at `stream`, at the first, or at what comes next."""

    sequence: int = 0
    stream: str = ""
    only_new: bool = False
    partitions: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a durable command, as it was told."""

    command: str
    key: str
    reply: Reply


class Transport(ABC):
    """Carries requests; what one cannot do it refuses with Unsupported."""

    @abstractmethod
    async def open(self) -> None:
        """Connect; raises Unreached when that is not possible now."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connection."""

    @abstractmethod
    async def send(self, request: Request) -> Reply:
        """Send once and return the answer; raises Unreached and Unanswered. May be cancelled at any moment."""

    async def sleep(self, seconds: float) -> None:
        """Wait, by the clock that the ledger's holds live by."""
        await asyncio.sleep(seconds)

    async def submit(self, request: Request, message_id: str) -> None:
        """Store a durable command; a message id that was stored already is not stored again.

        Raises Refused, Unreached and Unanswered.
        """
        raise Unsupported(_OVER_NATS)

    async def listen(self) -> None:
        """Begin to hear outcomes of durable commands, for `heard`; raises Unavailable."""
        raise Unsupported(_OVER_NATS)

    async def heard(self, name: str, account: str, key: str) -> Reply:
        """Return the outcome of a durable command when it is told while we listen."""
        raise Unsupported(_OVER_NATS)

    def results(self) -> AsyncIterator[Result]:
        """Yield the outcomes of the caller's durable commands, each until it was acknowledged by asking for the next."""
        raise Unsupported(_OVER_NATS)

    def stream(self, start: Start) -> AsyncIterator[Published]:
        """Yield the stream of events; `start` is moved along, and told which stream it is."""
        raise Unsupported(_OVER_NATS)

    def log(self, partition: int, after: int, limit: int) -> AsyncIterator[bytes]:
        """Yield lines of the log, as they are stored; raises Refused, Unreached and Unanswered."""
        raise Unsupported(_OVER_HTTP)
