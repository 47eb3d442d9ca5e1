"""Which commands wait in the stream: what `outcome` knows of a durable command that nobody has begun yet.

Any process can be asked for an outcome, and only the one that leads takes commands from the stream. So each looks into
the stream itself, when it is asked for a key that the log does not have: it reads the messages that it has not read
before, keeps only where each key stands, and asks at last whether that message is still there. When nothing waits, that
is one question to the server.

What it cannot know: a key that stands behind more messages than can be read within the bounds (the next question goes on
from there), and anything while NATS is away. Then the answer is 404, which only says that the log does not have the key.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client

from service.bus.jetstream import NO_MESSAGE, NO_STREAM, ApiError, StreamAway, api
from service.bus.streams import command_specs
from service.bus.submitted import Submitted, Unreadable, read
from service.requests import key_digest

LOOK_SECONDS_MAX = 0.5
KEYS_MAX = 20_000


class Backlog:
    """Looks for keys in the stream of commands of a prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._stream = command_specs(prefix)[0].name
        self._client: Client | None = None
        self._looking = asyncio.Lock()
        self._forget("")

    async def attach(self, client: Client) -> None:
        """Use this client."""
        self._client = client

    async def holds(self, account: str, key: str) -> bool | None:
        """Say whether a command with this key waits in the stream; None when that cannot be known."""
        try:
            async with asyncio.timeout(LOOK_SECONDS_MAX), self._looking:
                return await self._look(key_digest(account, key))
        except (StreamAway, TimeoutError):
            return None

    async def _look(self, digest: bytes) -> bool | None:
        info = await self._ask("STREAM.INFO")
        if info is None or not info["state"]["messages"]:
            return False
        if info["created"] != self._created:
            self._forget(info["created"])
        first, last = int(info["state"]["first_seq"]), int(info["state"]["last_seq"])
        while self._order and self._order[0][0] < first:
            sequence, old = self._order.popleft()
            if self._keys.get(old) == sequence:
                del self._keys[old]
        self._next = max(self._next, first)
        while not await self._stands(digest):
            if self._next > last:
                return False
            if len(self._order) >= KEYS_MAX:
                return None
            await self._read_on(digest, last)
        return True

    async def _stands(self, digest: bytes) -> bool:
        """Say whether the last message with this key, as far as it was read, is still in the stream."""
        sequence = self._keys.get(digest)
        if sequence is None:
            return False
        if await self._ask("STREAM.MSG.GET", {"seq": sequence}) is not None:
            return True
        del self._keys[digest]
        return False

    async def _read_on(self, digest: bytes, last: int) -> None:
        """Read messages up to the end, or up to one with this key."""
        while self._next <= last and len(self._order) < KEYS_MAX and digest not in self._keys:
            told = await self._ask("STREAM.MSG.GET", {"seq": self._next, "next_by_subj": f"{self._prefix}.submit.>"})
            if told is None:
                self._next = last + 1
                return
            message = told["message"]
            sequence = int(message["seq"])
            self._next = sequence + 1
            if (found := self._digest_of(message, sequence)) is not None:
                self._keys[found] = sequence
                self._order.append((sequence, found))

    def _digest_of(self, message: Mapping[str, Any], sequence: int) -> bytes | None:
        """Return the digest of a message's key; None for what will go to the dead, or names no account."""
        body = base64.b64decode(message.get("data") or "")
        headers = _headers(base64.b64decode(message.get("hdrs") or ""))
        try:
            submission = read(
                Submitted(sequence, "", message["subject"], body, datetime.now(UTC), headers), self._prefix
            )
        except Unreadable:
            return None
        return None if submission.account is None else key_digest(submission.account, submission.key)

    async def _ask(self, what: str, body: Mapping[str, object] | None = None) -> dict[str, Any] | None:
        """Ask about the stream; returns None when it is not there, or has no such message. Raises StreamAway."""
        if self._client is None:
            raise StreamAway("NATS is not connected")
        try:
            return await api(self._client, what, self._stream, body=body)
        except ApiError as error:
            if error.number in (NO_MESSAGE, NO_STREAM):
                return None
            raise

    def _forget(self, created: str) -> None:
        """Begin with a stream of which nothing was read."""
        self._created = created
        self._next = 1
        self._keys: dict[bytes, int] = {}
        self._order: deque[tuple[int, bytes]] = deque()


def _headers(raw: bytes) -> dict[str, str]:
    lines = raw.decode(errors="replace").split("\r\n")[1:]
    return {name: value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
