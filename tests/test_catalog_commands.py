"""`credit-ledger catalog` as its users meet it, beside a service that runs and without one."""

import json
import signal
from pathlib import Path

import pytest

from tests.program import Program, credit_ledger, started
from tests.servers import eventually

SERVES = "serves on"
FIRST = """
version = "first"
default_plan = "free"
[plans.free]
allowance.credits = 100
[operations.render]
each = "3"
"""
SECOND = FIRST.replace('"first"', '"second"').replace('"3"', '"5"')


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with two catalogs."""
    (tmp_path / "first.toml").write_text(FIRST)
    (tmp_path / "second.toml").write_text(SECOND)
    return tmp_path


def settings_of(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "AUTH": "off", "HTTP_PORT": "0"}


def version_of(program: Program) -> str:
    return program.get("/v1/catalog")["version"]


def charge(program: Program, key: str) -> int:
    status, answer = program.do("POST", "/v1/accounts/a/consumptions", {"operation": "render"}, key)
    assert status == 201
    return answer["consumption"]["charged"]


async def test_a_running_service_takes_over_what_is_activated_and_keeps_it_over_a_restart(
    directory: Path, database_url: str
) -> None:
    settings = settings_of(database_url)
    with started(directory, "serve", ready=SERVES, CATALOG="first.toml", **settings) as program:
        assert (version_of(program), charge(program, "1")) == ("first", 3)
        ran = credit_ledger(directory, "catalog", "activate", "second.toml", "--by", "ops", **settings)
        assert ran.returncode == 0, ran.stderr
        await eventually(lambda: version_of(program) == "second", "the service took the new catalog over")
        assert charge(program, "2") == 5
        assert program.end(signal.SIGTERM) == 0
    with started(directory, "serve", ready=SERVES, CATALOG="first.toml", **settings) as program:
        assert version_of(program) == "second", "an old file brings no old prices back"
        ran = credit_ledger(directory, "catalog", "activate", "first", **settings)
        assert ran.returncode == 0, ran.stderr
        await eventually(lambda: version_of(program) == "first", "the service went back")
        assert program.end(signal.SIGTERM) == 0
    assert "`credit-ledger catalog activate first` goes back" in (directory / "stderr").read_text()
    with started(directory, "serve", ready=SERVES, **settings) as program:
        assert version_of(program) == "first", "without a file the one in force is used"
    listed = json.loads(credit_ledger(directory, "catalog", "list", "--json", **settings).stdout)
    assert listed["in_force"] == "first"
    assert [(row["version"], row["by"]) for row in listed["activations"]][1:] == [("second", "ops"), ("first", "start")]


def test_a_version_whose_content_changed_is_refused_at_the_start_and_by_activate(
    directory: Path, database_url: str
) -> None:
    settings = settings_of(database_url)
    assert credit_ledger(directory, "catalog", "activate", "first.toml", **settings).returncode == 0
    (directory / "first.toml").write_text(FIRST.replace('"3"', '"4"'))
    for command in (["serve"], ["catalog", "activate", "first.toml"]):
        ran = credit_ledger(directory, *command, CATALOG="first.toml", **settings)
        assert ran.returncode == 1
        assert "a version never changes" in ran.stderr
        assert "Traceback" not in ran.stderr
    restored = credit_ledger(directory, "catalog", "show", "first", "--source", **settings)
    assert restored.stdout == FIRST


def test_without_any_catalog_the_start_says_what_to_do(directory: Path, database_url: str) -> None:
    ran = credit_ledger(directory, "serve", **settings_of(database_url))
    assert (ran.returncode, "catalog activate" in ran.stderr, "Traceback" in ran.stderr) == (1, True, False)


def test_a_catalog_is_shown_to_people_and_to_programs(directory: Path, database_url: str) -> None:
    settings = settings_of(database_url)
    again = credit_ledger(directory, "catalog", "activate", "first.toml", "--json", **settings)
    assert json.loads(again.stdout)["outcome"] == "activated"
    again = credit_ledger(directory, "catalog", "activate", "first.toml", "--json", **settings)
    assert json.loads(again.stdout)["outcome"] == "in_force"
    table = credit_ledger(directory, "catalog", "show", **settings).stdout
    assert "credits 100" in table
    assert "render" in table
    shown = json.loads(credit_ledger(directory, "catalog", "show", "first", "--json", **settings).stdout)
    assert shown["operations"]["render"]["each"] == "3"
    missing = credit_ledger(directory, "catalog", "show", "third", **settings)
    assert (missing.returncode, "catalog list" in missing.stderr) == (1, True)


def test_a_difference_of_files_needs_no_database(directory: Path, database_url: str) -> None:
    ran = credit_ledger(directory, "catalog", "diff", "first.toml", "second.toml")
    assert ran.stdout.splitlines() == ["first -> second", "  operations.render.each: 3 -> 5"]
    settings = settings_of(database_url)
    credit_ledger(directory, "catalog", "activate", "first.toml", **settings)
    ran = credit_ledger(directory, "catalog", "diff", "second.toml", "--json", **settings)
    assert json.loads(ran.stdout) == {
        "from": "first",
        "to": "second",
        "differences": [{"path": "operations.render.each", "before": "3", "after": "5"}],
    }
    bad = directory / "bad.toml"
    bad.write_text("version = 1\n")
    ran = credit_ledger(directory, "catalog", "activate", "bad.toml", **settings)
    assert (ran.returncode, "version: must be a string" in ran.stderr) == (1, True)
