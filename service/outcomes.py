"""What a key led to: asked of the log, of the commands that are being worked on, and of the streams of durable commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from events.errors import CommandNotFound
from projections.outcome import answer
from service.ledger import Ledger
from service.queries import OutcomeQuery

View = dict[str, object]


class Outcomes:
    """Looks keys up; what streams know is asked of `submitted` and `refused`, which say nothing until they are set."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.submitted: Callable[[str, str], Awaitable[bool | None]] = _nowhere
        """Says whether a durable command with this account and key waits in a stream; None when that cannot be known."""
        self.refused: Callable[[str, str, int], Awaitable[View | None]] = _never
        """Says what a durable command with this account and key, submitted at most so long ago, was refused with."""

    async def of(self, query: OutcomeQuery) -> tuple[int, View]:
        """Return 200 and the outcome, or 202 while it waits; raises CommandNotFound and Unavailable."""
        account, key = query.account, query.idempotency_key
        partition, as_of = self._ledger.partition(account), 0
        waits: bool | None = self._ledger.in_progress(account, key)
        outcome = await self._ledger.outcome(account, key)
        if outcome is None and not waits:
            waits = await self.submitted(account, key)
            if not waits:  # it may have been taken from the stream and written meanwhile
                as_of = (await self._ledger.log.head(partition)).position
                outcome = await self._ledger.outcome(account, key)
        if outcome is not None:
            return 200, answer(account, outcome.lines, outcome.state, replayed=True)
        if waits:
            return 202, {"account": account, "idempotency_key": key, "status": "in_progress"}
        # A key that may still wait in the stream may be told otherwise than it was before.
        told = None if waits is None else await self._told(query)
        detail = f"account {account} has no command with the key {key}"
        raise CommandNotFound(
            detail if told is None else f"{detail}: the durable one was refused",
            account=account,
            idempotency_key=key,
            as_of=f"{partition}-{as_of}",
            **({} if told is None else {"refusal": told}),
        )

    async def _told(self, query: OutcomeQuery) -> View | None:
        """Return what the durable command was refused with, when that is asked for."""
        if query.submitted_seconds_ago is None:
            return None
        return await self.refused(query.account, query.idempotency_key, query.submitted_seconds_ago)


async def _nowhere(_account: str, _key: str) -> bool | None:
    """Say that no stream has the key, for there is none."""
    return False


async def _never(_account: str, _key: str, _seconds: int) -> View | None:
    """Say that nobody was told of a refusal, for nobody is."""
    return None
