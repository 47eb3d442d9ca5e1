"""FEATURES.md A1 to A3: the asset platform of the examples, on the double and on the running service."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest
from aiohttp.test_utils import TestClient, TestServer

from credit_ledger_client import Ledger
from credit_ledger_client.testing import LedgerDouble
from examples.asset_platform.app import application
from examples.asset_platform.studio import Model, Studio
from examples.starting import CATALOG
from tests.examples.commands import example, paste
from tests.servers import eventually, throwaway_directory

CALLER = "asset-platform"


class Platform:
    """The platform as one of its teams uses it."""

    def __init__(self, client: TestClient[Any, Any], team: str) -> None:
        self._client = client
        self._team = {"Team": team}

    async def post(self, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        body = {"prompt": "a red lamp"} if body is None else body
        async with self._client.post(path, json=body, headers={**self._team, **headers}) as answer:
            return answer.status, await (answer.json() if "json" in answer.content_type else answer.text())

    async def get(self, path: str) -> Any:
        async with self._client.get(path, headers=self._team) as answer:
            return await answer.json()

    async def ended(self, job: str) -> Any:
        """The job when it has ended."""

        async def has_ended() -> bool:
            return (await self.get(f"/jobs/{job}"))["state"] not in {"queued", "running"}

        await eventually(has_ended, "the job has ended")
        return await self.get(f"/jobs/{job}")


@pytest.fixture
async def platform(ledger: Ledger) -> AsyncGenerator[Platform]:
    """The platform, with a team on the starter plan: 525 credits."""
    team = f"team-{uuid4().hex[:12]}"
    app = application(ledger, Studio(ledger, Model(seconds=0)))
    async with TestClient(TestServer(app)) as client:
        await ledger.change_plan(team, "starter")
        yield Platform(client, team)


async def test_a3_what_is_queued_is_consumed_then(platform: Platform) -> None:
    for path, body, cost in (
        ("/images", {"prompt": "a lamp", "count": 4}, 8),
        ("/images", {"prompt": "one unless told otherwise"}, 2),
        ("/videos", None, 20),
        ("/edits", None, 2),
        ("/collections", {"flows": [{"prompt": "front", "count": 4}, {"prompt": "back", "count": 6}]}, 20),
    ):
        before = (await platform.get("/credits"))["used"]
        status, answer = await platform.post(path, body)
        assert status == 202
        assert (await platform.get("/credits"))["used"] == before + cost
        assert (await platform.ended(answer["job"]))["state"] == "succeeded"


@pytest.mark.parametrize("path", ["/upscales", "/background-removals"])
async def test_a3_what_is_made_at_once_is_consumed_after_success(platform: Platform, path: str) -> None:
    assert (await platform.post(path, {"prompt": "fail"}))[0] == 502
    assert (await platform.get("/credits")) == {"used": 0, "left": 525}
    assert (await platform.post(path))[0] == 200
    assert (await platform.get("/credits")) == {"used": 1, "left": 524}


async def test_a3_a_queued_job_that_fails_is_refunded(platform: Platform) -> None:
    _, answer = await platform.post("/videos", {"prompt": "fail"})
    job = await platform.ended(answer["job"])
    assert (job["state"], job["refunded"]) == ("failed", 20)
    assert (await platform.get("/credits")) == {"used": 0, "left": 525}


async def test_a2_of_a_collection_the_flow_that_failed_is_refunded(platform: Platform) -> None:
    flows = [{"prompt": "front", "count": 4}, {"prompt": "fail", "count": 6}]
    _, answer = await platform.post("/collections", {"flows": flows})
    job = await platform.ended(answer["job"])
    assert (job["state"], job["refunded"], len(job["assets"])) == ("partly failed", 12, 1)
    assert (await platform.get("/credits")) == {"used": 8, "left": 517}


@pytest.mark.parametrize("path", ["/transforms", "/adjustments", "/art-direction"])
async def test_a2_what_is_not_gated_needs_no_credits(platform: Platform, path: str) -> None:
    assert (await platform.post(path))[0] == 200
    assert (await platform.get("/credits")) == {"used": 0, "left": 525}


async def test_a3_without_credits_it_is_402_and_nothing_starts(platform: Platform) -> None:
    flows = [{"prompt": "front", "count": 100}] * 3
    status, problem = await platform.post("/collections", {"flows": flows})
    assert (status, problem["code"], problem["cost"], problem["shortfall"]) == (402, "insufficient_credits", 600, 75)
    assert (await platform.get("/credits")) == {"used": 0, "left": 525}


async def test_a_request_that_is_sent_again_makes_one_job(platform: Platform) -> None:
    key = {"Idempotency-Key": "click-1"}
    assert (await platform.post("/videos", **key))[0] == 202
    status, problem = await platform.post("/videos", **key)
    assert (status, problem["code"]) == (409, "reservation_finalized")
    assert (await platform.get("/credits"))["used"] == 20


async def test_wrong_input_is_told_and_costs_nothing(platform: Platform) -> None:
    for body in ({"prompt": "a lamp", "count": 0}, {"prompt": "a lamp", "count": "4"}, {}, {"prompt": 1}, []):
        assert (await platform.post("/images", body))[0] == 422
    assert (await platform.get("/credits")) == {"used": 0, "left": 525}


async def test_what_is_queued_when_the_studio_stops_is_refunded() -> None:
    async with LedgerDouble(CATALOG) as ledger:
        async with Studio(ledger, Model(seconds=3600)) as studio, ledger.hold("team-1", "generate_image", 4) as hold:
            job = studio.enqueue("images", ["a lamp"], hold)
        assert job.refunded == 8
        assert (await ledger.quota("team-1")).credits_used == 0


def test_one_command_starts_it_and_its_lines_work() -> None:
    with throwaway_directory() as directory, example("asset_platform", directory) as program:
        job, failed, denied, quota = paste(program.lines, directory)
        assert b"job" in job
        assert b"nothing was charged" in failed
        assert b"insufficient_credits" in denied
        assert json.loads(quota) == {"used": 8, "left": 67}
        assert program.end(signal.SIGINT) == 0
