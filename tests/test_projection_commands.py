"""`credit-ledger projections` as its users meet it, beside a service that runs and without one."""

import json
from pathlib import Path
from signal import SIGINT

from tests.program import credit_ledger, started
from tests.servers import execute

CATALOG = """
version = "first"
default_plan = "free"
[plans.free]
allowance.credits = 100
"""


async def test_projections_are_told_built_again_and_verified(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "catalog.toml").write_text(CATALOG)
    settings = {"DATABASE_URL": database_url, "AUTH": "off", "HTTP_PORT": "0"}
    with started(tmp_path, "serve", ready="serves on", CATALOG="catalog.toml", **settings) as program:
        _, answer = program.do("POST", "/v1/accounts/a/consumptions", {"amount": 3}, "k")
        usage = program.get(f"/v1/accounts/a/usage?min_token={answer['token']}")
        assert usage["totals"]["used"] == 3
        told = credit_ledger(tmp_path, "projections", "rebuild", "usage", **settings)
        assert (told.returncode, told.stdout) == (0, "usage: says what the log says\n")
        assert program.get("/v1/accounts/a/usage") == usage
    status = credit_ledger(tmp_path, "projections", "status", "--json", **settings)
    read = {row["name"]: row for row in json.loads(status.stdout)["projections"] if row["is_current"]}
    assert read["usage"]["generation"] == 2
    assert {row["position"] - row["head"] for row in read.values()} == {0}
    await execute(database_url, "update projections.finance set granted = granted + 1")
    told = credit_ledger(tmp_path, "projections", "verify", **settings)
    assert told.returncode == 1
    assert "finance: said something else than the log, and is replaced" in told.stdout
    status = credit_ledger(tmp_path, "projections", "status", **settings)
    assert [line.split()[:2] for line in status.stdout.splitlines() if " read " in line] == [
        ["accounts", "2"],
        ["alerts", "2"],
        ["finance", "2"],
        ["history", "2"],
        ["holds", "2"],
        ["usage", "3"],
    ]


async def test_a_process_of_its_own_keeps_the_projections_of_services_that_leave_them_to_it(
    tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "catalog.toml").write_text(CATALOG)
    settings = {"DATABASE_URL": database_url, "AUTH": "off", "HTTP_PORT": "0", "PROJECTOR": "apart"}
    with started(tmp_path, "serve", ready="serves on", CATALOG="catalog.toml", **settings) as service:
        service.do("POST", "/v1/accounts/a/consumptions", {"amount": 3}, "first")
        usage = service.get("/v1/accounts/a/usage")
        assert usage["totals"]["count"] == 0
        for number, key in enumerate(("second", "third"), start=2):
            with started(tmp_path, "projections", "run", ready="kept behind the log", **settings) as program:
                _, answer = service.do("POST", "/v1/accounts/a/consumptions", {"amount": 1}, key)
                usage = service.get(f"/v1/accounts/a/usage?min_token={answer['token']}")
                assert usage["totals"]["count"] == number
                assert program.end(SIGINT) == 0
        service.do("POST", "/v1/accounts/a/consumptions", {"amount": 1}, "while nobody is there")
        assert service.get("/v1/accounts/a/usage") == usage
