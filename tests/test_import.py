"""`credit-ledger import`: every line once, whatever happens, and a bad line before anything is written."""

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.program import PROGRAM, credit_ledger, environment, started
from tests.servers import eventually, throwaway_directory, value
from tests.writer.auditing import Book, audited

SERVES = "serves on"
CATALOG = """
version = "import-tests"
default_plan = "free"
[units.video_minutes]
[plans.free]
rank = 0
allowance.credits = 35
[plans.pro]
rank = 1
allowance.credits = 100
[operations.render]
each = "3"
"""


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> dict[str, str]:
    """The settings of a database with a catalog in force."""
    (tmp_path / "catalog.toml").write_text(CATALOG)
    settings = {"DATABASE_URL": database_url, "AUTH": "off", "HTTP_PORT": "0"}
    ran = credit_ledger(tmp_path, "catalog", "activate", "catalog.toml", **settings)
    assert ran.returncode == 0, ran.stderr
    return settings


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path.name


def imported(directory: Path, settings: dict[str, str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run an import to its end; its summary."""
    ran = credit_ledger(directory, "import", *arguments, "--json", **settings)
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    return json.loads(ran.stdout)


def granted(book: Book) -> Counter[str]:
    """What was granted by imports, by account."""
    found: Counter[str] = Counter()
    for event in book.events:
        if event.actor.id == "import" and event.command.name == "grant":
            found[event.account] += event.data.amount  # type: ignore[union-attr]  # a grant's data have one
    return found


ROWS = [
    {"account": "a", "plan": "pro", "amount": 250, "kind": "purchase", "reference": "old-1"},
    {"account": "a", "amount": 10, "expires_at": "2999-01-01T00:00:00Z"},
    {"account": "b", "amount": 40, "unit": "video_minutes", "reason": "moved", "id": "7"},
    {"account": "c", "plan": "pro"},
]


async def test_a_file_is_booked_once_however_often_it_is_imported(
    tmp_path: Path, settings: dict[str, str], database_url: str
) -> None:
    file = write_rows(tmp_path / "balances.ndjson", ROWS)
    first = imported(tmp_path, settings, file)
    assert (first["granted"], first["opened"], first["already_there"]) == (3, 3, 0)
    assert first["amounts"] == {"credits": 260, "video_minutes": 40}
    book = await audited(database_url)
    assert granted(book) == {"a": 260, "b": 40}
    assert {name: state.account.plan for name, state in book.accounts.items()} == {"a": "pro", "b": "free", "c": "pro"}
    assert [book.available(name) for name in "abc"] == [360, 35, 100]
    reasons = {event.data.reason for event in book.events if event.command.name == "grant"}  # type: ignore[union-attr]
    assert reasons == {"opening balance", "moved"}
    again = imported(tmp_path, settings, file)
    assert (again["granted"], again["opened"], again["already_there"], again["amounts"]) == (0, 0, 4, {})
    assert (await audited(database_url)).hash_of == book.hash_of, "nothing was written"


async def test_csv_says_the_same_as_ndjson(tmp_path: Path, settings: dict[str, str], database_url: str) -> None:
    (tmp_path / "balances.csv").write_bytes(
        b"\xef\xbb\xbfaccount,plan,amount,kind,reason,id\r\n"
        b'a,pro,250,purchase,"moved, as ""promised""",x1\r\n\r\nb,,40,,,\r\nc,pro,,,,\r\n'
    )
    summary = imported(tmp_path, settings, "balances.csv")
    assert (summary["granted"], summary["opened"], summary["amounts"]) == (2, 3, {"credits": 290})
    file = write_rows(
        tmp_path / "same.ndjson",
        [
            {
                "id": "x1",
                "account": "a",
                "plan": "pro",
                "amount": 250,
                "kind": "purchase",
                "reason": 'moved, as "promised"',
            },
            {"account": "b", "amount": 40},
        ],
    )
    assert imported(tmp_path, settings, file)["already_there"] == 2


async def test_a_dry_run_foretells_the_import_and_writes_nothing(
    tmp_path: Path, settings: dict[str, str], database_url: str
) -> None:
    file = write_rows(tmp_path / "balances.ndjson", ROWS)
    foretold = imported(tmp_path, settings, file, "--dry-run")
    assert await value(database_url, "SELECT count(*) FROM ledger.events") == 0
    done = imported(tmp_path, settings, file)
    assert {**foretold, "outcome": "imported"} == done
    after = imported(tmp_path, settings, file, "--dry-run")
    assert {**after, "outcome": "imported"} == imported(tmp_path, settings, file)


BAD = {
    '{"account": "a", "amount": 1.5}': "amount",
    '{"account": "a", "amount": -1}': "amount",
    '{"account": "a b", "amount": 1}': "account",
    '{"amount": 1}': "account",
    '{"account": "a", "amount": 1, "colour": "red"}': "colour",
    '{"account": "a", "kind": "promo"}': "amount: is required",
    '{"account": "a", "amount": 1, "kind": "plan"}': "kind",
    '{"account": "a", "amount": 1, "plan": "gold"}': "gold",
    '{"account": "a", "amount": 1, "unit": "gems"}': "gems",
    '{"account": "a", "amount": 1, "operations": ["fly"]}': "fly",
    '{"account": "a", "amount": 1, "expires_at": "2001-01-01T00:00:00Z"}': "expires_at",
    '{"account": "a", "amount": 9007199254740991}': "above",
    '{"account": "a", "amount": 1, "id": ""}': "id",
    '{"account": "a", "amount": 1, "reason": "a\\u0000b"}': "NUL",
    '{"account": "a", "amount": 1, "amount": 2}': "amount",
    "[1]": "object",
    "account,amount": "",
    f'{{"account": "{"a" * 70_000}"}}': "longer than",
    '{"account": "good", "amount": 5}': "same as line 1",
}


async def test_every_bad_line_is_told_with_its_number_before_anything_is_written(
    tmp_path: Path, settings: dict[str, str], database_url: str
) -> None:
    lines = ['{"account": "good", "amount": 5}', "", *BAD, '{"account": "good", "amount": 6}']
    (tmp_path / "balances.ndjson").write_text("\n".join(lines))
    refused = imported(tmp_path, settings, "balances.ndjson", code=3)
    assert (refused["outcome"], refused["bad"], refused["granted"]) == ("bad_lines", len(BAD), 2)
    found = {problem["line"]: problem["reason"] for problem in refused["problems"]}
    assert sorted(found) == list(range(3, 3 + len(BAD)))
    for number, told in enumerate(BAD.values(), 3):
        assert told in found[number], (number, found[number])
    assert await value(database_url, "SELECT count(*) FROM ledger.events") == 0
    skipped = imported(tmp_path, settings, "balances.ndjson", "--skip-bad", code=4)
    assert (skipped["outcome"], skipped["granted"], skipped["bad"]) == ("imported", 2, len(BAD))
    assert granted(await audited(database_url)) == {"good": 11}


def test_a_csv_file_is_checked_as_a_whole_and_line_by_line(tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / "a.csv").write_text("account,colour\na,red\n")
    ran = credit_ledger(tmp_path, "import", "a.csv", **settings)
    assert (ran.returncode, "unknown: colour" in ran.stderr) == (1, True)
    (tmp_path / "b.csv").write_text('account,amount,reason\na,1\nb,"1,000",\nc,1e3,\nd,5,"two\nlines"\ne,6,"x\n')
    told = imported(tmp_path, settings, "b.csv", code=3)
    assert [problem["line"] for problem in told["problems"]] == [2, 3, 4, 7]
    assert (told["granted"], told["amounts"]) == (1, {"credits": 5})


async def test_an_id_stands_for_one_content(tmp_path: Path, settings: dict[str, str], database_url: str) -> None:
    imported(tmp_path, settings, write_rows(tmp_path / "a.ndjson", [{"account": "a", "amount": 5, "id": "1"}]))
    other = write_rows(tmp_path / "b.ndjson", [{"account": "a", "amount": 6, "id": "1"}])
    told = imported(tmp_path, settings, other, code=3)
    assert told["problems"] == [{"line": 1, "reason": "id: was imported before, with other content"}]
    assert granted(await audited(database_url)) == {"a": 5}


async def test_beside_a_running_service_and_an_account_that_exists_keeps_its_plan(
    tmp_path: Path, settings: dict[str, str], database_url: str
) -> None:
    with started(tmp_path, "serve", ready=SERVES, **settings) as program:
        assert program.do("PUT", "/v1/accounts/a/plan", {"plan": "pro"}, "open")[0] == 201
        rows = [{"account": "a", "plan": "free", "amount": 7}, {"account": "n", "amount": 1}]
        summary = imported(tmp_path, settings, write_rows(tmp_path / "balances.ndjson", rows))
        assert (summary["opened"], summary["plans_kept"], summary["granted"]) == (1, 1, 2)
        balance = program.get("/v1/accounts/a/balance")
        assert (balance["plan"], balance["available"]) == ("pro", 107)
        status, _ = program.do("POST", "/v1/accounts/a/consumptions", {"amount": 107}, "spend")
        assert status == 201, "the service goes on from what the import wrote"
        assert program.end(signal.SIGTERM) == 0
    await audited(database_url)


async def test_an_import_that_was_killed_is_started_again(
    tmp_path: Path, settings: dict[str, str], database_url: str
) -> None:
    rows = [{"account": f"team-{n % 3000}", "amount": n + 1} for n in range(6000)]
    file = write_rows(tmp_path / "balances.ndjson", rows)
    named = {f"LEDGER_{name}": text for name, text in settings.items()}
    process = await asyncio.create_subprocess_exec(*PROGRAM, "import", file, cwd=tmp_path, env=environment(named))
    connection = await asyncpg.connect(database_url)
    try:

        async def begun() -> bool:
            assert process.returncode is None, "it ended before it could be killed"
            return await connection.fetchval("SELECT count(*) FROM ledger.events WHERE kind = 'promo'") > 600

        await eventually(begun, "some of it is booked")
    finally:
        process.kill()
        await connection.close()
        await process.wait()
    summary = imported(tmp_path, settings, file)
    assert summary["already_there"] > 0
    assert summary["granted"] + summary["already_there"] == len(rows)
    expected: Counter[str] = Counter()
    for row in rows:
        expected[row["account"]] += row["amount"]
    assert granted(await audited(database_url)) == expected


def test_the_data_of_up_is_imported_into_whether_it_runs_or_not() -> None:
    with throwaway_directory() as directory:
        name = write_rows(directory / "balances.ndjson", [{"account": "a", "amount": 7}])
        with started(directory, "up", "--port", "0") as program:
            assert imported(directory, {}, name)["granted"] == 1
            assert program.get("/v1/accounts/a/balance")["bonus"] == 7
            assert program.end(signal.SIGINT) == 0
        assert imported(directory, {}, name)["already_there"] == 1
        assert imported(directory, {}, name, "--data", ".ledger")["already_there"] == 1
        with started(directory, "up", "--port", "0") as program:
            assert program.get("/v1/accounts/a/balance")["bonus"] == 7
            assert program.end(signal.SIGINT) == 0


def test_what_keeps_an_import_from_running_is_told(tmp_path: Path, database_url: str) -> None:
    file = write_rows(tmp_path / "balances.ndjson", ROWS)
    without = credit_ledger(tmp_path, "import", file, DATABASE_URL=database_url)
    assert (without.returncode, "catalog activate" in without.stderr) == (1, True)
    nowhere = credit_ledger(tmp_path, "import", file)
    assert (nowhere.returncode, "LEDGER_DATABASE_URL" in nowhere.stderr) == (1, True)
    assert credit_ledger(tmp_path, "import", "missing.csv", DATABASE_URL=database_url).returncode == 2


def test_people_see_a_table_and_the_lines_that_are_wrong(tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / "balances.csv").write_text("account,amount\na,5\nb,x\n")
    ran = credit_ledger(tmp_path, "import", "balances.csv", **settings)
    assert ran.returncode == 3
    assert "line 3: amount" in ran.stderr
    assert "--skip-bad" in ran.stderr
    assert "accounts that would be opened" in ran.stdout
