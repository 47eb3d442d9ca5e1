"""What is killed with SIGKILL, and exactly when: service processes, whole PostgreSQL clusters, steps of an append.

An append stops at one of its steps by a trigger that a test puts into its own database: it waits for an advisory lock
that the test holds. So the kill comes exactly there, and letting go of the lock lets an orphaned append go on.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import msgspec

from service.embedded import EmbeddedPostgres
from service.embedded.child import free_port
from service.store.migrate import migrate
from tests.servers import PARTITIONS, TEMPLATE, clone_template, create_database, eventually, execute
from tests.writer.asking import Said, Wish
from tests.writer.driver import Job, Message, Reached, Ready, Sent, Told

REPOSITORY = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("driver.py")
LOCK = 20260131

STOP = f"""
CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    seen integer := coalesce(nullif(current_setting('crash.seen', true), ''), '0')::integer + 1;
BEGIN
    PERFORM set_config('crash.seen', seen::text, true);
    IF seen = tg_argv[0]::integer THEN
        PERFORM pg_advisory_xact_lock_shared({LOCK});
    END IF;
    RETURN NULL;
END $$;
"""
STEPS = {
    "before the head is set": "BEFORE UPDATE ON ledger.heads EXECUTE FUNCTION public.stop(1)",
    "the head is set": "AFTER UPDATE ON ledger.heads EXECUTE FUNCTION public.stop(1)",
    "the events are in": "AFTER INSERT ON ledger.events EXECUTE FUNCTION public.stop(1)",
    "the snapshots are in": "AFTER INSERT ON ledger.accounts EXECUTE FUNCTION public.stop(1)",
    "the new items are in": "AFTER INSERT ON ledger.items EXECUTE FUNCTION public.stop(1)",
    "the changed items are in": "AFTER INSERT ON ledger.items EXECUTE FUNCTION public.stop(2)",
    "at the commit": "AFTER INSERT ON ledger.events DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION public.stop(1)",
}
"""The steps of `ledger.append` between which a crash may come, and the trigger that stops there."""

WAITING = """
SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT l.granted AND a.datname = current_database() AND a.query LIKE '%ledger.append(%'
"""


class Stopped:
    """A database where appends stop at a step, until `let_go`."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    async def appends_wait(self, number: int = 1) -> None:
        """Returns when that many appends stand still, at the step or behind one that does."""

        async def waiting() -> bool:
            await self._connection.execute("SELECT pg_stat_clear_snapshot()")
            return await self._connection.fetchval(WAITING) >= number

        await eventually(waiting, f"{number} appends stand still")

    async def let_go(self) -> None:
        """Lets all appends go on, now and from now on."""
        await self._connection.execute("SELECT pg_advisory_unlock_all()")


@asynccontextmanager
async def appends_stop(url: str, step: str) -> AsyncGenerator[Stopped]:
    """Lets appends stop at a step; a crash of the server ends that too."""
    kind = "CONSTRAINT TRIGGER" if "DEFERRABLE" in STEPS[step] else "TRIGGER"
    await execute(url, f"{STOP} CREATE {kind} stop {STEPS[step]}")
    connection = await asyncpg.connect(url, command_timeout=60)
    try:
        await connection.execute(f"SELECT pg_advisory_lock({LOCK})")
        yield Stopped(connection)
    finally:
        connection.terminate()


class Service:
    """A service process (`driver.py`), and all that it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._news = asyncio.Event()
        self._ready = False
        self._reader = asyncio.create_task(self._read())
        self.reached = False
        self.sent: dict[tuple[str, str], Wish] = {}
        self.told: dict[tuple[str, str], Said] = {}

    @classmethod
    async def spawn(cls) -> "Service":
        """Starts a process that waits for its job."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(DRIVER)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        return cls(process)

    async def give(self, job: Job) -> None:
        """Gives the process its job, once it is ready."""
        await self.until(lambda: self._ready)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        await self._process.stdin.drain()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until what the process said makes the condition hold."""
        while not holds():
            assert not self._reader.done(), "the service process ended"
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 60)

    def open_wishes(self) -> list[Wish]:
        """The commands that were sent, and of which nobody was told what became of them."""
        return [wish for command, wish in self.sent.items() if command not in self.told]

    async def kill(self) -> None:
        """Kills the process, and hears what it said until then."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def end(self) -> None:
        """Lets the process finish what it began, and end by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert await asyncio.wait_for(self._process.wait(), 60) == 0
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        decoder = msgspec.json.Decoder(Message)
        while line := await self._process.stdout.readline():
            match decoder.decode(line):
                case Ready():
                    self._ready = True
                case Reached():
                    self.reached = True
                case Sent(wish):
                    self.sent[wish.account, wish.key] = wish
                case Told(account, key, said):
                    self.told[account, key] = said
            self._news.set()
        self._news.set()


@asynccontextmanager
async def services() -> AsyncGenerator[Callable[[], "asyncio.Future[Service]"]]:
    """Spawns service processes, each of them killed at the end of the block."""
    spawned: list[asyncio.Task[Service]] = []

    def spawn() -> "asyncio.Future[Service]":
        spawned.append(asyncio.create_task(Service.spawn()))
        return spawned[-1]

    try:
        yield spawn
    finally:
        for task in spawned:
            await (await task).kill()


class Cluster:
    """A PostgreSQL of a test's own, that may be killed and comes back at the same port with the same data."""

    def __init__(self, data: Path) -> None:
        self._server = EmbeddedPostgres(data, free_port())
        self._url = ""

    async def start(self) -> None:
        """Starts it with an empty, migrated database to be cloned."""
        self._url = await self._server.start()
        await migrate(await create_database(self._url, TEMPLATE), PARTITIONS)

    async def clone(self) -> str:
        """The URL of a database of its own."""
        return await clone_template(self._url)

    async def drop(self, url: str) -> None:
        """Deletes a clone; after a crash PostgreSQL brings every file that it has to the disk again."""
        name = urlsplit(url).path.removeprefix("/")
        await execute(self._url, f'DROP DATABASE "{name}" WITH (FORCE)')

    async def kill(self) -> None:
        """Kills the postmaster and all its processes; the postmaster is stopped first, so that it starts no others."""
        postmaster = self._server.pid
        assert postmaster is not None
        os.kill(postmaster, signal.SIGSTOP)
        for pid in [*children(postmaster), postmaster]:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: self._server.exit_code is not None, "PostgreSQL is dead")

    async def restart(self) -> None:
        """Starts it again on what the kill left."""
        await self._server.stop()
        await self._server.start()

    async def stop(self) -> None:
        """Ends it for good and at once, without the checkpoint of an orderly stop: what it has is thrown away."""
        postmaster = self._server.pid
        if postmaster is not None and self._server.exit_code is None:
            os.kill(postmaster, signal.SIGQUIT)
        await self._server.stop()


def children(parent: int) -> list[int]:
    """The processes that this one started, and that live."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields.split()[1]) == parent:
            found.append(int(stat.parent.name))
    return found
