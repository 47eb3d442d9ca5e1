"""The ledger over NATS: requests with an inbox of our own, and the streams (the ledger's CONTRACT.md, "NATS").

nats-py's `request` takes every answer with `Status: 503` for the server's "no responders" and hides the problem that
stands in it, so answers are taken here: nobody listening is an empty 503, the ledger's own has a code. A request is not
sent while the connection is away, because nats-py would keep it and send it when nobody waits any more; and when the
connection is lost, all who wait are told so at once instead of waiting for their time to be over.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import uuid4

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, MaxPayloadError

from credit_ledger_client.errors import TooLarge, Unavailable, refused
from credit_ledger_client.jetstream import JetStream, StreamAway, subscribe
from credit_ledger_client.transport import Published, Reply, Request, Result, Start, Transport, Unanswered, Unreached

CONNECT_SECONDS_MAX = 10.0
CLOSE_SECONDS_MAX = 5.0
PAUSE_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Answered(NamedTuple):
    """A message that answers a request."""

    headers: dict[str, str]
    body: bytes


class NatsTransport(Transport):
    """Carries requests over NATS as `caller`, on a connection of its own that comes back by itself."""

    def __init__(self, servers: str, *, caller: str, prefix: str = "credits", credentials: str | None = None) -> None:
        if not caller or any(char in " .*>\t\r\n" for char in caller):
            raise ValueError("the caller's name is one token of a subject: no dots, blanks or wildcards")
        self._servers = [server.strip() for server in servers.split(",")]
        self._caller = caller
        self._prefix = prefix
        self._credentials = credentials
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._inbox = ""
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Answered]] = {}
        self._outcomes: dict[tuple[str, str], list[asyncio.Future[Answered]]] = {}
        self._listens_on: Client | None = None

    # -- the connection --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect; raises Unreached when no server answers in time."""
        await self._connected()

    async def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        self._fail("the ledger's client is closed")
        for waiting in [each for place in self._outcomes.values() for each in place]:
            if not waiting.done():
                waiting.set_exception(Unanswered("the ledger's client is closed"))
        if client is not None and not client.is_closed:
            with suppress(Error, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS_MAX):
                    await client.close()

    async def _connected(self) -> Client:
        """Return a connected client; raises Unreached. One that nats-py closed for good is replaced."""
        if self._client is None or self._client.is_closed:
            async with self._connecting:
                if self._client is None or self._client.is_closed:
                    self._client = await self._connect()
        if not self._client.is_connected:
            raise Unreached("NATS is not connected")
        return self._client

    async def _connect(self) -> Client:
        client = Client()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await client.connect(
                    self._servers,
                    name=self._caller,
                    inbox_prefix=f"_INBOX_{self._caller}",
                    user_credentials=self._credentials,
                    error_cb=self._tell,
                    disconnected_cb=self._disconnected,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    ping_interval=5,
                )
                self._inbox = client.new_inbox()
                await subscribe(client, f"{self._inbox}.*", self._take)
                await client.flush()
        except (Error, OSError, TimeoutError) as error:
            with suppress(Error, OSError):
                await client.close()
            raise Unreached(f"NATS cannot be reached: {error or type(error).__name__}") from error
        return client

    async def _tell(self, error: Exception) -> None:
        _log.warning("NATS: %s", error)

    async def _disconnected(self) -> None:
        self._fail("the connection to NATS was lost")

    def _fail(self, reason: str) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Unanswered(reason))
                waiting.exception()  # also seen when nobody waits any more
        self._waiting.clear()

    # -- request and reply -----------------------------------------------------------------------------------------

    async def send(self, request: Request) -> Reply:
        """Send once and return the answer; raises Unreached and Unanswered."""
        if request.kind == "query":
            answered = await self._ask(f"query.{self._caller}.{request.name}", dict(request.fields), {})
        else:
            body = dict(request.fields)
            if request.dry_run:
                body["dry_run"] = True
            if request.kind == "command" and request.key is not None:
                body["idempotency_key"] = request.key
            answered = await self._ask(f"cmd.{self._caller}.{request.name}", body, _on_behalf(request))
        headers = answered.headers
        if headers.get("Status") == "503" and "Nats-Service-Error" not in headers:
            raise Unreached("nobody listens: the ledger is not there, or the caller may not use this subject")
        retry_after = headers.get("Retry-After", "")
        return Reply(
            int(headers.get("Status", "500")), answered.body, float(retry_after) if retry_after.isdigit() else None
        )

    async def _ask(self, subject: str, body: dict[str, Any], headers: dict[str, str]) -> Answered:
        """Publish below the prefix and wait for the answer."""
        client = await self._connected()
        reply = f"{self._inbox}.{next(self._numbers)}"
        waiting = self._waiting[reply] = asyncio.get_running_loop().create_future()
        data = json.dumps(body, separators=(",", ":")).encode()
        try:
            await client.publish(f"{self._prefix}.{subject}", data, reply=reply, headers=headers or None)
            return await waiting
        except MaxPayloadError:
            raise TooLarge(f"{len(data)} bytes are more than this NATS server takes") from None
        except (Error, OSError) as error:
            raise Unanswered(f"the request could not be sent: {type(error).__name__}") from error
        finally:
            self._waiting.pop(reply, None)

    async def _take(self, message: Msg) -> None:
        waiting = self._waiting.pop(message.subject, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(Answered(message.headers or {}, message.data))

    # -- durable commands ------------------------------------------------------------------------------------------

    async def submit(self, request: Request, message_id: str) -> None:
        """Store a durable command; raises Refused, Unreached and Unanswered."""
        body = {**request.fields, "idempotency_key": request.key}
        headers = {"Nats-Msg-Id": message_id, **_on_behalf(request)}
        answered = await self._ask(f"submit.{self._caller}.{request.name}", body, headers)
        if not answered.body:
            raise Unreached("there is no stream of durable commands")
        told = json.loads(answered.body)
        if "error" in told:
            about = told["error"]
            if int(about.get("code", 503)) >= 500:
                raise Unreached(f"JetStream does not take it: {about.get('description')}")
            problem = {"status": 422, "code": "invalid_request", "detail": str(about.get("description"))}
            raise refused(problem)

    async def listen(self) -> None:
        """Begin to hear outcomes on the present connection."""
        client = await self._connected_now()
        if client is not self._listens_on:
            self._listens_on = client
            await subscribe(client, f"{self._prefix}.result.{self._caller}.*", self._hear)
            with suppress(Error, OSError):
                await client.flush()

    async def _connected_now(self) -> Client:
        try:
            return await self._connected()
        except Unreached as error:
            raise Unavailable(str(error)) from error

    async def heard(self, name: str, account: str, key: str) -> Reply:
        """Return the outcome of a durable command when it is told."""
        place = self._outcomes.setdefault((name, key), [])
        while True:
            waiting: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
            place.append(waiting)
            try:
                answered = await waiting
            finally:
                with suppress(ValueError):
                    place.remove(waiting)
                if not place:
                    self._outcomes.pop((name, key), None)
            reply = _told(answered)
            if answered.headers.get("Account", account) == account == reply.json.get("account", account):
                return reply
            place = self._outcomes.setdefault((name, key), [])

    async def _hear(self, message: Msg) -> None:
        headers = message.headers or {}
        name, key = message.subject.rsplit(".", 1)[1], headers.get("Idempotency-Key", "")
        for waiting in self._outcomes.get((name, key), ()):
            if not waiting.done():
                waiting.set_result(Answered(headers, message.data))

    async def results(self) -> AsyncIterator[Result]:
        """Yield the outcomes of this caller's durable commands, each until it was acknowledged."""
        while True:
            try:
                client = await self._connected()
                stream = JetStream(client, self._prefix)
                async for message in stream.results(self._caller):
                    headers = message.headers or {}
                    name = message.subject.rsplit(".", 1)[1]
                    yield Result(name, headers.get("Idempotency-Key", ""), _told(Answered(headers, message.data)))
                    with suppress(Error, OSError):
                        await client.publish(message.reply, b"+ACK")
            except (StreamAway, Unreached) as error:
                _log.info("outcomes cannot be read now: %s", error)
            await asyncio.sleep(PAUSE_SECONDS)

    # -- events ----------------------------------------------------------------------------------------------------

    async def stream(self, start: Start) -> AsyncIterator[Published]:
        """Yield the stream of events from `start` on, which is moved along; goes on after every break."""
        instance = uuid4().hex
        while True:
            try:
                events = JetStream(await self._connected(), self._prefix).events(self._caller, instance, start)
                async for published in events:
                    start.sequence = published.sequence
                    yield published
            except (StreamAway, Unreached) as error:
                _log.info("events cannot be read now: %s", error)
            await asyncio.sleep(PAUSE_SECONDS)


def _on_behalf(request: Request) -> dict[str, str]:
    return {} if request.on_behalf_of is None else {"On-Behalf-Of": request.on_behalf_of}


def _told(answered: Answered) -> Reply:
    """Return a stored outcome; its status is in a header of another name than an answer's."""
    return Reply(int(answered.headers.get("Ledger-Status", "500")), answered.body)
