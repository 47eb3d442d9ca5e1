"""`audit replay --catalog`: what the same commands would have come to under another catalog, account by account.

The work is done by `projections.counterfactual`; here accounts and lines are brought to it, and what becomes of them is
added up. An account is in memory while its turn lasts, with all its holds and consumptions.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from events.catalog import Catalog
from events.errors import AccountNotFound
from events.history import History
from events.instants import Instant
from events.partition import partition_of
from projections.counterfactual import Counterfactual, Told
from service.auditing.supposed import View, account_view, told_view
from service.auditing.travel import lines_of
from service.store.auditing import view_of
from service.store.log import Log

ACCOUNTS_TOLD_MAX = 1000
"""Accounts are told one by one where most changed; all are counted."""
BEGINNING = Instant("1970-01-01T00:00:00.000000Z")


class Range(NamedTuple):
    """Which commands are asked again: those that came from `start` until before `end`."""

    start: Instant
    end: Instant


class Supposed:
    """What became of all accounts."""

    def __init__(self) -> None:
        self.told = Told()
        self.accounts = 0
        self.changed = 0
        self._most: list[tuple[int, str, View]] = []

    def add(self, account: str, told: Told) -> None:
        """Add what became of an account."""
        if told.was is None or told.would_be is None:
            return
        self.accounts += 1
        self.told.add(told)
        view = account_view(account, told, told.was, told.would_be)
        if view is None:
            return
        self.changed += 1
        moved = sum(abs(both.would_be.net - both.was.net) for both in told.operations.values())
        entry = (moved + told.verdicts["refused"], account, view)
        if len(self._most) < ACCOUNTS_TOLD_MAX:
            heapq.heappush(self._most, entry)
        else:
            heapq.heappushpop(self._most, entry)

    def view(self, catalog: Catalog, range_: Range) -> View:
        """Return all of it as one JSON object, with the accounts that would differ most, those first."""
        most = sorted(self._most, key=lambda entry: (-entry[0], entry[1]))
        return {
            **told_view(self.told, catalog, range_.start, range_.end),
            "accounts_with_commands": self.accounts,
            "accounts_changed": self.changed,
            "accounts": [view for *_, view in most],
        }


async def suppose(
    log: Log,
    partitions: int,
    catalog: Catalog,
    history: History,
    range_: Range,
    *,
    account: str | None = None,
    progress: Callable[[int], None] = lambda _done: None,
) -> Supposed:
    """Return what became of one account or of all; `progress` is told events. Raises AccountNotFound and Unavailable."""
    supposed = Supposed()
    done = 0
    chosen = _all_accounts(log, partitions, range_) if account is None else _one(account, partitions)
    async for partition, name in chosen:
        counterfactual = Counterfactual(name, catalog, history, *range_)
        events = 0
        async for line in lines_of(log, partition, name, 0, range_.end):
            if line.event.recorded_at < range_.end:
                counterfactual.enter(line.event)
                events += 1
        if account is not None and not events:
            raise AccountNotFound(f"there was no account {account} before {range_.end}", account=account)
        supposed.add(name, counterfactual.end())
        done += events
        progress(done)
        await asyncio.sleep(0)
    return supposed


async def _one(account: str, partitions: int) -> AsyncIterator[tuple[int, str]]:
    yield partition_of(account, partitions), account


async def _all_accounts(log: Log, partitions: int, range_: Range) -> AsyncIterator[tuple[int, str]]:
    """Yield the accounts that have an event in the range or behind it."""
    for partition in range(partitions):
        async with view_of(log, partition) as view:
            before = await view.position_at(range_.start)
            async for page in view.accounts():
                for row in page:
                    if row.position > before:
                        yield partition, row.account
