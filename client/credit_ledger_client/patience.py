"""Patience: the same request, with the same key, until there is an answer or no more time.

Every command has its key before it is first sent, so sending it again is always right: it counts once. What is only
refused is never sent again. After the time is over and the outcome is open, the key is looked up once more.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from credit_ledger_client.errors import OutcomeUnknown, Unavailable
from credit_ledger_client.transport import Reply, Request, Transport, Unanswered, Unreached

_NOT_EXECUTED = frozenset({"overloaded", "clock_skew"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call goes on, in seconds: in all, for one attempt, and between attempts, doubling up to a bound.

    The ledger itself waits up to 5 s for its database before it answers 503, so an attempt is a little longer.
    """

    seconds: float = 15.0
    attempt_seconds: float = 6.0
    pause_seconds: float = 0.05
    pause_seconds_max: float = 2.0
    lookup_seconds: float = 3.0


async def send(transport: Transport, request: Request, patience: Patience, within: float | None = None) -> Reply:
    """Return the answer to a request; its status is below 500.

    `within` replaces the patience's seconds in all. Raises Unavailable, and OutcomeUnknown for a command that may have
    been executed.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + (patience.seconds if within is None else within)
    pause = patience.pause_seconds
    is_open = False
    reason = "there was no time to ask"
    while (left := deadline - clock()) > 0:
        wait = pause * (0.5 + random.random() / 2)  # noqa: S311 - spreads retries, keeps no secret
        try:
            async with asyncio.timeout(min(left, patience.attempt_seconds)):
                reply = await transport.send(request)
        except Unreached as error:
            reason = str(error)
        except (Unanswered, TimeoutError) as error:
            is_open, reason = True, str(error) or "no answer in time"
        else:
            if reply.status < 500:
                return reply
            problem = reply.json
            is_open = is_open or problem.get("code") not in _NOT_EXECUTED
            reason = str(problem.get("detail", f"status {reply.status}"))
            wait = max(wait, reply.retry_after_seconds or 0.0)
        if clock() + wait >= deadline:
            break
        await asyncio.sleep(wait)
        pause = min(2 * pause, patience.pause_seconds_max)
    if not is_open or request.key is None or request.kind != "command" or request.dry_run:
        raise Unavailable(reason)
    return await _looked_up(transport, request, request.key, patience, reason)


async def _looked_up(transport: Transport, request: Request, key: str, patience: Patience, reason: str) -> Reply:
    """Return the first outcome of a command that was not answered; raises OutcomeUnknown."""
    account = str(request.fields["account"])
    query = Request("query", "outcome", {"account": account, "idempotency_key": key})
    unknown = OutcomeUnknown(f"{reason}; whether the command was executed is not known", account=account, key=key)
    try:
        async with asyncio.timeout(patience.lookup_seconds):
            reply = await transport.send(query)
    except (Unreached, Unanswered, TimeoutError):
        raise unknown from None
    if reply.status != 200:
        raise unknown
    return reply
