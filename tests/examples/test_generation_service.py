"""FEATURES.md D2 to D4, D6 and D7: the reference generation service, on the running ledger, with its queue on JetStream."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from aiohttp.test_utils import TestClient, TestServer, unused_port

from credit_ledger_client import Ledger
from examples.generation_service.app import Secrets, application
from examples.generation_service.fake_provider import FakeProvider
from examples.generation_service.generation import Generation
from examples.generation_service.provider import Provider, Succeeded
from examples.generation_service.queue import Queue
from examples.generation_service.signing import sign_webhook
from examples.generation_service.store import Store
from examples.generation_service.upkeep import Upkeep
from tests.examples.commands import example, paste
from tests.features.conftest import Service
from tests.servers import eventually, throwaway_directory

SECRETS = Secrets(b"of webhooks", b"of links")
OVER = {"succeeded", "failed", "cancelled", "expired"}


class Clock:
    """The present, moved."""

    def __init__(self) -> None:
        self.moved = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.moved


class Teams:
    """The service as one of its teams uses it, and as its provider and its operators see it."""

    def __init__(self, client: TestClient[Any, Any], generation: Generation, provider: FakeProvider, team: str) -> None:
        self.generation = generation
        self.provider = provider
        self.upkeep = Upkeep(generation, waiting_seconds=0, silent_seconds=0, held_seconds=0)
        self.team = team
        self._client = client

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        async with self._client.request(
            method, path, json=body, headers={"Team": self.team, **headers}, allow_redirects=False
        ) as answer:
            return answer.status, await answer.json() if "json" in answer.content_type else dict(answer.headers)

    async def images(self, prompt: str = "a lamp", images: int = 4, **fields: object) -> str:
        status, job = await self.ask(
            "POST", "/jobs", {"model": "aurora-2", "images": images, "prompt": prompt, **fields}
        )
        assert status == 202, job
        return job["job"]

    async def job(self, job: str) -> Any:
        return (await self.ask("GET", f"/jobs/{job}"))[1]

    async def ended(self, job: str) -> Any:
        """The job when it has ended and the ledger knows it."""

        def has_ended() -> bool:
            found = self.generation.store.job(job)
            return found is not None and found.state in OVER and found.settled

        await eventually(has_ended, f"{job} has ended")
        return await self.job(job)

    async def credits(self) -> tuple[int, int]:
        """What is available, and what is held."""
        _, balance = await self.ask("GET", "/credits")
        return balance["available"], balance["reserved"]

    async def moved(self, job: str, *kinds: str) -> None:
        """Waits until the job's transactions are of these kinds."""

        async def are() -> bool:
            return [row["kind"] for row in (await self.job(job))["transactions"]] == list(kinds)

        await eventually(are, f"the transactions are {kinds}")

    async def tell(
        self, news: dict[str, Any], signed_at: datetime | None = None, secret: bytes = SECRETS.webhooks
    ) -> int:
        """Sends a webhook as the provider does; its status."""
        body = json.dumps(news).encode()
        headers = {"Provider-Signature": sign_webhook(secret, body, signed_at or datetime.now(UTC))}
        async with self._client.post("/provider/webhook", data=body, headers=headers) as answer:
            return answer.status


@asynccontextmanager
async def serving(
    studio: Service, path: Path, team: str, *, workers: int = 2, ledger_url: str | None = None
) -> AsyncIterator[Teams]:
    """The service on a file; the team is on the plan pro: 2025 credits, 10 jobs at once."""
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    name = path.stem.replace(".", "-")
    ledger = Ledger.over_http(ledger_url or studio.url)
    queue = Queue(studio.nats_url, f"JOBS-{name}", f"jobs-{name}")
    provider = Provider(f"{url}/fake-provider", f"{url}/provider/webhook")
    generation = Generation(ledger, Store(path, Clock()), queue, provider, pause_seconds=0.05)
    app = application(generation, SECRETS, Upkeep(generation, round_seconds=3600), workers=workers)
    fake = FakeProvider(SECRETS.webhooks, f"{url}/fake-provider", seconds=0.02)
    app.add_subapp("/fake-provider", fake.application())
    async with TestClient(TestServer(app, port=port)) as client:
        await ledger.change_plan(team, "pro", key="sign-up")
        yield Teams(client, generation, fake, team)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / f"{uuid4().hex}.sqlite"


@pytest.fixture
def team() -> str:
    return f"team-{uuid4().hex[:12]}"


@pytest.fixture
async def service(studio: Service, path: Path, team: str) -> AsyncGenerator[Teams]:
    async with serving(studio, path, team) as service:
        yield service


@pytest.fixture
async def idle(studio: Service, path: Path, team: str) -> AsyncGenerator[Teams]:
    """The service without workers: what is queued stays there."""
    async with serving(studio, path, team, workers=0) as service:
        yield service


async def test_d2_a_job_that_succeeds_is_consumed_and_shows_its_credits(service: Teams) -> None:
    job = await service.images(images=4, quality="high")
    ended = await service.ended(job)
    assert (ended["state"], ended["progress"], len(ended["results"])) == ("succeeded", 100, 4)
    await service.moved(job, "hold", "settle")
    assert await service.credits() == (2025 - 9, 0), "(0.5 + 4) x 2"


@pytest.mark.parametrize(
    ("prompt", "state", "attempt", "left"),
    [
        ("partial", "succeeded", 1, 2025 - 4),
        ("flaky", "succeeded", 2, 2025 - 5),
        ("stammer", "succeeded", 1, 2025 - 5),
        ("busy", "succeeded", 1, 2025 - 5),
        ("fail", "failed", 1, 2025),
        ("refuse", "failed", 1, 2025),
        ("stammer fail", "failed", 1, 2025),
    ],
)
async def test_d6_whatever_the_provider_does_a_job_is_settled_once(
    service: Teams, prompt: str, state: str, attempt: int, left: int
) -> None:
    job = await service.images(prompt)
    ended = await service.ended(job)
    assert (ended["state"], ended["attempt"]) == (state, attempt)
    await service.moved(job, "hold", "settle", *(["release"] * ("partial" in prompt))) if state == "succeeded" else (
        await service.moved(job, "hold", "release")
    )
    assert await service.credits() == (left, 0)


async def test_d6_webhooks_that_are_forged_old_or_wrong_are_refused(idle: Teams) -> None:
    job = await idle.images()
    done = {"type": "succeeded", "job": job, "attempt": 1, "results": ["https://provider.example/1"]}
    assert await idle.tell(done, secret=b"a guess") == 401
    assert await idle.tell(done, datetime.now(UTC) - timedelta(minutes=6)) == 401
    assert (await idle.ask("POST", "/provider/webhook", done))[0] == 401
    assert await idle.tell({"type": "exploded", "job": job}) == 422
    assert (await idle.job(job))["state"] == "queued"
    assert await idle.tell({**done, "job": "job-unknown"}) == 204


async def test_d6_news_in_any_order_and_again_decide_once(idle: Teams) -> None:
    job = await idle.images(images=1)
    done = {"type": "succeeded", "job": job, "attempt": 1, "results": ["https://provider.example/1"]}
    failed = {"type": "failed", "job": job, "attempt": 1, "error": "late", "retryable": True}
    answers = await asyncio.gather(*(idle.tell(news) for news in (done, failed, done, done)))
    assert answers == [204] * 4
    await idle.tell({"type": "progress", "job": job, "attempt": 1, "percent": 10})
    await idle.tell({**failed, "retryable": False})
    ended = await idle.ended(job)
    assert (ended["state"], ended["progress"]) == ("succeeded", 100)
    await idle.moved(job, "hold", "settle")
    assert await idle.credits() == (2025 - 2, 0)


async def test_d2_a_job_is_cancelled_before_it_starts_and_not_after(idle: Teams) -> None:
    job = await idle.images()
    assert await idle.credits() == (2020, 5)
    for _ in range(2):
        assert (await idle.ask("POST", f"/jobs/{job}/cancel"))[0] == 200
    await idle.moved(job, "hold", "release")
    assert (
        await idle.tell({"type": "succeeded", "job": job, "attempt": 1, "results": ["https://provider.example/1"]})
        == 204
    )
    assert (await idle.job(job))["state"] == "cancelled"
    await idle.generation.begin(await idle.generation.queue.take())
    assert idle.provider.begun == {}
    assert await idle.credits() == (2025, 0)
    started = await idle.images("silent")
    await idle.generation.begin(await idle.generation.queue.take())
    status, problem = await idle.ask("POST", f"/jobs/{started}/cancel")
    assert (status, problem["code"]) == (409, "job_started")


async def test_d7_a_job_that_failed_is_tried_again_and_paid_for_once(idle: Teams) -> None:
    job = await idle.images()
    await idle.tell({"type": "failed", "job": job, "attempt": 1, "error": "out of memory", "retryable": False})
    assert (await idle.ended(job))["error"] == "out of memory"
    answers = await asyncio.gather(*(idle.ask("POST", f"/jobs/{job}/retry") for _ in range(2)))
    assert sorted(status for status, _ in answers) == [202, 409]
    assert await idle.tell({"type": "failed", "job": job, "attempt": 1, "error": "repeated", "retryable": False}) == 204
    assert (await idle.job(job))["state"] == "queued", "news of an earlier attempt change nothing"
    await idle.tell({"type": "succeeded", "job": job, "attempt": 4, "results": ["https://provider.example/1"] * 4})
    await idle.ended(job)
    await idle.moved(job, "hold", "release", "hold", "settle")
    assert await idle.credits() == (2020, 0)


async def test_d4_the_plans_jobs_at_once_are_one_limit_for_the_api_and_the_workers(idle: Teams) -> None:
    answers = await asyncio.gather(
        *(idle.ask("POST", "/jobs", {"model": "aurora-2", "prompt": "silent"}) for _ in range(14))
    )
    assert sorted(status for status, _ in answers) == [202] * 10 + [429] * 4
    job = next(answer["job"] for status, answer in answers if status == 202)
    found = idle.generation.store.job(job)
    assert found is not None
    # A hold that ran out in an outage: its place is taken, and the worker waits until there is room again.
    await idle.generation.ledger.release(idle.team, found.hold, reason="stands for a hold that ran out")
    other = await idle.images("silent")

    async def begun(count: int) -> bool:
        await idle.generation.begin(await idle.generation.queue.take())
        return len((await idle.ask("GET", "/jobs?state=running"))[1]["jobs"]) == count

    await eventually(lambda: begun(10), "all that have a place are begun")
    assert (await idle.job(job))["state"] == "queued"
    await idle.tell({"type": "succeeded", "job": other, "attempt": 1, "results": ["https://provider.example/1"] * 4})
    await eventually(lambda: begun(10), "there is a place again")
    assert (await idle.job(job))["state"] == "running"
    assert (await idle.ask("GET", "/credits"))[1]["capacity"]["concurrent_jobs"] == {"used": 10, "limit": 10}


async def test_d7_higher_priorities_are_begun_first(idle: Teams) -> None:
    jobs = {priority: await idle.images(priority=priority) for priority in ("low", "normal", "high")}
    begun = [(await idle.generation.queue.take()).job for _ in range(3)]
    assert begun == [jobs["high"], jobs["normal"], jobs["low"]]


async def test_d7_results_expire_after_90_days_and_the_ledger_does_not_hear_of_it(service: Teams) -> None:
    ended = await service.ended(job := await service.images(images=1))
    await service.moved(job, "hold", "settle")
    link = urlsplit(ended["results"][0])
    path = f"{link.path}?{link.query}"
    status, headers = await service.ask("GET", path)
    assert (status, "gen-1" in headers["Location"]) == (302, True)
    assert (await service.ask("GET", path.replace("expires=", "expires=9")))[0] == 403
    before = await service.credits(), (await service.job(job))["transactions"]
    service.generation.store.clock.moved = timedelta(days=90, seconds=1)  # type: ignore[attr-defined]
    await service.upkeep.round()
    assert (await service.ask("GET", path))[0] == 410
    assert (await service.job(job))["state"] == "expired"
    assert [each["job"] for each in (await service.ask("GET", "/jobs?state=expired"))[1]["jobs"]] == [job]
    assert (await service.credits(), (await service.job(job))["transactions"]) == before


async def test_d7_models_have_versions_and_are_deleted_softly(service: Teams) -> None:
    asked = {"name": "our lamps", "reference_model": "aurora-2", "images": 20}
    status, training = await service.ask("POST", "/models", asked)
    assert (status, training["type"]) == (202, "model_creation")
    model = training["model"]
    use = {"model": model, "prompt": "a lamp"}
    await service.ended(training["job"])
    assert await service.credits() == (2025 - 50, 0), "40 + 0.5 x 20"
    _, refining = await service.ask("POST", f"/models/{model}/versions", {"images": 10})
    assert (await service.ended(refining["job"]))["state"] == "succeeded"
    _, shown = await service.ask("GET", f"/models/{model}")
    assert [(each["version"], each["state"]) for each in shown["versions"]] == [(1, "succeeded"), (2, "succeeded")]
    _, job = await service.ask("POST", "/jobs", use)
    assert job["version"] == 2, "the newest one, unless one is named"
    assert (await service.ask("POST", "/jobs", {**use, "version": 3}))[1]["code"] == "model_not_ready"
    assert (await service.ask("DELETE", f"/models/{model}"))[0] == 204
    assert (await service.ask("POST", "/jobs", use))[1]["code"] == "model_not_found"
    assert (await service.ask("GET", "/models"))[1]["models"] == []
    assert [each["model"] for each in (await service.ask("GET", "/models?deleted=true"))[1]["models"]] == [model]
    assert (await service.ended(job["job"]))["state"] == "succeeded", "what was queued is made"
    _, listed = await service.ask("GET", "/jobs?type=model_refinement&state=succeeded")
    assert [each["job"] for each in listed["jobs"]] == [refining["job"]]


async def test_a_request_that_is_sent_again_or_twice_at_once_is_one_job(service: Teams) -> None:
    body = {"model": "aurora-2", "prompt": "a lamp"}
    key = {"Idempotency-Key": "click-1"}
    answers = await asyncio.gather(*(service.ask("POST", "/jobs", body, **key) for _ in range(4)))
    assert {status for status, _ in answers} == {202}
    assert len({answer["job"] for _, answer in answers}) == 1
    assert (await service.ask("POST", "/jobs", {**body, "images": 2}, **key))[0] == 409
    await service.ended(answers[0][1]["job"])
    assert await service.credits() == (2025 - 2, 0)


async def test_without_credits_it_is_402_and_an_estimate_said_so(service: Teams) -> None:
    body = {"model": "aurora-2", "prompt": "a lamp", "images": 100, "quality": "high", "resolution": "2048"}
    assert (await service.ask("POST", "/estimates", body))[1]["cost"] == 603
    await service.generation.ledger.adjust(service.team, -2000, "spent elsewhere")
    _, estimate = await service.ask("POST", "/estimates", body)
    assert (estimate["allowed"], estimate["max_affordable"]) == (False, 3)
    status, problem = await service.ask("POST", "/jobs", body)
    assert (status, problem["shortfall"]) == (402, 578)
    assert (await service.ask("GET", "/jobs"))[1]["jobs"] == []


async def test_what_a_crash_interrupted_is_finished_after_the_restart(studio: Service, path: Path, team: str) -> None:
    async with serving(studio, path, team, workers=0) as before:
        decided, silent, waiting = [await before.images(images=1) for _ in range(3)]
        store = before.generation.store
        # It died after a webhook was written down and before the ledger heard of it, ...
        assert store.succeed(decided, ["https://provider.example/1"]) is not None
        # ... while the provider was at work, ...
        for job in await asyncio.gather(*(before.generation.queue.take() for _ in range(3))):
            if job.job == silent:
                await before.generation.begin(job)
        # ... and a task was taken and not finished, whose redelivery takes half a minute: so the queue is lost instead.
        await before.generation.queue._js.delete_stream(before.generation.queue._stream)
    async with serving(studio, path, team) as after:
        await after.upkeep.round()
        for job in (decided, silent, waiting):
            assert (await after.ended(job))["state"] == "succeeded"
            await after.moved(job, "hold", "settle")
        assert await after.credits() == (2025 - 6, 0)


async def test_a_provider_that_never_answers_is_given_up_and_costs_nothing(idle: Teams) -> None:
    job = await idle.images("silent")
    for attempt in (1, 2, 3):
        await idle.generation.begin(await idle.generation.queue.take())
        assert (await idle.job(job))["attempt"] == attempt
        await idle.upkeep.round()
    assert (await idle.ended(job))["error"] == "the provider never answered"
    await idle.generation.hear(Succeeded(type="succeeded", job=job, attempt=2, results=["https://provider.example/1"]))
    assert (await idle.job(job))["state"] == "failed"
    assert await idle.credits() == (2025, 0)


async def test_wrong_input_is_told_and_others_see_nothing(service: Teams) -> None:
    job = await service.images()
    for path in ("/jobs?type=soup", "/jobs?state=soup", "/jobs?before=-1"):
        assert (await service.ask("GET", path))[0] == 422
    for body in ({}, {"model": "aurora-2", "prompt": "a lamp", "images": 0}, {"model": 1, "prompt": "a lamp"}):
        assert (await service.ask("POST", "/jobs", body))[0] == 422
    assert (await service.ask("POST", "/jobs", {"model": "soup", "prompt": "a lamp"}))[0] == 404
    service.team = "team-other"
    for method, path in (("GET", f"/jobs/{job}"), ("POST", f"/jobs/{job}/cancel"), ("POST", f"/jobs/{job}/retry")):
        assert (await service.ask(method, path))[0] == 404


def test_one_command_starts_it_and_its_lines_work(studio: Service) -> None:
    where = ("--ledger-url", studio.url, "--nats-url", studio.nats_url, "--prefix", studio.prefix)
    with throwaway_directory() as directory, example("generation_service", directory, *where) as program:
        job, estimate, jobs, balance = (json.loads(output) for output in paste(program.lines, directory))
        assert (job["state"], estimate["cost"]) == ("queued", 21)
        assert [each["job"] for each in jobs["jobs"]] == [job["job"]]
        assert balance["available"] + balance["reserved"] == 75
        assert program.end(signal.SIGINT) == 0
