"""Laws of the command line and of the settings: they teach, they refuse in words, they show no secret."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest

from service.access import Access
from service.cli import main
from service.late import LateGroup
from service.settings import CATALOGS, InvalidSettings, Settings, UpSettings, load, masked, read_access, read_catalog
from tests.bus.calling import caller_at
from tests.program import credit_ledger, started
from tests.servers import create_database, database_at, eventually, execute

CATALOG = str(CATALOGS / "asset_studio.toml")
SERVES = "serves on"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LEDGER_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["up"],
        ["serve"],
        ["migrate"],
        ["check-config"],
        ["token", "create"],
        ["catalog", "activate"],
        ["catalog", "diff"],
    ],
)
def test_every_command_explains_itself_with_an_example(tmp_path: Path, command: list[str]) -> None:
    ran = credit_ledger(tmp_path, *command, "--help")
    assert ran.returncode == 0
    assert "credit-ledger" in ran.stdout
    assert "Usage" in ran.stdout


def test_help_is_told_at_once_for_it_imports_nothing_that_serves() -> None:
    look = "import sys; from service.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert "Commands:" in ran.stdout
    loaded = set(ran.stdout.splitlines()[-1].split())
    assert "service.cli" in loaded
    assert not loaded & {"aiohttp", "asyncpg", "nats", "pydantic", "rich", "uvloop"}


def test_the_list_of_commands_says_of_each_what_the_command_says() -> None:
    late = cast("LateGroup", main).late
    assert {name: each.short_help for name, each in late.items()} == {
        name: each.command().short_help for name, each in late.items()
    }


def test_the_version_is_told(tmp_path: Path) -> None:
    assert credit_ledger(tmp_path, "--version").stdout.startswith("credit-ledger, version ")


def test_check_config_shows_the_settings_where_they_came_from_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LEDGER_NATS_URL=nats://hidden-token@bus:4222\nLEDGER_HTTP_PORT=9000\nOTHER=1\n")
    (tmp_path / "tokens.toml").write_text("")
    settings = {
        "DATABASE_URL": "postgresql://me:hidden-word@db/ledger?password=hidden-too",
        "CATALOG": CATALOG,
        "TOKENS": "tokens.toml",
        "HTTP_PORT": "9001",
    }
    ran = credit_ledger(tmp_path, "check-config", **settings)
    assert ran.returncode == 0, ran.stderr
    rows = {words[0]: words[1:] for line in ran.stdout.splitlines() if (words := line.split())}
    assert rows["LEDGER_DATABASE_URL"] == ["postgresql://me:***@db/ledger?password=***", "environment"]
    assert rows["LEDGER_NATS_URL"] == ["nats://***@bus:4222", ".env"]
    assert rows["LEDGER_HTTP_PORT"] == ["9001", "environment"]
    assert rows["LEDGER_PARTITIONS"] == ["16", "default"]
    assert "hidden" not in ran.stdout + ran.stderr


def test_check_config_names_everything_that_is_wrong_and_likely_slips(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text('version = "1"\n[plans.a]\nallowance.coins = 1\n')
    (tmp_path / "tokens.toml").write_text('[[token]]\nname = "a"\nsha256 = "00"\nscopes = ["everything"]\n')
    settings = {"CATALOG": "catalog.toml", "TOKENS": "tokens.toml", "AUHT": "off"}
    ran = credit_ledger(tmp_path, "check-config", **settings)
    assert ran.returncode == 1
    for part in ("LEDGER_DATABASE_URL", "there is no unit coins", "sha256", "scopes", "is LEDGER_AUTH meant?"):
        assert part in ran.stderr
    assert "Traceback" not in ran.stderr


WRONG = {
    "a port that is none": {"http_port": "65536"},
    "a port in words": {"http_port": "many"},
    "no partitions": {"partitions": "0"},
    "too many partitions": {"partitions": "1025"},
    "another database": {"database_url": "mysql://host/db"},
    "a database without a host": {"database_url": "postgresql://"},
    "another broker": {"nats_url": "http://host"},
    "one bad broker of two": {"nats_url": "nats://host,amqp://host"},
    "a catalog that is not there": {"catalog": "missing.toml"},
    "credentials that are not there": {"nats_creds": "missing.creds"},
    "neither on nor off": {"auth": "maybe"},
    "a prefix with a wildcard": {"subject_prefix": "credits.*"},
    "a prefix that ends in a dot": {"subject_prefix": "credits."},
    "a host with a path": {"http_host": "127.0.0.1/x"},
}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG.keys())
def test_wrong_settings_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"LEDGER_{name.upper()}", value)
    with pytest.raises(InvalidSettings) as refused:
        load(Settings)
    assert all(any(f"LEDGER_{name.upper()}: " in problem for problem in refused.value.problems) for name in given)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.com", "127.0.0.1.example.com"])  # noqa: S104 - to be refused
def test_auth_off_is_refused_where_others_could_call(host: str) -> None:
    for form in (Settings, UpSettings):
        with pytest.raises(InvalidSettings, match="AUTH=off"):
            load(form, {"auth": "off", "http_host": host})
    with pytest.raises(InvalidSettings, match="AUTH=off"):
        load(Settings, {"auth": "off", "nats_url": "nats://127.0.0.1,nats://example.com"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_auth_off_is_for_this_machine(host: str) -> None:
    assert read_access(load(Settings, {"auth": "off", "http_host": host})).is_open


def test_the_environment_wins_over_the_default_of_up_and_an_option_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(UpSettings).auth == "off"
    assert load(Settings).auth == "on"
    monkeypatch.setenv("LEDGER_AUTH", "on")
    monkeypatch.setenv("LEDGER_HTTP_PORT", "9000")
    assert load(UpSettings).auth == "on"
    assert load(UpSettings, {"http_port": None}).http_port == 9000
    assert load(UpSettings, {"http_port": 9001}).http_port == 9001
    with pytest.raises(InvalidSettings, match="token create"):
        read_access(load(UpSettings))


def test_the_example_catalog_is_what_up_loads() -> None:
    assert read_catalog(load(UpSettings)).default_plan == "free"
    with pytest.raises(InvalidSettings, match="LEDGER_CATALOG"):
        read_catalog(load(Settings))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://me:a:b@host:1/db", "postgresql://me:***@host:1/db"),
        ("nats://token@one:1, nats://me:word@two", "nats://***@one:1,nats://me:***@two"),
        ("nats://host", "nats://host"),
    ],
)
def test_urls_are_shown_without_their_secrets(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_a_token_is_printed_once_with_the_entry_that_makes_it_known(tmp_path: Path) -> None:
    ran = credit_ledger(tmp_path, "token", "create", "--name", "checkout", "--scope", "read", "--scope", "spend")
    assert ran.returncode == 0
    token = next(line for line in ran.stdout.splitlines() if line.startswith("cl_"))
    principal = Access.parse(ran.stdout[ran.stdout.index("[[token]]") :]).authenticate(f"Bearer {token}")
    assert (principal.name, principal.scopes) == ("checkout", {"read", "spend"})
    refused = credit_ledger(tmp_path, "token", "create", "--name", "not an id", "--scope", "read")
    assert (refused.returncode, "name" in refused.stderr, "Traceback" in refused.stderr) == (1, True, False)
    assert credit_ledger(tmp_path, "token", "create", "--name", "a", "--scope", "everything").returncode == 2


async def test_what_keeps_the_database_from_being_used_is_told(tmp_path: Path, postgres_url: str) -> None:
    settings = {"CATALOG": CATALOG, "AUTH": "off", "HTTP_PORT": "0"}
    empty = await create_database(postgres_url, "never_migrated")
    wrong = {
        "postgresql://me:hidden@127.0.0.1:1/ledger": "cannot be reached",
        postgres_url.replace("postgres:", "postgres:wrong"): "refuses the password",
        database_at(postgres_url, "missing"): "no such database",
        empty: "credit-ledger migrate",
    }
    for url, told in wrong.items():
        ran = credit_ledger(tmp_path, "serve", DATABASE_URL=url, **settings)
        assert ran.returncode == 1
        assert told in ran.stderr
        assert "Traceback" not in ran.stderr
        assert "hidden" not in ran.stderr
    first = credit_ledger(tmp_path, "migrate", DATABASE_URL=empty, PARTITIONS="4")
    assert "applied 0001_log.sql" in first.stdout, first.stderr
    await execute(empty, "create role newcomer login password 'secret'")
    stranger = urlsplit(empty)._replace(netloc=f"newcomer:secret@{empty.rpartition('@')[2].partition('/')[0]}").geturl()
    ran = credit_ledger(tmp_path, "serve", DATABASE_URL=stranger, **settings)
    assert (ran.returncode, "grant credit_ledger_app to" in ran.stderr) == (1, True), ran.stderr
    again = credit_ledger(tmp_path, "migrate", DATABASE_URL=empty, PARTITIONS="4")
    assert (again.returncode, "nothing to do" in again.stdout) == (0, True)
    await execute(empty, "UPDATE ledger.migrations SET name = 'other' WHERE name = '0070_heads_ahead.sql'")
    behind = credit_ledger(tmp_path, "serve", DATABASE_URL=empty, PARTITIONS="4", **settings)
    assert behind.returncode == 1
    assert "behind this release (0070_heads_ahead.sql): run `credit-ledger migrate`" in behind.stderr
    await execute(empty, "UPDATE ledger.migrations SET name = '0070_heads_ahead.sql' WHERE name = 'other'")
    for command in ("migrate", "serve"):
        other = credit_ledger(tmp_path, command, DATABASE_URL=empty, **settings)
        assert (other.returncode, "LEDGER_PARTITIONS=4" in other.stderr) == (1, True)


async def test_serve_serves_over_http_and_nats_until_sigterm(tmp_path: Path, database_url: str, nats_url: str) -> None:
    settings = {
        "DATABASE_URL": database_url,
        "NATS_URL": nats_url,
        "CATALOG": CATALOG,
        "AUTH": "off",
        "HTTP_PORT": "0",
        "SUBJECT_PREFIX": "serve.test",
    }
    with started(tmp_path, "serve", ready=SERVES, **settings) as program:
        assert program.do("PUT", "/v1/accounts/a/plan", {"plan": "free"}, "open")[0] == 201
        async with caller_at(nats_url, "serve.test") as caller:

            async def is_heard() -> bool:
                return (await caller.query("catalog")).body != b""  # not the server's own "no responders"

            await eventually(is_heard, "it serves over NATS")
            answer = await caller.command("change_plan", {"account": "b", "plan": "free"}, Idempotency_Key="open")
            assert answer.status == 201
            assert answer.json["events"][0]["actor"] == {"id": "tester", "via": "nats"}
        assert program.get("/v1/accounts/b/balance")["unit"] == "credits"
        assert program.end(signal.SIGTERM) == 0


async def test_serve_serves_over_http_while_nats_is_away(tmp_path: Path, database_url: str) -> None:
    settings = {
        "DATABASE_URL": database_url,
        "NATS_URL": "nats://127.0.0.1:1",
        "CATALOG": CATALOG,
        "AUTH": "off",
        "HTTP_PORT": "0",
    }
    with started(tmp_path, "serve", ready=SERVES, **settings) as program:
        assert program.get("/readyz") == {"status": "ready"}
        assert program.do("PUT", "/v1/accounts/a/plan", {"plan": "free"}, "open")[0] == 201
        assert program.end(signal.SIGINT) == 0
    assert "NATS is not there" in (tmp_path / "stderr").read_text()
