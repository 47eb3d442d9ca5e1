"""The self-audit: the service verifies its own log, from the first line on, again and again.

It does what `credit-ledger audit verify` does with the lines (their bytes, hashes, order, replay, identities, and what the
last checkpoint says of them), in small pieces between which it rests, so that it takes a small share of one core. What is
wrong is an alarm: in the log, in the metrics and in `/readyz`. Nobody is stopped by it: what to do is for people to say.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from time import monotonic, perf_counter

from service.auditing.database import Columns
from service.auditing.faults import Fault, Faulty
from service.auditing.memory import States
from service.auditing.trusted import last_marks
from service.auditing.verifier import Mark, Verifier
from service.ending import ended
from service.outages import Outage
from service.store.auditing import LINES_PER_PAGE, next_lines
from service.store.log import Log
from service.telemetry.metrics import Metrics

CPU_SHARE = 0.02
LINES_AT_ONCE = 20
"""How many lines keep the event loop, for about a millisecond."""
ROUND_SECONDS_MIN = 30.0
OUTAGE_SECONDS = 10.0
UNITS_IN_MEMORY_MAX = 4_000

_log = logging.getLogger(__name__)


class Auditor:
    """Verifies the log until it is stopped; `faults` has the first wrong event of each partition that is not sound."""

    def __init__(self, log: Log, partitions: int, *, cpu_share: float = CPU_SHARE) -> None:
        self._store = log
        self._partitions = partitions
        self._rest = 1 / cpu_share - 1
        self._task: asyncio.Task[None] | None = None
        self._begun = monotonic()
        self._finished: dict[int, float] = {}
        self.verified: dict[int, int] = {}
        self.faults: dict[int, Fault] = {}
        self.failures: dict[int, str] = {}
        """Partitions of which nothing can be said, and why."""

    def start(self) -> None:
        """Begin to verify."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; the next start begins anew."""
        if self._task is not None:
            await ended([self._task])

    def alarm(self) -> str | None:
        """Return what is wrong with the history, in words, or None."""
        told = [f"{fault.place} {fault.code}: {fault.detail}" for fault in self.faults.values()]
        return "; ".join([*told, *self.failures.values()]) or None

    async def audit(self, partition: int) -> Fault | None:
        """Verify one partition up to where it ends now; returns what is wrong with it. Raises Outage."""
        marks, spoilt = await self._marks(partition)  # before the head, which is behind them then
        with closing(States(UNITS_IN_MEMORY_MAX)) as states:
            verifier = Verifier(partition, states, partitions=self._partitions, marks=marks)
            try:
                try:
                    head = await self._store.head(partition)
                except LookupError as error:
                    verifier.refuse("forged_head", str(error), position=0)
                await self._verify_lines(verifier, head.position)
                verifier.end(vouched=head.hash)
                if (verifier.position, verifier.hash) != (head.position, head.hash):
                    detail = f"the head says {head.position}, {head.hash}; the line there has {verifier.hash}"
                    verifier.refuse("forged_head", detail, position=verifier.position)
            except Faulty as faulty:
                return faulty.fault
        return spoilt

    async def _marks(self, partition: int) -> tuple[list[Mark], Fault | None]:
        """Return what the last checkpoint says of a partition, or what keeps it from being read."""
        try:
            return list((await last_marks(self._store)).get(partition, ())), None
        except ValueError as error:
            detail = f"the last checkpoint in the database cannot be read: {error}"
            return [], Fault(code="wrong_signature", partition=partition, position=0, detail=detail)

    async def _verify_lines(self, verifier: Verifier, until: int) -> None:
        columns = Columns(verifier)
        after = 0
        while after < until:
            rows = await next_lines(self._store, verifier.partition, after, min(LINES_PER_PAGE, until - after))
            if not rows:
                return
            for start in range(0, len(rows), LINES_AT_ONCE):
                begun = perf_counter()
                for row in rows[start : start + LINES_AT_ONCE]:
                    columns.take(row)
                await asyncio.sleep((perf_counter() - begun) * self._rest)
            after = rows[-1]["position"]
            self.verified[verifier.partition] = verifier.position

    async def round(self) -> None:
        """Verify every partition once; raises Outage."""
        for partition in range(self._partitions):
            try:
                fault = await self.audit(partition)
            except Outage:
                raise
            except Exception as error:  # noqa: BLE001 - one that cannot be audited keeps no other from it
                _log.exception("partition %d could not be audited", partition)
                self.failures[partition] = f"partition {partition} could not be audited: {type(error).__name__}"
                continue
            self.failures.pop(partition, None)
            if fault is None:
                self.faults.pop(partition, None)
                self._finished[partition] = monotonic()
            elif self.faults.get(partition) != fault:
                self.faults[partition] = fault
                _log.critical("the history is not sound: %s: %s: %s", fault.place, fault.code, fault.detail)

    async def _run(self) -> None:
        while True:
            begun = monotonic()
            try:
                await self.round()
            except Outage as outage:
                _log.warning("nothing is audited now: %s", outage)
                await asyncio.sleep(OUTAGE_SECONDS)
                continue
            except Exception:  # noqa: BLE001 - the next round may fare better, and nobody waits for this one
                _log.exception("an audit failed")
            await asyncio.sleep(max(OUTAGE_SECONDS, ROUND_SECONDS_MIN - (monotonic() - begun)))

    def measure(self, metrics: Metrics) -> None:
        """Add what there is to know about the audit."""
        position = metrics.number(
            "gauge", "credit_ledger_audited_position", "Up to where the running or last audit verified.", "partition"
        )
        age = metrics.number(
            "gauge", "credit_ledger_audit_age_seconds", "Since when the longest waiting partition was not found sound."
        )
        faults = metrics.number("gauge", "credit_ledger_audit_faults", "Partitions whose history is not sound.")

        async def show() -> None:
            for partition, verified in self.verified.items():
                position.labels(str(partition)).value = verified
            oldest = min(self._finished.get(partition, self._begun) for partition in range(self._partitions))
            age.labels().value = monotonic() - oldest
            faults.labels().value = len(self.faults)

        metrics.probe(show)
