"""What may happen to a job, from the request to the last credit.

    submit    credits and a place among the plan's jobs are held, the job is written down, and queued
    begin     a worker takes the job's hold over, and has the provider begin an attempt
    hear      the provider tells of progress, success or failure: once, repeatedly, late, in any order
    cancel    before it starts
    retry     of a job that failed for good, on a new hold

Whatever decides a job, `settle` then tells the ledger: work that was done is consumed, all else released. The hold is
made with the job's id as key and settled with keys made from the hold's id, so all of it may be done again after a crash
and counts once. As long as a job is open its hold is, and occupies one of the plan's `concurrent_jobs`: the ledger
refuses the next one to the API and to the workers alike.
"""

from __future__ import annotations

import logging
from hashlib import sha256
from uuid import uuid4

from credit_ledger_client import (
    Hold,
    InsufficientCredits,
    Ledger,
    LedgerError,
    Refused,
    ReservationExpired,
    ReservationFinalized,
    Unavailable,
)
from credit_ledger_client.fields import SettleFields
from examples.generation_service.jobs import REFERENCE_MODELS, Job, Model, Priority, Refusal, Version, Work
from examples.generation_service.provider import (
    Failed,
    News,
    Progress,
    Provider,
    ProviderAway,
    ProviderRefused,
    Succeeded,
)
from examples.generation_service.queue import Queue, QueueAway, Task
from examples.generation_service.store import Store

DELIVERIES_MAX = 20
HOLD_SECONDS = 900
"""What a hold is given anew while its job is open; it is never made shorter."""
PAUSE_SECONDS_MAX = 10.0

_log = logging.getLogger(__name__)


class Generation:
    """The service; `pause_seconds` is how long a worker first leaves alone what cannot be begun now."""

    def __init__(
        self, ledger: Ledger, store: Store, queue: Queue, provider: Provider, *, pause_seconds: float = 1.0
    ) -> None:
        self.ledger = ledger
        self.store = store
        self.queue = queue
        self._provider = provider
        self._pause_seconds = pause_seconds

    # -- what a team asks for --------------------------------------------------------------------------------------

    async def submit(self, team: str, work: Work, priority: Priority, key: str | None) -> Job:
        """Hold, write down and queue a job; with a key that came before, return its job. Raises LedgerError and Refusal."""
        job_id = _id("job", team, key)
        if (known := self.store.job(job_id)) is None:
            async with self._hold(job_id, team, work) as hold:
                added = self.store.add(job_id, team, work, priority, hold.id)
                hold.hand_over()  # written down: the hold lives and ends with the job, whoever wrote it down
            if added is not None:
                await self._queue(added)
                return added
            known = self._known(job_id)
        if known.work != work or known.priority != priority:
            raise Refusal(409, "idempotency_mismatch", "the key was used before for another job")
        return known

    async def cancel(self, team: str, job_id: str) -> Job:
        """Cancel a job that has not started, and give its credits back; again: the same. Raises Refusal."""
        job = self.find(team, job_id)
        cancelled = self.store.cancel(job_id)
        if cancelled is None and self._known(job_id).state != "cancelled":
            raise Refusal(409, "job_started", f"the job is {self._known(job_id).state}")
        await self.settle(cancelled or job)
        return self._known(job_id)

    async def retry(self, team: str, job_id: str) -> Job:
        """Queue a job that failed once more, paid for anew. Raises LedgerError and Refusal."""
        job = self.find(team, job_id)
        if job.state != "failed" or not job.settled:
            raise Refusal(409, "job_not_failed", f"the job is {job.state}")
        async with self._hold(job.id, job.team, job.work) as hold:
            revived = self.store.revive(job, hold.id)
            hold.hand_over()  # of two who try at once one revives the job, and both have this hold
        if revived is None:
            raise Refusal(409, "job_not_failed", f"the job is {self._known(job_id).state}")
        await self._queue(revived)
        return revived

    def find(self, team: str, job_id: str) -> Job:
        """Return a team's job; raises Refusal."""
        job = self.store.job(job_id)
        if job is None or job.team != team:
            raise Refusal(404, "job_not_found", "there is no such job")
        return job

    # -- models ----------------------------------------------------------------------------------------------------

    async def train(self, team: str, name: str, reference: str, images: int, quality: str, key: str | None) -> Job:
        """Make a model of the team's own, by a job that trains its first version. Raises LedgerError and Refusal."""
        if reference not in REFERENCE_MODELS:
            raise Refusal(404, "model_not_found", "there is no such reference model")
        model_id = _id("model", team, key)
        self.store.add_model(model_id, team, name, reference)  # not shown before it has a version
        work = Work(type="model_creation", model=model_id, version=1, quantity=images, params={"quality": quality})
        return await self.submit(team, work, "normal", key)

    async def refine(self, team: str, model_id: str, images: int, quality: str, key: str | None) -> Job:
        """Train the next version of a model. Raises LedgerError and Refusal."""
        _, versions = self.own_model(team, model_id)
        known = self.store.job(_id("job", team, key))
        number = known.work.version if known is not None else len(versions) + 1
        if known is None and any(version.is_open for version in versions):
            raise Refusal(409, "model_in_training", "a version of the model is in training")
        if known is None and not any(version.is_ready for version in versions):
            raise Refusal(409, "model_not_ready", "no version of the model is ready")
        work = Work(
            type="model_refinement", model=model_id, version=number, quantity=images, params={"quality": quality}
        )
        return await self.submit(team, work, "normal", key)

    def own_model(self, team: str, model_id: str) -> tuple[Model, list[Version]]:
        """Return a team's model that was not deleted, with its versions; raises Refusal."""
        model = self.store.model(team, model_id)
        if model is None or model.deleted_at is not None:
            raise Refusal(404, "model_not_found", "there is no such model")
        return model, self.store.versions(model_id)

    def delete_model(self, team: str, model_id: str) -> None:
        """Delete a model: nothing new is made with it; its jobs, results and credits stay. Raises Refusal."""
        self.store.delete_model(self.own_model(team, model_id)[0])

    def usable(self, team: str, model_id: str, version: int | None) -> int | None:
        """Return which version to make images with, the newest that is ready unless one is named; raises Refusal."""
        if model_id in REFERENCE_MODELS and version is None:
            return None
        ready = [each.version for each in self.own_model(team, model_id)[1] if each.is_ready]
        if not ready or (version is not None and version not in ready):
            raise Refusal(409, "model_not_ready", "that version of the model is not ready")
        return version or ready[-1]

    # -- what a worker does ----------------------------------------------------------------------------------------

    async def begin(self, task: Task) -> None:
        """Have the provider begin an attempt, unless the job was decided or has gone on."""
        job = self.store.job(task.job)
        if job is None or not job.is_open or job.attempt != task.attempt or job.provider_id is not None:
            await task.done()
            return
        pause = min(self._pause_seconds * 2 ** min(task.deliveries - 1, 20), PAUSE_SECONDS_MAX)
        try:
            hold = await self._held(job)
            started = None if hold is None else self.store.start(job, hold)
            if hold is not None and started is None:
                await self._leave(job, hold)
            if started is not None:
                self.store.begun(started, await self._provider.begin(started))
        except (ProviderRefused, InsufficientCredits, ReservationFinalized) as error:
            await self.decide(self.store.fail(job.id, job.attempt, str(error)))
        except ProviderAway as error:
            self.store.put_back(job)
            if task.deliveries < DELIVERIES_MAX:
                await task.later(pause)
                return
            await self.decide(self.store.fail(job.id, job.attempt, str(error)))
        except LedgerError as error:  # no room in the plan at present, or the ledger is away
            _log.info("job %s is begun later: %s", job.id, error)
            await task.later(pause)
            return
        await task.done()

    async def _held(self, job: Job) -> str | None:
        """Return the hold of a job: the one it has, or a new one if that ran out; None when the job was decided meanwhile."""
        try:
            async with self.ledger.take_over(job.team, job.hold, ttl_seconds=HOLD_SECONDS, renew=False) as hold:
                return hold.hand_over()
        except (ReservationExpired, ReservationFinalized):
            if not self._known(job.id).is_open:  # a task that came twice, or a cancel: that is why the hold has ended
                return None
        async with self._hold(job.id, job.team, job.work) as anew:
            return anew.hand_over()

    async def _leave(self, job: Job, hold_id: str) -> None:
        """Give back the hold that was made for a job which was cancelled or failed meanwhile."""
        now = self._known(job.id)
        if now.state in {"cancelled", "failed"} and now.hold != hold_id:
            await self.ledger.release(job.team, hold_id, reason="the job was decided", key=f"{hold_id}:release")

    # -- what the provider tells -----------------------------------------------------------------------------------

    async def hear(self, news: News) -> None:
        """Take in what the provider tells; whatever was decided before stays."""
        match news:
            case Progress():
                self.store.progress(news.job, news.attempt, news.percent)
            case Succeeded(results=[]):
                await self.decide(self.store.fail(news.job, news.attempt, "the provider made nothing"))
            case Succeeded():
                await self.decide(self.store.succeed(news.job, news.results))
            case Failed(retryable=True) if await self.try_again(news.job, news.attempt):
                pass
            case Failed():
                await self.decide(self.store.fail(news.job, news.attempt, news.error))

    async def try_again(self, job_id: str, attempt: int) -> bool:
        """Queue the next attempt on the same hold; False when there is none."""
        if (again := self.store.try_again(job_id, attempt)) is not None:
            await self._queue(again)
        return again is not None

    async def decide(self, decided: Job | None) -> None:
        """Tell the ledger about a job that was decided just now; None when somebody else decided it."""
        if decided is not None:
            await self.settle(decided)

    async def settle(self, job: Job) -> None:
        """Tell the ledger how a job ended; when it is away, the upkeep tells it later."""
        try:
            if job.state == "succeeded":
                made: SettleFields = {"key": f"{job.hold}:consume"}  # all that is held
                if job.work.type == "image_generation" and len(job.results) < job.work.quantity:
                    made |= {"quantity": len(job.results), "params": job.work.params}
                await self.ledger.settle(job.team, job.hold, **made)
            else:
                reason = job.error or "the job was cancelled before it started"
                await self.ledger.release(job.team, job.hold, reason=reason, key=f"{job.hold}:release")
        except Refused as refusal:  # it ran out, so that nothing is held any more
            _log.log(logging.ERROR if job.state == "succeeded" else logging.INFO, "job %s: %s", job.id, refusal)
        except Unavailable as error:
            _log.warning("job %s is settled later: %s", job.id, error)
            return
        self.store.settled(job)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _hold(self, job_id: str, team: str, work: Work) -> Hold:
        return self.ledger.hold(
            team, work.operation, work.quantity, params=work.params, key=job_id, reference=job_id, renew=False
        )

    async def _queue(self, job: Job) -> None:
        try:
            await self.queue.put(job)
        except QueueAway as error:  # it is written down, and the upkeep queues it
            _log.warning("job %s is queued later: %s", job.id, error)

    def _known(self, job_id: str) -> Job:
        job = self.store.job(job_id)
        if job is None:
            raise LookupError(job_id)
        return job


def _id(kind: str, team: str, key: str | None) -> str:
    """Return an id: the same for the same key of a team, so that a request that comes twice makes one."""
    own = uuid4().hex if key is None else sha256(f"{team} {key}".encode()).hexdigest()[:32]
    return f"{kind}-{own}"
