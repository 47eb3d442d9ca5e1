"""The ledger over NATS: commands and queries by request and reply, a thin layer on the gateway (CONTRACT.md, "NATS").

    credits.cmd.<caller>.<command>      reserve, consume, release, refund, grant, change_plan, ...
    credits.query.<caller>.<query>      balance, quota, check, quote, outcome

The broker ties `<caller>` to the credentials, so it is believed: it becomes the event's actor, and `TOKENS` says what it
may do. The body is the gateway's business. Answers carry the status in the header `Status`; problems add the headers by
which micro services tell errors. (A nats-py caller sees 503 as `NoRespondersError`, since its `request` takes every
`Status: 503` for the server's own; sending the command again with its key is right in both cases.)

Start reading here; then `endpoint.py` (how requests run), `connection.py` (how the connection lasts) and `discovery.py`
(how the service is found).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from nats.aio.msg import Msg

from events.errors import Refusal
from service.access import COMMAND_SCOPES, QUERY_SCOPES, Access
from service.bus.admission import admit
from service.bus.connection import Connection, LastingClient
from service.bus.discovery import Discovery
from service.bus.endpoint import Endpoint
from service.gateway import Gateway
from service.replies import BATCH_BYTES_MAX, Reply, refused

COMMANDS_CONCURRENT_MAX = 4096
QUERIES_CONCURRENT_MAX = 2048
_NO_HEADERS: Mapping[str, str] = {}


class Bus:
    """Serves a gateway over NATS, from `start` to `stop`, as long as the server is there."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        access: Access,
        url: str,
        credentials: Path | None = None,
        prefix: str = "credits",
        version: str = "0.0.0",
    ) -> None:
        self._gateway = gateway
        self._access = access
        self._endpoints = (
            Endpoint(prefix, "cmd", self._command, concurrent_max=COMMANDS_CONCURRENT_MAX),
            Endpoint(prefix, "query", self._query, concurrent_max=QUERIES_CONCURRENT_MAX),
        )
        self.discovery = Discovery(version, self._endpoints)
        self._connection = Connection(url, attach=self._attach, credentials=credentials)

    @property
    def is_connected(self) -> bool:
        """Whether callers reach the ledger over NATS at this moment, as far as we know."""
        return self._connection.is_connected

    def start(self) -> None:
        """Connect and serve, now or when the server is there; returns at once."""
        self._connection.open()

    async def started(self) -> None:
        """Wait until the server is there and requests are taken."""
        await self._connection.attached()

    async def stop(self) -> None:
        """Take no more requests, answer those that were taken, and close the connection; takes seconds at most."""
        await self._connection.let_go()
        await asyncio.gather(*(endpoint.drain() for endpoint in self._endpoints))
        await self._connection.close()

    async def _attach(self, client: LastingClient) -> None:
        for part in (*self._endpoints, self.discovery):
            await part.attach(client)

    async def _command(self, message: Msg) -> Reply:
        caller, name = _addressed(message)
        headers = message.headers or _NO_HEADERS
        if name == "batch":
            return await self._batch(caller, message, headers)
        try:
            actor = admit(self._access, caller, COMMAND_SCOPES.get(name), headers, len(message.data))
        except Refusal as refusal:
            return refused(refusal)
        return await self._gateway.command(name, message.data, actor=actor, key=headers.get("Idempotency-Key"))

    async def _batch(self, caller: str, message: Msg, headers: Mapping[str, str]) -> Reply:
        try:
            actor = admit(self._access, caller, None, headers, len(message.data), BATCH_BYTES_MAX)
        except Refusal as refusal:
            return refused(refusal)
        return await self._gateway.batch(message.data, actor=actor, admit=self._access.caller(caller).admit_command)

    async def _query(self, message: Msg) -> Reply:
        caller, name = _addressed(message)
        try:
            admit(self._access, caller, QUERY_SCOPES.get(name), message.headers or _NO_HEADERS, len(message.data))
        except Refusal as refusal:
            return refused(refusal)
        may = self._access.caller(caller).admit_query
        return await self._gateway.query_body(name, message.data, caller=caller, admit=may)


def _addressed(message: Msg) -> tuple[str, str]:
    """Return the caller and the name, the last two of the subject's tokens."""
    _, caller, name = message.subject.rsplit(".", 2)
    return caller, name
