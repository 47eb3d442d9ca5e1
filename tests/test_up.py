"""Laws of `credit-ledger up`: one command, lines that work, data that survives, and nothing left behind."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.program import STOP_SECONDS_MAX, Program, commands, credit_ledger, environment, started
from tests.servers import eventually, throwaway_directory

# For machines without curl: what the printed lines use of it.
CURL = f"""#!{sys.executable}
import sys, urllib.error, urllib.request
url, method, body, headers, rest = "", None, None, {{}}, sys.argv[1:]
while rest:
    word = rest.pop(0)
    if word == "-X":
        method = rest.pop(0)
    elif word == "-H":
        name, _, value = rest.pop(0).partition(":")
        headers.update({{name: value.strip()}} if value.strip() else {{}})
    elif word == "-d":
        body = rest.pop(0).encode()
    elif word != "-sS":
        url = word
try:
    answer = urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method))
except urllib.error.HTTPError as error:
    answer = error
sys.stdout.buffer.write(answer.read())
"""


@pytest.fixture
def directory() -> Generator[Path]:
    with throwaway_directory() as directory:
        yield directory


def paste(lines: list[str], directory: Path) -> list[bytes]:
    """What each curl line prints when a shell runs it, after the line that makes `uuidgen` if there is one."""
    tools = directory / "bin"
    tools.mkdir(exist_ok=True)
    curl = tools / "curl"
    curl.write_text(CURL)
    curl.chmod(curl.stat().st_mode | stat.S_IXUSR)
    shell_environment = {**environment({}), "PATH": f"{os.environ['PATH']}:{tools}"}
    definitions = [line for line in lines if line.startswith("uuidgen() ")]
    outputs: list[bytes] = []
    for line in lines:
        if line.startswith("curl "):
            script = "\n".join((*definitions, line))
            ran = subprocess.run(
                ["sh", "-ec", script], env=shell_environment, capture_output=True, check=True, timeout=60
            )
            assert ran.stderr == b""
            outputs.append(ran.stdout)
    return outputs


def balances(program: Program, accounts: list[str]) -> dict[str, object]:
    """The balance of each account, without the instant at which it was read."""
    return {
        account: {**program.get(f"/v1/accounts/{account}/balance"), "as_of": None, "quota": None}
        for account in accounts
    }


def test_the_printed_lines_tell_a_story_that_works(directory: Path) -> None:
    with started(directory, "up", "--port", "0") as program:
        lines = commands(program.lines)
        opened, held, charged, balance, events, catalog = paste(lines, directory)
        assert json.loads(opened)["balance"]["available"] == 35
        assert json.loads(held)["balance"] | {"unit": "credits"} == json.loads(held)["balance"]
        assert json.loads(held)["reservation"]["held"] == 5
        assert json.loads(charged)["consumption"]["charged"] == 5
        assert json.loads(balance)["available"] == 30
        types = [json.loads(line)["type"] for line in events.splitlines()]
        assert types == ["plan_changed", "granted", "reserved", "consumed"]
        assert "create_reel" in json.loads(catalog)["operations"]
        assert any(line.startswith("nats -s nats://127.0.0.1:") for line in program.lines)
        assert program.end(signal.SIGINT) == 0


def test_the_lines_work_with_any_catalog(directory: Path) -> None:
    catalog = directory / "mine.toml"
    catalog.write_text('version = "1"\ndefault_plan = "only"\n[plans.only]\nallowance.credits = 3\n')
    with started(directory, "up", "--port", "0", "--catalog", str(catalog)) as program:
        answers = [json.loads(output) for output in paste(commands(program.lines), directory) if b"\n" not in output]
        assert not any("code" in answer for answer in answers)
        assert program.end(signal.SIGTERM) == 0


def test_data_survives_kill_9_and_the_demo_is_made_once(directory: Path) -> None:
    accounts = ["demo-free", "demo-starter", "demo-pro", "mine"]
    with started(directory, "up", "--port", "0", "--demo") as program:
        assert program.do("PUT", "/v1/accounts/mine/plan", {"plan": "pro"}, "open")[0] == 201
        assert program.do("POST", "/v1/accounts/mine/reservations", {"amount": 7}, "hold")[0] == 201
        before = balances(program, accounts)
        assert before["demo-free"]["available"] < 60  # type: ignore[index]
        assert program.end(signal.SIGKILL) == -signal.SIGKILL
    with started(directory, "up", "--port", "0", "--demo") as program:
        assert balances(program, accounts) == before
        assert program.do("POST", "/v1/accounts/mine/reservations", {"amount": 7}, "hold")[0] == 200
        assert program.end(signal.SIGINT) == 0
    assert "warning" not in (directory / "stderr").read_text()


def test_when_nobody_chose_a_port_and_8080_is_taken_it_serves_on_another(directory: Path) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held = False
        with suppress(OSError):  # somebody else has it, which is as good for as long as they do
            listener.bind(("127.0.0.1", 8080))
            listener.listen()
            held = True
        with started(directory, "up") as program:
            assert not (held and program.url.endswith(":8080"))
            assert program.get("/healthz") == {"status": "alive"}
            assert program.end(signal.SIGINT) == 0


def test_a_chosen_port_that_is_taken_is_told_and_nothing_is_left(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ran = credit_ledger(directory, "up", "--port", str(listener.getsockname()[1]))
    assert ran.returncode == 1
    assert "is taken" in ran.stderr
    assert "--port" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not [process for process in psutil.process_iter(["cwd"]) if str(directory) in str(process.info["cwd"])]


def test_a_second_one_on_the_same_data_is_told_who_has_it(directory: Path) -> None:
    with started(directory, "up", "--port", "0") as program:
        ran = credit_ledger(directory, "up", "--port", "0")
        assert ran.returncode == 1
        assert str(program.process.pid) in ran.stderr
        assert "--data" in ran.stderr
        assert program.end(signal.SIGINT) == 0


def test_a_server_that_dies_ends_everything_with_a_word_about_it(directory: Path) -> None:
    with started(directory, "up", "--port", "0") as program:
        family = psutil.Process(program.process.pid).children()
        next(child for child in family if "nats" in child.name()).kill()
        assert program.process.wait(STOP_SECONDS_MAX) == 1
        assert not psutil.wait_procs(family, timeout=STOP_SECONDS_MAX)[1]
    assert "NATS ended" in (directory / "stderr").read_text()


async def test_a_second_ctrl_c_ends_it_at_once(directory: Path) -> None:
    with started(directory, "up", "--port", "0") as program:
        servers = psutil.Process(program.process.pid).children()
        for server in servers:
            server.suspend()  # neither database nor NATS answers: an orderly stop takes long
        try:
            program.process.send_signal(signal.SIGINT)
            await eventually(lambda: "stopping" in (directory / "stderr").read_text(), "the first one is noticed")
            program.process.send_signal(signal.SIGINT)
            assert program.process.wait(STOP_SECONDS_MAX / 2) == 130
        finally:
            for server in servers:
                server.resume()
        assert not psutil.wait_procs(servers, timeout=STOP_SECONDS_MAX)[1]
