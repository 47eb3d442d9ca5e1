"""Health, readiness and metrics: open, quick, and honest when the database is away."""

import asyncio
import re

import pytest

from service.telemetry.health import Health
from service.telemetry.metrics import Metrics
from tests.http.stage import Service
from tests.servers import eventually

SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? ([0-9.e+-]+|\+Inf)$')


def samples_of(text: str) -> dict[str, float]:
    """The samples of an exposition by name and labels, after a look at its grammar."""
    samples: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.match(r"^# (HELP|TYPE) [a-z_]+ \S", line)
            continue
        match = SAMPLE.match(line)
        assert match, line
        assert f"{match[1]}{{{match[2]}}}" not in samples
        samples[f"{match[1]}{{{match[2]}}}"] = float(match[3])
    return samples


async def test_alive_and_ready_answer_200(service: Service) -> None:
    assert (await service.get("/healthz")).json == {"status": "alive"}
    assert (await service.get("/readyz")).json == {"status": "ready"}


async def test_without_the_database_the_service_is_alive_and_not_ready_and_says_why(service: Service) -> None:
    await service.feed._log.close()
    assert (await service.get("/healthz")).status == 200
    answer = await service.get("/readyz")
    assert (answer.status, answer.code) == (503, "unavailable")
    assert set(answer.json["parts"]) == {"database"}
    assert "database" in answer.json["detail"]
    assert "Retry-After" in answer.headers
    metrics = await service.get("/metrics")
    assert metrics.status == 200
    assert b"credit_ledger_head_position{" not in metrics.body


async def test_metrics_count_requests_by_route_and_show_the_heads(service: Service) -> None:
    await service.opened("team-42")
    await service.do("POST", "/v1/accounts/team-42/consumptions", {"amount": 10_000})
    await service.get("/v1/accounts/team-42/balance")
    await service.get("/nowhere/to/be/found")
    answer = await service.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = samples_of(answer.body.decode())
    consumptions = 'method="POST",route="/v1/accounts/{account}/consumptions"'
    assert samples[f'credit_ledger_http_requests_total{{{consumptions},status="201"}}'] == 1
    assert samples[f'credit_ledger_http_requests_total{{{consumptions},status="402"}}'] == 1
    assert samples[f"credit_ledger_http_request_seconds_count{{{consumptions}}}"] == 2
    assert samples[f'credit_ledger_http_request_seconds_bucket{{{consumptions},le="+Inf"}}'] == 2
    assert samples['credit_ledger_http_requests_total{method="any",route="unmatched",status="404"}'] == 1
    assert samples['credit_ledger_commands_in_flight{via="http"}'] == 0
    heads = [value for name, value in samples.items() if name.startswith("credit_ledger_head_position")]
    assert (len(heads), sum(heads)) == (16, await service.events_written())
    assert "team-42" not in answer.body.decode()


async def test_a_check_that_fails_in_its_own_way_shows_nothing_of_it() -> None:
    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    async def works() -> None:
        return

    assert await Health({"broken": broken, "fine": works}).failures() == {"broken": "failed"}


def test_a_latency_falls_into_every_bucket_at_and_above_it() -> None:
    family = Metrics().latency("a_seconds", "A.", "route")
    for seconds in (0.0005, 0.001, 0.3, 99.0):
        family.labels("/x").observe(seconds)
    samples = samples_of("\n".join(family.lines()))
    assert samples['a_seconds_bucket{route="/x",le="0.001"}'] == 2
    assert samples['a_seconds_bucket{route="/x",le="0.25"}'] == 2
    assert samples['a_seconds_bucket{route="/x",le="0.5"}'] == 3
    assert samples['a_seconds_bucket{route="/x",le="10.0"}'] == 3
    assert samples['a_seconds_bucket{route="/x",le="+Inf"}'] == samples['a_seconds_count{route="/x"}'] == 4
    assert samples['a_seconds_sum{route="/x"}'] == pytest.approx(99.3015)


def test_labels_are_escaped_and_a_name_stands_once() -> None:
    metrics = Metrics()
    family = metrics.number("gauge", "a", "A.", "x")
    family.labels('say "hi"\\\n').value = 2
    assert list(family.lines())[1] == 'a{x="say \\"hi\\"\\\\\\n"} 2'
    with pytest.raises(ValueError, match="already"):
        metrics.number("gauge", "a", "A.")
    with pytest.raises(ValueError, match="labels"):
        family.labels("1", "2")


async def test_a_probe_that_hangs_or_breaks_keeps_no_other_figure_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.telemetry.metrics.PROBE_SECONDS_MAX", 0.05)
    metrics = Metrics()
    figure = metrics.number("gauge", "figure", "A figure.").labels()
    ended: list[str] = []

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("hangs")

    async def breaks() -> None:
        raise RuntimeError("the password is hunter2")

    async def works() -> None:
        figure.value = 7

    for probe in (hangs, breaks, works):
        metrics.probe(probe)
    assert "figure 7\n" in await metrics.exposition()
    await eventually(lambda: ended == ["hangs"], "the probe is not left running")
