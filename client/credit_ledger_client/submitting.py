"""Durable commands: stored by JetStream, executed when the ledger comes to it, their outcomes told later.

`submit` returns when the command is safe; nothing is lost when the ledger is away. Who wants to know waits with
`result`, or reads `results`, which tells every outcome at least once, refusals too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from math import ceil
from typing import Any, Literal

from pydantic_core import to_json

from credit_ledger_client.answers import Answer
from credit_ledger_client.asking import Asking, new_key, read
from credit_ledger_client.errors import LedgerError, OutcomeUnknown, Unavailable, refused
from credit_ledger_client.transport import Reply, Request, Result, Unanswered, Unreached

LOOK_SECONDS = 1.0
TOLD_SECONDS_MAX = 7 * 24 * 60 * 60
"""So long outcomes are kept."""
Command = Literal[
    "reserve",
    "consume",
    "release",
    "extend",
    "refund",
    "grant",
    "revoke",
    "adjust",
    "change_plan",
    "renew",
    "reset_usage",
    "set_status",
]


class Submitted:
    """A durable command that is safe; its outcome can be waited for, here or anywhere by its account and key."""

    def __init__(self, asking: Submitting, request: Request, hearing: asyncio.Task[Reply]) -> None:
        self.name = request.name
        self.account = str(request.fields["account"])
        self.key = request.key or ""
        self._asking = asking
        self._hearing = hearing
        self._began = asyncio.get_running_loop().time()
        hearing.add_done_callback(_seen)

    async def result(self, within: float = 30.0) -> Answer:
        """Return what it led to; raises Refused, and OutcomeUnknown when that was not told within so many seconds.

        It may still be executed after that. An outcome that was told while the connection was lost is looked up, for which
        the caller needs the scope `read`.
        """
        deadline = asyncio.get_running_loop().time() + within
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            if not self._hearing.done():
                await asyncio.wait({self._hearing}, timeout=min(left, LOOK_SECONDS))
            elif self._hearing.exception() is not None:  # nothing is heard any more, but the key can be looked up
                await asyncio.sleep(min(left, LOOK_SECONDS))
            if self._hearing.done() and self._hearing.exception() is None:
                return read(Answer, self._hearing.result())
            if (found := await self._looked_up(left)) is not None:
                return read(Answer, found)
        detail = f"no outcome within {within:g} s; the command is stored and may still be executed"
        raise OutcomeUnknown(detail, account=self.account, key=self.key)

    async def _looked_up(self, left: float) -> Reply | None:
        """Return the outcome when the ledger knows it; that it cannot say so now is no reason to stop waiting."""
        seconds = ceil(asyncio.get_running_loop().time() - self._began)
        with suppress(LedgerError):
            reply = await self._asking.look_up(self.account, self.key, seconds, within=min(left, 2.0))
            if reply.status == 200:
                return reply
            if (refusal := reply.json.get("refusal")) is not None:
                return Reply(int(refusal["status"]), to_json(refusal))
        return None


def _seen(hearing: asyncio.Task[Reply]) -> None:
    """Take note of how it ended, so that nobody is told that nobody did."""
    if not hearing.cancelled():
        hearing.exception()


class Outcome:
    """The outcome of a durable command: `answer`, or the refusal as `error`."""

    def __init__(self, result: Result) -> None:
        self.command = result.command
        self.key = result.key
        self.error = refused(result.reply.json) if result.reply.status >= 300 else None
        self.answer = None if self.error else read(Answer, result.reply)


class Submitting(Asking):
    """Sends durable commands, over NATS."""

    async def submit(self, name: Command, account: str, *, key: str | None = None, **fields: Any) -> Submitted:  # noqa: ANN401 - the fields of the command, as its own method has them
        """Store a durable command and return when it is safe; raises Unavailable when it may not be.

        Sending it again with the same key is right whenever in doubt. A durable command is never a dry run.
        """
        if "dry_run" in fields or "within" in fields:
            raise TypeError("a durable command takes neither dry_run nor within")
        request = self._request(name, account, {**fields, "key": key or new_key()})
        await self.transport.listen()
        hearing = asyncio.create_task(self.transport.heard(name, account, request.key or ""))
        try:
            await self._store(request)
        except BaseException:
            hearing.cancel()
            raise
        return Submitted(self, request, hearing)

    async def _store(self, request: Request) -> None:
        """Publish until JetStream says that it is stored; the same message is stored once."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.patience.seconds
        pause, message_id = self.patience.pause_seconds, new_key()
        while True:
            try:
                async with asyncio.timeout(min(self.patience.attempt_seconds, max(0.0, deadline - clock()))):
                    await self.transport.submit(request, message_id)
                    return
            except (Unreached, Unanswered, TimeoutError) as error:
                if clock() + pause >= deadline:
                    detail = str(error) or "JetStream did not answer in time"
                    raise Unavailable(f"{detail}; the command may not be stored") from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, self.patience.pause_seconds_max)

    async def look_up(self, account: str, key: str, seconds: int, *, within: float) -> Reply:
        """Return what the query `outcome` answers about a command that was submitted so long ago; raises Unavailable."""
        ago = min(seconds, TOLD_SECONDS_MAX)
        fields: Mapping[str, Any] = {"account": account, "idempotency_key": key, "submitted_seconds_ago": ago}
        return await self._send(Request("query", "outcome", fields), within)

    async def results(self) -> AsyncIterator[Outcome]:
        """Yield the outcomes of all durable commands of this caller, each at least once, oldest first.

        An outcome counts as taken when the next one is asked for.
        """
        async for result in self.transport.results():
            yield Outcome(result)
