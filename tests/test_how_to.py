"""The how-to pages about files and catalogs tell the truth: their commands run as written."""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from service.settings import CATALOGS
from tests.auditing.history import write_history
from tests.program import Program, credit_ledger, environment, started

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to"
EXAMPLE = (CATALOGS / "content_platform.toml").read_text(encoding="utf-8")


def run_page(page: str, directory: Path, **settings: str) -> str:
    """Run the shell blocks of a page as one script; what they print."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (HOW_TO / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-ec", "".join(blocks)],
        cwd=directory,
        env={**environment(settings), "PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


async def test_balances_are_imported_as_the_page_says(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "catalog.toml").write_text(EXAMPLE)
    assert credit_ledger(tmp_path, "catalog", "activate", "catalog.toml", DATABASE_URL=database_url).returncode == 0
    printed = run_page("import-balances.md", tmp_path, LEDGER_DATABASE_URL=database_url)
    assert "grants that would be made" in printed
    assert re.search(r"accounts that were opened +3\n", printed)
    assert '"granted": 1' in printed


async def test_prices_are_changed_as_the_page_says(tmp_path: Path, database_url: str) -> None:
    assert 'version = "2026-11-01"' in EXAMPLE
    (tmp_path / "old.toml").write_text(EXAMPLE.replace('"2026-11-01"', '"2026-10-01"', 1))
    (tmp_path / "new.toml").write_text(EXAMPLE)
    for file in ("old.toml", "new.toml"):
        assert credit_ledger(tmp_path, "catalog", "activate", file, DATABASE_URL=database_url).returncode == 0
    editor = "sed -i -e s/2026-11-01/2026-12-01/"
    printed = run_page("change-prices.md", tmp_path, LEDGER_DATABASE_URL=database_url, EDITOR=editor)
    assert "catalog 2026-12-01 is in force" in printed
    assert "2026-11-01 -> 2026-12-01: no difference" in printed
    assert printed.rstrip().endswith("catalog 2026-11-01 is in force; services that run take it over within seconds")


async def test_the_log_is_verified_as_the_page_says(tmp_path: Path, database_url: str) -> None:
    await write_history(database_url, rounds=3)
    printed = run_page("verify-the-log.md", tmp_path, LEDGER_DATABASE_URL=database_url)
    digest, prev_hash = re.findall(r"[0-9a-f]{64}", printed)
    assert digest == prev_hash
    assert printed.count("\nsound: ") == 2
    assert (tmp_path / "signing.pub").read_text() in printed


async def test_alerts_are_received_as_the_page_says(tmp_path: Path, database_url: str) -> None:
    settings = {"LEDGER_DATABASE_URL": database_url, "LEDGER_AUTH": "off"}
    printed = run_page("receive-alerts.md", tmp_path, **settings)
    assert "the settings are good" in printed
    assert "0 deliveries are to be made again" in printed


def test_backups_are_made_and_restored_as_the_page_says(tmp_path: Path) -> None:
    """While commands run; then the server is killed, and the older backup meets the newer checkpoints."""
    answered: list[str] = []
    done = Event()

    def work(program: Program) -> None:
        while not done.wait(0.02):
            account = f"a{len(answered)}"
            status, _ = program.do("PUT", f"/v1/accounts/{account}/plan", {"plan": "pro"}, "k")
            assert status == 201
            answered.append(account)

    with started(tmp_path, "up", "--port", "0") as program, ThreadPoolExecutor(1) as pool:
        working = pool.submit(work, program)
        try:
            program.do("PUT", "/v1/accounts/first/plan", {"plan": "pro"}, "k")
            printed = run_page("back-up-and-restore.md", tmp_path)
        finally:
            done.set()
        working.result()
        program.get(f"/v1/proofs/inclusion?event={program.get('/v1/accounts/first/balance')['token']}")
        program.end(signal.SIGKILL)
    assert printed.count("backed up ") == 2
    assert printed.count("\nsound: ") == 2
    ledger = tmp_path / ".ledger"
    kept = {"SIGNING_KEY_FILE": str(ledger / "signing.key"), "CHECKPOINT_DIR": str(ledger / "checkpoints")}
    with started(tmp_path, "up", "--port", "0", "--data", "restored", **kept) as program:
        assert program.get("/v1/accounts/first/balance")["plan"] == "pro"
        alarm = program.get("/readyz")["alarms"]["history"]
        assert alarm.startswith("history_rolled_back: ")
        assert "an old backup was restored" in alarm
        refused = [program.do("PUT", f"/v1/accounts/b{n}/plan", {"plan": "pro"}, "k")[0] for n in range(20)]
        assert 503 in refused
        assert program.end(signal.SIGINT) == 0
