"""`credit-ledger bench` against the running service: it measures what was written, and writes only when it may."""

from __future__ import annotations

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from service.benching.command import bench_command, measure
from service.benching.plan import Http, Nats, Unusable, cases, http_way, make_accounts, nats_way
from service.benching.pump import BenchError
from tests.features.conftest import Service

ACCOUNTS = 3


def way_to(service: Service, transport: str, plan: str | None = None) -> Http | Nats:
    if transport == "http":
        return http_way(service.url, token=None, unit=None, plan=plan)
    return nats_way(service.nats_url, caller="tests", prefix=service.prefix, unit=None, plan=plan)


async def events_of(service: Service, prefix: str) -> int:
    """How many events the log has whose reservation is of a run."""
    async with aiohttp.ClientSession() as session, session.get(f"{service.url}/v1/events") as answer:
        return sum(f'"reservation_id":"{prefix}'.encode() in line for line in (await answer.read()).splitlines())


async def test_what_was_acknowledged_is_in_the_log(asset_studio: Service, transport: str) -> None:
    way = way_to(asset_studio, transport)
    for _ in range(2):  # a second time finds everything there
        await make_accounts(way, accounts=ACCOUNTS, in_flight=4, unit=None, plan=None)
    planned = cases(way, accounts=ACCOUNTS, in_flight=4, seconds=0.1)
    before = await events_of(asset_studio, "bench-")
    found = await measure(planned, 1, lambda _: None)
    written = sum(found[case.name][0].acknowledged for case in planned if case.shape != "balance")
    assert written > 0
    assert await events_of(asset_studio, "bench-") - before == written


async def test_a_plan_that_is_not_there_is_told(asset_studio: Service, transport: str) -> None:
    way = way_to(asset_studio, transport, plan="no-such-plan")
    with pytest.raises(BenchError, match="plan_not_found"):
        await make_accounts(way, accounts=ACCOUNTS, in_flight=4, unit=None, plan="no-such-plan")


async def test_nobody_who_listens_on_nats_is_told(asset_studio: Service) -> None:
    way = nats_way(asset_studio.nats_url, caller="tests", prefix="nowhere", unit=None, plan=None)
    with pytest.raises(BenchError, match="no ledger takes commands"):
        await make_accounts(way, accounts=ACCOUNTS, in_flight=4, unit=None, plan=None)


def test_without_a_yes_nothing_is_sent() -> None:
    ran = CliRunner().invoke(bench_command, ["--url", "http://127.0.0.1:1"], input="")
    assert ran.exit_code == 1
    assert "which can never be deleted; say --yes" in ran.output
    ran = CliRunner().invoke(bench_command, ["--url", "http://127.0.0.1:1", "--yes", "--json"])
    assert ran.exit_code == 1
    assert "cannot be reached" in ran.output


def test_what_cannot_be_measured_is_said_before_anything_is_sent() -> None:
    for wrong in (
        ["--url", "ftp://ledger"],
        ["--url", "http://ledger/path"],
        ["--url", "http://ledger:port"],
        ["--nats", "tls://bus:4222"],
        ["--plan", 'x"'],
        ["--token", "a\r\nX: y"],
    ):
        assert CliRunner().invoke(bench_command, [*wrong, "--yes"]).exit_code == 2, wrong
    with pytest.raises(Unusable):
        http_way("ledger:8080", token=None, unit=None, plan=None)


def test_json_is_one_flat_object(asset_studio: Service) -> None:
    ran = CliRunner().invoke(
        bench_command,
        ["--url", asset_studio.url, "--yes", "--json", "--accounts", "3", "--rounds", "1", "--seconds", "0.2"],
    )
    assert ran.exit_code == 0, ran.output
    figures = orjson.loads(ran.stdout)
    assert figures["http.uniform.1.per_second"] > 0
    assert all(isinstance(value, int | float) for name, value in figures.items() if name != "version")
