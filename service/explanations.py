"""Explanations of events: the account is replayed up to the event, and what it saw is told.

A replay takes the event loop for a while, so few run at once, in small pieces, and a history that is very long is left to
`credit-ledger audit explain`, which has a process of its own.
"""

from __future__ import annotations

import asyncio

from events.errors import AccountNotFound, NotFound, Refusal
from events.partition import partition_of
from projections.explain import explain
from service.auditing.travel import EventNotFound, TooLong, before, line_of
from service.queries import ExplainQuery
from service.store.log import Log

EVENTS_MAX = 100_000
AT_ONCE_MAX = 2


class HistoryTooLong(Refusal):
    """The account has so many events that explaining this one would take long; the command line explains it."""

    code = "too_large"
    status = 413
    title = "The history is too long"


class Explanations:
    """Explains events of the log."""

    def __init__(self, log: Log, partitions: int) -> None:
        self._log = log
        self._partitions = partitions
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def of(self, query: ExplainQuery) -> dict[str, object]:
        """Return why an event is as it is; raises AccountNotFound, NotFound, HistoryTooLong and Outage."""
        account = query.account
        try:
            line = await line_of(self._log, self._partitions, query.event)
        except EventNotFound:
            line = None
        if line is None or line.event.account != account:
            if not await self._log.snapshots([(partition_of(account, self._partitions), account)]):
                raise AccountNotFound(f"there is no account {account}", account=account)
            raise NotFound(f"account {account} has no event {query.event}", event=query.event)
        async with self._turns:
            try:
                state = await before(self._log, line, EVENTS_MAX)
            except TooLong as error:
                detail = f"{error}; `credit-ledger audit explain {query.event}` takes the time that it needs"
                raise HistoryTooLong(detail, limit=EVENTS_MAX) from None
            return explain(state, line)
