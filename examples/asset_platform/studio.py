"""What makes assets: a model that fails on demand, a queue, and a worker that gives back what failed.

The queue is in memory, so what it still holds at the end is refunded. `examples/generation_service` has one that
survives the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import uuid4

from credit_ledger_client import Hold, Ledger, LedgerError
from examples.stopping import stopped

JOBS_MAX = 1000
REFUND_SECONDS_MAX = 600.0

_log = logging.getLogger(__name__)


class ModelFailed(Exception):
    """The model did not make it."""


class QueueIsFull(Exception):
    """There is no room for another job."""


@dataclass(frozen=True, slots=True)
class Model:
    """Stands for a provider of models: takes its time, and fails when the prompt says `fail`."""

    seconds: float = 1.0

    async def make(self, kind: str, prompt: str) -> str:
        """Return where the asset is; raises ModelFailed."""
        await asyncio.sleep(self.seconds)
        if "fail" in prompt:
            raise ModelFailed
        return f"https://assets.example/{kind}/{uuid4().hex}"


@dataclass(slots=True)
class Job:
    """Work on the queue, already paid for by the consumption that has the hold's id; one flow for each prompt."""

    team: str
    kind: str
    paid: str
    flows: list[tuple[str, int]]
    """Each prompt, and what it cost."""
    id: str = field(default_factory=lambda: uuid4().hex)
    state: str = "queued"
    assets: list[str] = field(default_factory=list[str])
    refunded: int = 0

    @property
    def shown(self) -> dict[str, Any]:
        """The job as its team sees it."""
        about = {"job": self.id, "kind": self.kind, "state": self.state}
        return {**about, "assets": self.assets, "refunded": self.refunded}


class Studio:
    """The queue and its worker; an asynchronous context manager that runs it."""

    def __init__(self, ledger: Ledger, model: Model) -> None:
        self.model = model
        self.jobs: dict[str, Job] = {}
        self._ledger = ledger
        self._waiting: deque[Job] = deque()
        self._news = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._worker is not None:
            await stopped({self._worker})
        for job in [job for job in self.jobs.values() if job.state in {"queued", "running"}]:
            await self._fail(job, "the studio was stopped")

    def enqueue(self, kind: str, prompts: Sequence[str], hold: Hold) -> Job:
        """Queue a job that the hold pays for; raises QueueIsFull."""
        if len(self._waiting) >= JOBS_MAX:
            raise QueueIsFull
        costs = [line.amount for line in hold.reservation.lines] if hold.reservation else [0]
        job = Job(hold.account, kind, hold.id, list(zip(prompts, costs, strict=True)))
        self.jobs[job.id] = job
        self._waiting.append(job)
        self._news.set()
        return job

    async def _work(self) -> None:
        while True:
            while self._waiting:
                await self._make(self._waiting.popleft())
            self._news.clear()
            await self._news.wait()

    async def _make(self, job: Job) -> None:
        """Make one flow after the other; each that fails is refunded alone, with a key of its own."""
        job.state = "running"
        failed: list[tuple[int, int]] = []
        for number, (prompt, cost) in enumerate(job.flows):
            try:
                job.assets.append(await self.model.make(job.kind, prompt))
            except ModelFailed:
                failed.append((number, cost))
        for number, cost in failed:
            await self._give_back(job, cost, f"{job.paid}:refund:{number}", "the model failed")
        job.state = "succeeded" if not failed else "failed" if not job.assets else "partly failed"

    async def _fail(self, job: Job, reason: str) -> None:
        await self._give_back(job, None, f"{job.paid}:refund", reason)
        job.state = "failed"

    async def _give_back(self, job: Job, amount: int | None, key: str, reason: str) -> None:
        """Refund what did not come to be; the request that queued the job may not even be answered and paid for yet."""
        try:
            answer = await self._ledger.give_back(
                job.team, job.paid, amount=amount, reason=reason, key=key, within=REFUND_SECONDS_MAX
            )
        except LedgerError:
            _log.exception("job %s failed and was not refunded", job.id)
        else:
            job.refunded = answer.consumption.refunded if answer.consumption else 0
