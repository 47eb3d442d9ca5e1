"""Books the rows of an import file, each once, however often it runs.

First everything is read and judged, and nothing is written: a row is rehearsed with the rules themselves, on an account
that exists only in memory. Then the rows are booked through the ledger, as any caller's commands are, beside a running
service or without one. What stands between a crash and a second run are the keys: a row that is in the ledger is found
there and passed over.

An account that exists keeps its plan, whatever a row says: an import opens accounts and grants credits, it does not
change what a customer has chosen since. Memory is bounded: rows are taken in chunks, and the keys seen so far, by which
a row that stands twice is found, are kept in a temporary file.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TypeVar

from events.account import State
from events.asking import Asked
from events.commands import ChangePlan, Grant
from events.decide import decide
from events.errors import IdempotencyMismatch, Refusal
from events.recorded import Actor, decode
from service.importing.rows import BadLine, Format, Row, read_rows
from service.ledger import Ledger
from service.outages import Outage
from service.requests import Outcome, Request, key_digest
from service.snapshots import decode_account
from service.store.imports import booked

CHUNK_ROWS = 500
PROBLEMS_MAX = 100
"""How many bad lines a report lists; all are counted."""
PATIENCE_SECONDS = 30.0
ACTOR = Actor(id="import", via="cli")

Advance = Callable[[int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Interrupted(Exception):
    """The ledger was away for too long; everything up to here is booked, and the same command goes on."""


@dataclass(slots=True)
class Report:
    """What an import found and did; of a dry run, what it would do. `amounts` is what was granted, by unit."""

    rows: int = 0
    granted: int = 0
    already_there: int = 0
    opened: int = 0
    plans_kept: int = 0
    bad: int = 0
    refused: int = 0
    amounts: dict[str, int] = field(default_factory=dict[str, int])
    problems: list[BadLine] = field(default_factory=list[BadLine])

    def add(self, problem: BadLine) -> None:
        """Note what is wrong with a line."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


@dataclass(slots=True)
class Known:
    """What the ledger has of a chunk: the plans of accounts that exist, and the fingerprints of keys that were booked."""

    plans: dict[str, str | None]
    fingerprints: dict[bytes, str | None]

    def booked(self, row: Row) -> bool:
        """Say whether a row's grant is in the ledger."""
        return row.grant is not None and key_digest(row.account, row.grant.key) in self.fingerprints


class Importer:
    """Judges and books the rows of one file."""

    def __init__(self, ledger: Ledger, path: Path, form: Format) -> None:
        self._ledger = ledger
        self._path = path
        self._form: Format = form
        self._opened: dict[str, State] = {}

    async def judge(self, advance: Advance) -> Report:
        """Read everything, write nothing: what booking would do, and every bad line.

        Raises UnreadableFile, and Interrupted when the ledger stays away.
        """
        report = Report()
        with closing(_Seen()) as seen:
            for chunk in _chunks(self._rows(seen)):
                rows, known = await self._good(chunk, report)
                for row in rows:
                    self._foresee(
                        row, known, report, was_there=seen.had_account(row.account) or row.account in known.plans
                    )
                advance(len(chunk))
        return report

    async def book(self, advance: Advance) -> Report:
        """Book every row that is not bad. Raises UnreadableFile, and Interrupted when the ledger stays away."""
        report = Report()
        with closing(_Seen()) as seen:
            for chunk in _chunks(self._rows(seen)):
                rows, known = await self._good(chunk, report)
                accounts: dict[str, list[Row]] = {}
                for row in rows:
                    accounts.setdefault(row.account, []).append(row)
                ends = await asyncio.gather(
                    *(self._book_account(mine, known, report) for mine in accounts.values()), return_exceptions=True
                )
                for end in ends:
                    if end is not None:
                        raise end
                advance(len(chunk))
        return report

    async def _good(self, chunk: list[Row | BadLine], report: Report) -> tuple[list[Row], Known]:
        """Return the rows of a chunk that can be booked, with what the ledger has of them; report the others."""
        known = await _insist(lambda: self._known([row for row in chunk if isinstance(row, Row)]))
        rows: list[Row] = []
        for found in chunk:
            row = found if isinstance(found, BadLine) else self._judged(found, known)
            if isinstance(row, BadLine):
                report.bad += 1
                report.add(row)
            else:
                report.rows += 1
                rows.append(row)
        return rows, known

    def _rows(self, seen: _Seen) -> Iterator[Row | BadLine]:
        """Yield the file's rows; one whose key stood on an earlier line is bad."""
        for row in read_rows(self._path, self._form):
            first = row.line
            if isinstance(row, Row) and row.grant is not None:
                first = seen.first_line(key_digest(row.account, row.grant.key), row.line)
            if first == row.line:
                yield row
            else:
                yield BadLine(
                    row.line, f"says the same as line {first}; when both are meant, give each an `id` of its own"
                )

    async def _known(self, rows: Iterable[Row]) -> Known:
        """Return what the ledger has of some rows; raises Outage."""
        log, partition = self._ledger.log, self._ledger.partition
        names = list({row.account for row in rows})
        snapshots = await log.snapshots([(partition(name), name) for name in names])
        plans = {name: decode_account(state).plan for name, state in snapshots.items()}
        keys = [
            (partition(row.account), key_digest(row.account, row.grant.key))
            for row in rows
            if row.grant is not None and row.account in plans
        ]
        lines = await booked(log, keys) if keys else {}
        return Known(plans, {key: decode(line).command.fingerprint for key, line in lines.items()})

    def _judged(self, row: Row, known: Known) -> Row | BadLine:
        """Return the row, or why it is bad: what the rules say on an account that exists only here."""
        if row.grant is not None and known.booked(row):
            same = known.fingerprints[key_digest(row.account, row.grant.key)] == row.grant.fingerprint
            return row if same else BadLine(row.line, "id: was imported before, with other content")
        catalog, now = self._ledger.catalog, self._ledger.clock()
        plan = row.plan or catalog.default_plan
        try:
            if plan is None:
                if row.account in known.plans:
                    return row
                return BadLine(row.line, "plan: names none, and the catalog has no default plan")
            if plan not in self._opened:
                change = ChangePlan(account="rehearsal", plan=plan)
                self._opened[plan] = decide(State.unknown("rehearsal"), change, now, catalog, "rehearsal").state
            if row.grant is not None:
                decide(self._opened[plan], row.grant.command, now, catalog, "rehearsal-2")
        except Refusal as refusal:
            return BadLine(row.line, refusal.detail)
        return row

    def _foresee(self, row: Row, known: Known, report: Report, *, was_there: bool) -> None:
        """Count what booking a row would do."""
        report.opened += not was_there
        if row.plan is not None and known.plans.get(row.account, row.plan) != row.plan:
            report.plans_kept += 1
        self._count(row, report, was_there=was_there if row.grant is None else known.booked(row))

    def _count(self, row: Row, report: Report, *, was_there: bool) -> None:
        if was_there:
            report.already_there += 1
        elif row.grant is not None:
            report.granted += 1
            assert isinstance(row.grant.command, Grant)  # noqa: S101 - it was parsed as one
            unit = row.grant.command.unit or "credits"
            report.amounts[unit] = report.amounts.get(unit, 0) + row.grant.command.amount

    async def _book_account(self, rows: list[Row], known: Known, report: Report) -> None:
        """Book the rows of one account, in their order."""
        for row in rows:
            try:
                await self._book_row(row, known, report)
            except Refusal as refusal:
                report.refused += 1
                report.add(BadLine(row.line, f"refused: {refusal.detail}"))

    async def _book_row(self, row: Row, known: Known, report: Report) -> None:
        was_there = row.account in known.plans
        if not was_there:
            await self._open(row, known, report)
        if row.plan is not None and known.plans[row.account] != row.plan:
            report.plans_kept += 1
        if row.grant is not None and not known.booked(row):
            was_there = (await self._execute(row.grant)).replayed
        self._count(row, report, was_there=was_there)

    async def _open(self, row: Row, known: Known, report: Report) -> None:
        """Open an account; when somebody else did so meanwhile, it keeps the plan that it has."""
        plan = row.plan or self._ledger.catalog.default_plan
        assert plan is not None  # noqa: S101 - a row without any is bad
        try:
            outcome = await self._execute(row.opening(plan))
            report.opened += not outcome.replayed
        except IdempotencyMismatch:
            plan = None
        known.plans[row.account] = plan

    async def _execute(self, asked: Asked) -> Outcome:
        """Execute a command; an outage is waited out. Raises Refusal and Interrupted."""
        request = Request(*asked, ACTOR)
        return await _insist(lambda: self._ledger.execute(request))


class _Seen:
    """The keys and accounts that a file had so far, in a temporary file that the operating system throws away."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("")
        self._file.execute("create table keys (key blob primary key, line integer) without rowid")
        self._file.execute("create table accounts (account text primary key) without rowid")

    def first_line(self, key: bytes, line: int) -> int:
        """Return the first line on which a key stood."""
        if self._file.execute("insert or ignore into keys values (?, ?)", (key, line)).rowcount:
            return line
        return self._file.execute("select line from keys where key = ?", (key,)).fetchone()[0]

    def had_account(self, account: str) -> bool:
        """Say whether an account was asked for before."""
        return not bool(self._file.execute("insert or ignore into accounts values (?)", (account,)).rowcount)

    def close(self) -> None:
        """Throw the file away."""
        self._file.close()


async def _insist(work: Callable[[], Awaitable[Result]]) -> Result:
    """Do work that may be done again, until the ledger answers; raises Interrupted when the patience ends."""
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await work()
        except Outage as outage:
            if monotonic() > deadline:
                raise Interrupted(
                    f"{outage.detail}; run the same command again, it goes on where this one stopped"
                ) from outage
            await asyncio.sleep(outage.retry_after_seconds)


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK_ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
