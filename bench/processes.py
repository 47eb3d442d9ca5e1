"""The processes of a run: load processes that take jobs, empty responders, the ledger's service; and when all is quiet.

Every process is a child of the bench, ends with it, and speaks to 127.0.0.1 only.
"""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import msgspec
import psutil

from bench.jobs import Copy, Done, Failure, Job, Outcome, Replay, Sync
from service.benching.pump import BenchError, Window

ROOT = Path(__file__).parents[1]
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0
JOB_SECONDS_MAX = 180.0
"""What a job may take beside its window."""
ANSWER_BYTES_MAX = 1 << 20
WATCH_SECONDS = 0.1
QUIET_SHARE = 0.10
QUIET_STEP_SECONDS = 0.1
QUIET_SECONDS_MAX = 8.0


class LoadProcess:
    """A `bench.worker`: one job at a time."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> "LoadProcess":
        """Starts the process."""
        return cls(await start_module("bench.worker", stdin=PIPE))

    async def run(self, job: Job) -> Window:
        """The figures of one round.

        Raises:
            BenchError: the round failed, with the load process's reason.
        """
        seconds_max = JOB_SECONDS_MAX
        if not isinstance(job, Sync | Copy | Replay):
            seconds_max += job.load.seconds
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101, PT018 -- both were asked for at the start
        stdin.write(msgspec.json.encode(job) + b"\n")
        try:
            async with asyncio.timeout(seconds_max):
                line = await stdout.readline()
        except TimeoutError:
            raise BenchError(f"no figures within {seconds_max:.0f} s: {type(job).__name__}") from None
        if not line:
            raise BenchError(f"the load process died: {type(job).__name__}")
        outcome: Outcome = msgspec.json.decode(line, type=Outcome)
        match outcome:
            case Done(window):
                return window
            case Failure(reason):
                raise BenchError(reason)

    def memory_mib(self) -> float:
        """The memory of the process that is its own."""
        return psutil.Process(self._process.pid).memory_info().rss / 2**20

    async def stop(self) -> None:
        """Ends the process; it ends by itself when its stdin ends."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await stop_process(self._process)


async def start_module(module: str, *arguments: str, stdin: int = DEVNULL) -> Process:
    """Starts a module of the bench with this interpreter."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, cwd=ROOT, stdin=stdin, stdout=PIPE, limit=ANSWER_BYTES_MAX
    )


async def start_responder(module: str, *arguments: str) -> tuple[Process, str]:
    """Starts an empty responder and waits for its first line, which says that it is ready."""
    process = await start_module(module, *arguments)
    assert process.stdout is not None  # noqa: S101 -- asked for at the start
    async with asyncio.timeout(START_SECONDS_MAX):
        line = await process.stdout.readline()
    if not line:
        raise BenchError(f"{module} did not start")
    return process, line.decode().strip()


async def stop_process(process: Process) -> None:
    """Waits for a process that was asked to end, and then asks harder."""
    for ask in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        ask()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await process.wait()
        except TimeoutError:
            continue


def ledger_environment(settings: dict[str, str]) -> dict[str, str]:
    """This process's environment with the ledger's settings of the bench and no others."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")} | settings


async def run_ledger_command(
    command: str, settings: dict[str, str], directory: str, *, watch: Callable[[int], None] | None = None
) -> str:
    """Runs `credit-ledger <command>` to its end, in a directory without a `.env`; what it printed.

    `watch` is told its process id, several times a second.

    Raises:
        BenchError: it ended with an error, which is told.
    """
    process = await asyncio.create_subprocess_exec(
        ledger_program(),
        *command.split(),
        cwd=directory,
        env=ledger_environment(settings),
        stdout=PIPE,
        stderr=PIPE,
    )
    ended = asyncio.create_task(process.communicate())
    while not ended.done():
        if watch is not None:
            watch(process.pid)
        await asyncio.wait({ended}, timeout=WATCH_SECONDS)
    output, errors = (stream.decode() for stream in ended.result())
    if process.returncode:
        raise BenchError(f"credit-ledger {command} ended with {process.returncode}:\n{(output + errors)[-2000:]}")
    return output


async def start_service(settings: dict[str, str], directory: str, port: int) -> Process:
    """Starts `credit-ledger serve` and waits until it says that it is ready."""
    log = Path(directory) / "service.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            ledger_program(), "serve", cwd=directory, env=ledger_environment(settings), stdout=output, stderr=output
        )
    give_up_at = perf_counter() + START_SECONDS_MAX
    while not await is_ready(port):
        if process.returncode is not None or perf_counter() > give_up_at:
            await stop_process(process)
            raise BenchError(f"credit-ledger serve did not become ready:\n{tail(log)}")
        await asyncio.sleep(0.1)
    return process


async def start_projector(settings: dict[str, str], directory: str) -> Process:
    """Starts `credit-ledger projections run` and waits until it says that it is at work.

    Raises:
        BenchError: it ended.
    """
    process = await asyncio.create_subprocess_exec(
        *(ledger_program(), "projections", "run"), cwd=directory, env=ledger_environment(settings), stdout=PIPE
    )
    assert process.stdout is not None  # noqa: S101 -- asked for at the start
    async with asyncio.timeout(START_SECONDS_MAX):
        if not await process.stdout.readline():
            raise BenchError("credit-ledger projections run did not start")
    return process


def tail(log: Path) -> str:
    """The end of what a process printed."""
    return log.read_text(errors="replace")[-2000:]


async def is_ready(port: int) -> bool:
    """Whether GET /readyz answers 200."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = await reader.read(ANSWER_BYTES_MAX)
        writer.close()
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200")


def ledger_program() -> str:
    """The console script beside this interpreter.

    Raises:
        BenchError: the ledger is not installed in this environment.
    """
    program = Path(sys.executable).with_name("credit-ledger")
    if not program.exists():
        raise BenchError("credit-ledger is not installed beside this interpreter; run this by `make bench`")
    return str(program)


async def until_quiet() -> float:
    """Waits until the servers have finished what the last round left them to do; the seconds that it took.

    Readers and publishers work behind the answers, and a checkpoint or a vacuum behind the commit. Without this wait a
    case would pay for its predecessor.
    """
    began_at = perf_counter()
    before = children_cpu_seconds()
    while (now := perf_counter()) < began_at + QUIET_SECONDS_MAX:
        await asyncio.sleep(QUIET_STEP_SECONDS)
        after = children_cpu_seconds()
        if after - before < QUIET_SHARE * (perf_counter() - now):
            break
        before = after
    return perf_counter() - began_at - QUIET_STEP_SECONDS


def children_cpu_seconds() -> float:
    """The CPU time so far of every process below this one."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
