"""What durable commands were refused with, read back from the stream of outcomes for who was away when it was told.

A refusal leaves no event, so the log cannot say it; the stream has it for as long as outcomes are kept. When somebody asks
for a key that the log does not have, and says since when the command has been submitted, the outcomes that were told from
then on are read, once: only where each refusal stands is kept, and the next question goes on from there.

What it cannot know: a refusal behind more outcomes than can be read within the bound (the next question reads on), one of
more refusals than are kept in mind, and anything while NATS is away.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

from service.bus.connection import subscribe
from service.bus.jetstream import NO_MESSAGE, NO_STREAM, ApiError, StreamAway, api
from service.bus.streams import STATUS, command_specs
from service.requests import key_digest

LOOK_SECONDS_MAX = 0.5
REFUSALS_MAX = 20_000
BATCH = 500
CLOCKS_SECONDS = 60
"""By so much the clocks of the ledger and of the NATS server may differ."""


class Refusals:
    """Looks for refusals in the stream of outcomes of a prefix."""

    def __init__(self, prefix: str) -> None:
        self._stream = command_specs(prefix)[1].name
        self._client: Client | None = None
        self._looking = asyncio.Lock()
        self._created = ""
        self._begin(datetime.max.replace(tzinfo=UTC))

    async def attach(self, client: Client) -> None:
        """Use this client."""
        self._client = client

    async def of(self, account: str, key: str, seconds: int) -> dict[str, Any] | None:
        """Return the problem that a command submitted at most so long ago was refused with; None when none is known."""
        since = datetime.now(UTC) - timedelta(seconds=seconds + CLOCKS_SECONDS)
        try:
            async with asyncio.timeout(LOOK_SECONDS_MAX), self._looking:
                return await self._look(key_digest(account, key), since)
        except (StreamAway, TimeoutError):
            return None

    async def _look(self, digest: bytes, since: datetime) -> dict[str, Any] | None:
        client = self._connected()
        info = await self._ask(client, "STREAM.INFO")
        if info is None:
            return None
        # Long after the last question it is not read on from there, but from where this one begins.
        if info["created"] != self._created or not self._since <= since <= self._asked_at:
            self._created = info["created"]
            self._begin(since)
        self._asked_at = datetime.now(UTC)
        await self._read_on(client)
        sequence = self._stands.get(digest)
        stored = None if sequence is None else await self._ask(client, "STREAM.MSG.GET", {"seq": sequence})
        if stored is None:  # it was not told, or is so old that it has left the stream
            return None
        return cast("dict[str, Any]", orjson.loads(base64.b64decode(stored["message"]["data"])))

    async def _read_on(self, client: Client) -> None:
        """Read what was told since the last time; raises StreamAway."""
        inbox, arrived = client.new_inbox(), asyncio.Queue[Msg]()
        subscription = await subscribe(client, inbox, arrived.put)
        try:
            while await self._read_batch(client, inbox, arrived):
                pass
        except (Error, OSError) as error:
            raise StreamAway(f"outcomes cannot be read: {type(error).__name__}") from error
        finally:
            with suppress(Error, OSError):
                await subscription.unsubscribe()

    async def _read_batch(self, client: Client, inbox: str, arrived: asyncio.Queue[Msg]) -> bool:
        """Read the next outcomes; returns whether there are more."""
        where = {"seq": self._next} if self._next else {"start_time": self._since.isoformat()}
        await client.publish(f"$JS.API.DIRECT.GET.{self._stream}", orjson.dumps({"batch": BATCH, **where}), reply=inbox)
        while "Nats-Sequence" in (headers := (await arrived.get()).headers or {}):
            self._take(headers)
        return int(headers.get("Nats-Num-Pending", 0)) > 0

    def _take(self, headers: Mapping[str, str]) -> None:
        """Note where a refusal stands: the last one of its key."""
        sequence = int(headers["Nats-Sequence"])
        self._next = sequence + 1
        account, key = headers.get("Account"), headers.get("Idempotency-Key")
        if account is None or key is None or int(headers.get(STATUS, 0)) < 400:
            return
        digest = key_digest(account, key)
        self._stands.pop(digest, None)
        self._stands[digest] = sequence
        if len(self._stands) > REFUSALS_MAX:
            del self._stands[next(iter(self._stands))]

    async def _ask(self, client: Client, what: str, body: Mapping[str, object] | None = None) -> dict[str, Any] | None:
        """Ask about the stream; returns None when it is not there, or has no such message. Raises StreamAway."""
        try:
            return await api(client, what, self._stream, body=body)
        except ApiError as error:
            if error.number in (NO_MESSAGE, NO_STREAM):
                return None
            raise

    def _connected(self) -> Client:
        if self._client is None or not self._client.is_connected:
            raise StreamAway("NATS is not connected")
        return self._client

    def _begin(self, since: datetime) -> None:
        """Know what was told since an instant, as soon as it is read."""
        self._since = self._asked_at = since
        self._next = 0
        self._stands: dict[bytes, int] = {}
