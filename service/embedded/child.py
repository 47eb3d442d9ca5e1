"""A server program of our own: one for each data directory, stopped in order, never two at once, never left behind.

Two lock files stand for each server, `<data>/lock/<name>.owner` and `<data>/lock/<name>.server`. A process that wants
to run the server holds `owner` for as long as it does: a second one is told who has it. `server` is held by the server
itself, which inherits the open file. So when `owner` is free and `server` is not, an earlier owner was killed and its
server still runs: it is told to stop, and waited for. The kernel frees both locks however a process ends, so nothing
that is stale can ever be in the way, and process ids, which are used again, decide nothing.

The server is a session of its own: Ctrl-C in the terminal reaches us and not the server, which is stopped in its turn.
"""

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from service.correctable import Correctable

HOST = "127.0.0.1"
LAUNCH = Path(__file__).with_name("launch.py")
LOG_BYTES_MAX = 8 * 1024 * 1024
POLL_SECONDS = 0.01
LEFTOVER_SECONDS_MAX = 60.0
# A process that was killed a moment ago may still be on its way out.
OWNER_SECONDS_MAX = 2.0
# A server that replays gigabytes of its log after a crash is starting, not stuck.
START_SECONDS_MAX = 300.0
# How a server is asked to stop: cleanly, then at once, then by force; with the seconds that each may take. Twice cleanly,
# because a program started by a background job of a shell ignores SIGINT until `launch.py` has set that right.
STOPS = ((signal.SIGINT, 1.0), (signal.SIGINT, 59.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
KEEP_USER = (-1, -1)


class EmbeddedServerError(Correctable):
    """An embedded server could not be started; the message says why and what to do next."""


def take_lock(path: Path) -> int | None:
    """The open descriptor that holds the lock of this file until it is closed, or None when another one holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


async def _lock_within(path: Path, seconds: float) -> int | None:
    """As `take_lock`, and tries again for some time."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while True:
        lock = take_lock(path)
        if lock is not None or clock() > deadline:
            return lock
        await asyncio.sleep(POLL_SECONDS)  # flock cannot be awaited, and a thread that waits in it cannot be stopped


def _note_process(descriptor: int, pid: int) -> None:
    """Writes into the lock file who holds it, for messages and for stopping what was left behind."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(pid).encode(), 0)


def _noted_process(path: Path) -> int | None:
    """The process that the lock file names, or None."""
    text = path.read_text(encoding="ascii", errors="replace")
    return int(text) if text.isdecimal() else None


def _has_open(pid: int, path: Path) -> bool:
    """Whether the process has the file open; taken for granted where there is no /proc to ask."""
    descriptors = Path(f"/proc/{pid}/fd")
    if not Path("/proc/self/fd").exists():
        return True
    with suppress(OSError):
        for descriptor in descriptors.iterdir():
            with suppress(OSError):
                if descriptor.samefile(path):
                    return True
    return False


class Child:
    """The server `name` of a data directory: claimed, spawned, stopped, released."""

    def __init__(self, name: str, data: Path) -> None:
        self.name = name
        self.log = data / "log" / f"{name}.log"
        self._locks = data / "lock"
        self._owner: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The server's process id, or None when it was not started or was stopped."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """The exit code of a server that ended by itself, minus the signal that killed it; None while it runs."""
        return self._process.poll() if self._process else None

    def is_owned(self) -> bool:
        """Whether a process, this one included, runs the server."""
        path = self._locks / f"{self.name}.owner"
        lock = take_lock(path) if path.exists() else None
        if lock is not None:
            os.close(lock)
        return path.exists() and lock is None

    @asynccontextmanager
    async def starting(self) -> AsyncGenerator[None]:
        """Claims the server for what starts it; when that fails or is cancelled, all is stopped and given back.

        Raises:
            EmbeddedServerError: also in place of an OSError: the data directory cannot be used.
        """
        try:
            await self._claim()
            yield
        except OSError as error:
            await self.stop()
            raise EmbeddedServerError(
                f"the data directory {self._locks.parent} cannot be used ({error}): make it writable to this user, or "
                "give another one with --data"
            ) from error
        except BaseException:
            await self.stop()
            raise

    async def _claim(self) -> None:
        """Takes the server for this process, and stops one that an earlier, killed process left behind."""
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.parent.mkdir(mode=0o700, exist_ok=True)
        path = self._locks / f"{self.name}.owner"
        owner = await _lock_within(path, OWNER_SECONDS_MAX)
        if owner is None:
            raise EmbeddedServerError(
                f"the data directory {self._locks.parent} is in use by process {_noted_process(path)}: "
                "stop that one, or give this one a directory of its own with --data"
            )
        _note_process(owner, os.getpid())
        self._owner = owner
        os.close(await self._server_lock())

    async def run(self, program: Path, *arguments: str, directory: Path, user: tuple[int, int]) -> None:
        """Runs a program that prepares the server, to its end.

        Raises:
            EmbeddedServerError: it failed; the message has the end of its output.
        """
        await self.spawn(program, *arguments, directory=directory, user=user)
        assert self._process is not None  # noqa: S101 - spawned in the line above
        code = await asyncio.to_thread(self._process.wait)
        self._process = None
        if code != 0:
            raise self.failure(f"{program.name} failed with exit code {code}")

    async def spawn(self, program: Path, *arguments: str, directory: Path, user: tuple[int, int]) -> None:
        """Starts the program in `directory` as `user` (uid and gid), with its output in the log."""
        lock = await self._server_lock()
        try:
            self._open_new_log()
            with self.log.open("ab") as log:
                self._log_start = log.tell()
                # In this thread, not in one of a pool: the kernel takes the end of the thread that forked for the
                # death of the parent. It takes a millisecond.
                self._process = subprocess.Popen(  # noqa: ASYNC220 - as said above
                    _command(program, arguments, user),
                    cwd=directory,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
            _note_process(lock, self._process.pid)
        finally:
            os.close(lock)

    async def ready(self, answers: Callable[[], bool]) -> bool:
        """Waits until the spawned server answers; false when it ended instead.

        Raises:
            EmbeddedServerError: it did neither in 300 seconds.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + START_SECONDS_MAX
        while clock() < deadline:
            if answers():
                return True
            if self.exit_code is not None:
                return False
            await asyncio.sleep(POLL_SECONDS)
        raise self.failure(f"{self.name} was not ready after {START_SECONDS_MAX:.0f} seconds")

    async def stop(self) -> None:
        """Stops the server and gives it back; without effect when there is none."""
        if self._process is not None:
            for number, seconds in STOPS:
                self._process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(self._process.wait, seconds)
                    break
            self._process = None
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def failure(self, what: str) -> EmbeddedServerError:
        """The error that says what happened, with the last lines of the log of this start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()[-15:]
        told = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        return EmbeddedServerError(f"{what}. The end of its log, {self.log}:\n{told}")

    async def _server_lock(self) -> int:
        """The server's lock, to be handed to it; waits for a server that was left behind, which is told to stop."""
        path = self._locks / f"{self.name}.server"
        lock = take_lock(path)
        if lock is not None:
            return lock
        pid = _noted_process(path)
        if pid is not None and _has_open(pid, path):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        lock = await _lock_within(path, LEFTOVER_SECONDS_MAX)
        if lock is not None:
            return lock
        raise EmbeddedServerError(
            f"an earlier {self.name} (process {pid}) still runs on {self._locks.parent} and does not stop: "
            f"end it with `kill -9 {pid}`, then start again"
        )

    def _open_new_log(self) -> None:
        """Puts a log that has grown large aside, one generation; makes the log readable to its owner only."""
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_BYTES_MAX:
                self.log.replace(self.log.with_suffix(".log.1"))
        self.log.touch(mode=0o600)


def _command(program: Path, arguments: Sequence[str], user: tuple[int, int]) -> list[str]:
    uid, gid = user
    launch = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(uid), str(gid)]
    return [*launch, str(program), *arguments]


def _environment() -> dict[str, str]:
    """Our environment without PGDATA, PGOPTIONS and the like, which would change the servers' behaviour unseen."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen at this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: old connections do not matter
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def require_free(port: int, name: str) -> None:
    """Raises EmbeddedServerError when a server cannot listen at this port of 127.0.0.1."""
    if not is_free(port):
        raise EmbeddedServerError(
            f"port {port} for {name} is taken or not allowed: stop what listens there, or choose another port"
        )


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
