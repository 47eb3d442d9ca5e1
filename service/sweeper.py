"""The sweeper: writes what is due in accounts that nobody touches (SEMANTICS.md section 2).

Balances never depend on it: reads and commands apply due facts themselves. It is there for those who follow the log, so
that an expired grant or hold is seen without waiting for the account's next command.

It asks every second which accounts have something due, and hands them to the writers as requests of their own, which
go through the same `decide` and the same append as every command and have no key: what they write is unique by the
state and the compare-and-set, so two sweepers, or a sweep and a command, write it once.

It stays behind the callers: at most `ACCOUNTS_PER_SECOND_MAX`, first in partitions in which nobody waits, and a tenth of
that pace where all are busy, so that it never stands still. While the database is away it waits longer and longer; an
account that cannot be swept is left alone for a minute and stops no other.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

from events.instants import Instant, moment
from service.ending import ended
from service.ledger import Ledger
from service.outages import Outage
from service.store.sweeping import DueAccount, due_accounts, postpone
from service.telemetry.metrics import Metrics

LOOK_SECONDS = 1.0
ACCOUNTS_PER_SECOND_MAX = 200.0
BATCH_MAX = 20
BUSY_BATCH_MAX = 2
OUTAGE_SECONDS_MAX = 10.0
FAILED_SECONDS = 60.0
FAILED_MAX = 1000

_log = logging.getLogger(__name__)


class Sweeper:
    """Sweeps the accounts of a ledger until it is stopped."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        look_seconds: float = LOOK_SECONDS,
        accounts_per_second_max: float = ACCOUNTS_PER_SECOND_MAX,
    ) -> None:
        self._ledger = ledger
        self._look_seconds = look_seconds
        self._rate = accounts_per_second_max
        self._failed: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self.counts = {"written": 0, "nothing_due": 0, "failed": 0}
        self.lag_seconds = 0.0

    def start(self) -> None:
        """Begin to sweep."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Begin nothing new; what was handed to a writer is finished by it."""
        if self._task is not None:
            await ended([self._task])

    def measure(self, metrics: Metrics) -> None:
        """Add what there is to know about sweeps."""
        swept = metrics.number(
            "counter", "credit_ledger_swept_accounts_total", "Accounts that the sweeper looked at.", "result"
        )
        lag = metrics.number(
            "gauge", "credit_ledger_sweeper_lag_seconds", "For how long the earliest due fact has not been written."
        )

        async def show() -> None:
            for result, count in self.counts.items():
                swept.labels(result).value = count
            lag.labels().value = self.lag_seconds

        metrics.probe(show)

    async def sweep(self) -> int:
        """Sweep once, a batch at most; returns how many accounts that were, 0 when nothing is due. Raises Outage."""
        now = self._ledger.clock()
        found = await due_accounts(
            self._ledger.log,
            self._ledger.written_partitions(),
            now,
            of_partition_max=BATCH_MAX,
            without=self._left_alone(),
        )
        self.lag_seconds = _seconds(found[0].due_at, now) if found else 0.0
        idle = [due for due in found if not self._ledger.waiting(due.partition)]
        batch = idle[:BATCH_MAX] or found[:BUSY_BATCH_MAX]
        outcomes = await asyncio.gather(*(self._write(due) for due in batch), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return len(batch)

    async def _write(self, due: DueAccount) -> None:
        """Write what is due in an account, or put the next look off when nothing is; raises Outage."""
        try:
            outcome = await self._ledger.sweep(due.account)
            if outcome.facts is None:
                self.counts["written"] += 1
                return
            account = outcome.state.account
            await postpone(self._ledger.log, due.partition, due.account, account.position, account.sweep_at)
            self.counts["nothing_due"] += 1
        except Outage:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the other accounts are swept
            self._leave_alone(due.account, error)

    def _leave_alone(self, account: str, error: Exception) -> None:
        self.counts["failed"] += 1
        if len(self._failed) < FAILED_MAX:
            self._failed[account] = monotonic() + FAILED_SECONDS
        _log.error("account %s cannot be swept", account, exc_info=error)

    def _left_alone(self) -> list[str]:
        now = monotonic()
        self._failed = {account: until for account, until in self._failed.items() if until > now}
        return list(self._failed)

    async def _run(self) -> None:
        outage_seconds = self._look_seconds
        while True:
            try:
                swept = await self.sweep()
            except Outage as outage:
                _log.warning("nothing is swept now: %s", outage)
                await asyncio.sleep(outage_seconds)
                outage_seconds = min(outage_seconds * 2, OUTAGE_SECONDS_MAX)
                continue
            except Exception:  # noqa: BLE001 - the next round may fare better, and nobody waits for this one
                _log.exception("a sweep failed")
                await asyncio.sleep(OUTAGE_SECONDS_MAX)
                continue
            outage_seconds = self._look_seconds
            pace = BATCH_MAX if swept <= BUSY_BATCH_MAX else swept
            await asyncio.sleep(pace / self._rate if swept else self._look_seconds)


def _seconds(earlier: Instant, later: Instant) -> float:
    return (moment(later) - moment(earlier)).total_seconds()
