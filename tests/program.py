"""The command line as its users meet it: a program of its own, started, read, signalled and waited for."""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import Any

import psutil

PROGRAM = (sys.executable, "-m", "service.cli")
READY = "Ctrl-C stops everything."
START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 60.0
COMMAND_SECONDS_MAX = 90.0


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with these of the ledger's settings and no others."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    return {**own, "PYTHONUNBUFFERED": "1", **settings}


def credit_ledger(directory: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in a directory; settings are given without their prefix."""
    named = {f"LEDGER_{name}": value for name, value in settings.items()}
    asked = {"directory": str(directory), "environment": environment(named), "arguments": arguments}
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        code = _warm().run(json.dumps(asked).encode(), stdout.fileno(), stderr.fileno())
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(["credit-ledger", *arguments], code, stdout.read(), stderr.read())


class Warm:
    """A process that has imported the command line, and forks for each command (`tests.warm`)."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", Path(__file__).with_name("warm.py")], stdin=theirs.fileno(), env=environment({})
            )
        self._socket.settimeout(COMMAND_SECONDS_MAX)
        atexit.register(self.end)

    def run(self, asked: bytes, stdout: int, stderr: int) -> int:
        """Run one command to its end, after those that were asked before; its exit code."""
        socket.send_fds(self._socket, [asked], [stdout, stderr])
        answer = self._socket.recv(16)
        assert answer, "the process that runs commands has ended"
        return int(answer)

    def end(self) -> None:
        """End it; it goes by itself when nobody can ask any more."""
        self._socket.close()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()


@cache
def _warm() -> Warm:
    return Warm()


class Program:
    """A `credit-ledger up` or `serve` that runs."""

    def __init__(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        self.process = process
        self.lines = lines
        self._family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]

    @property
    def url(self) -> str:
        """Where HTTP answers."""
        return next(word for line in self.lines for word in line.split() if word.startswith("http://127.0.0.1:"))

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as response:  # noqa: S310 - an address of our own
            return json.load(response)

    def do(self, method: str, path: str, body: object, key: str) -> tuple[int, Any]:
        """Send a mutation; its status and its JSON."""
        request = urllib.request.Request(  # noqa: S310 - an address of our own
            f"{self.url}{path}", json.dumps(body).encode(), {"Idempotency-Key": key}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - an address of our own
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end of the program and of everything that it started; its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(STOP_SECONDS_MAX)
        _, alive = psutil.wait_procs(self._family[1:], timeout=STOP_SECONDS_MAX)
        assert not alive, f"left running: {alive}"
        return code


@contextmanager
def started(directory: Path, *arguments: str, ready: str = READY, **settings: str) -> Generator[Program]:
    """A program that has said that it is ready, in a directory; killed at the end when it still runs."""
    named = {f"LEDGER_{name}": value for name, value in settings.items()}
    with running([*PROGRAM, *arguments], directory, directory / "stderr", named, ready) as program:
        yield program


@contextmanager
def running(
    command: Sequence[str], directory: Path, errors: Path, named: dict[str, str], ready: str = READY
) -> Generator[Program]:
    """A command that has said that it is ready; killed at the end when it still runs."""
    with errors.open("a+") as stderr:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment(named),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        try:
            yield Program(process, _read_until(process, ready, errors))
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _read_until(process: subprocess.Popen[str], ready: str, stderr: Path) -> list[str]:
    """The lines that the program printed up to one with `ready`."""
    assert process.stdout is not None
    lines: list[str] = []
    alarm = Timer(START_SECONDS_MAX, process.kill)
    alarm.start()
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if ready in line:
                return lines
    finally:
        alarm.cancel()
    raise AssertionError(f"it ended with {process.wait()}; printed {lines}; said {stderr.read_text()}")


def commands(lines: Sequence[str]) -> list[str]:
    """The lines among these that a person would paste into a shell."""
    return [line for line in lines if line.startswith(("curl ", "uuidgen() "))]
