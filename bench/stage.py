"""The stage of one run: embedded servers, databases, funded accounts, responders and services, started when needed.

The database's directory lies beside the bench and not in a temporary directory, which is often in memory, where a
durable commit costs nothing. A run refuses to measure a server that does not sync its commits.
"""

import asyncio
import shutil
import socket
import tempfile
from asyncio.subprocess import Process
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import asyncpg
import orjson

from bench import slow_disk
from bench.jobs import Http, InProcess, Load
from bench.load_sql import create_copies, create_tables
from bench.processes import (
    LoadProcess,
    run_ledger_command,
    start_projector,
    start_responder,
    start_service,
    stop_process,
)
from service.benching.pump import BenchError
from service.embedded import EmbeddedPostgres, EmbeddedServers

HERE = Path(__file__).parent
CATALOG = HERE / "catalog.toml"
OPENING_SECONDS_MAX = 120.0
OPENING_IN_FLIGHT = 64
SAMPLE_IN_FLIGHT = 512
SAMPLE_SECONDS_MAX = 60.0
COMMAND_TIMEOUT_SECONDS = 30.0
PROJECTED = """
select coalesce(min(reached), 0)::bigint from (
    select sum(k.position) as reached from projections.current c
    join projections.checkpoints k on k.name = c.name and k.generation = c.generation group by c.name
) each"""
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


class Stage:
    """Everything that a case may need; each part is started the first time that it is asked for."""

    def __init__(self, accounts: int) -> None:
        self.accounts = accounts
        self.catalog = str(CATALOG)
        self.directory = ""
        self.versions: dict[str, str] = {}
        self.wire: LoadProcess
        self.more_settings: dict[str, str] = {}
        """Settings of the service beside those that every case has."""
        self.http_port = 0
        self.empty_http_port = 0
        self.nats_port = 0
        self._postgres_url = ""
        self._slow_url = ""
        self._nats_url = ""
        self._in_process: dict[str, LoadProcess] = {}
        self._urls: dict[str, str] = {}
        self._connections: dict[str, asyncpg.Connection] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Starts the servers and the load process."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops everything, in the reverse order, and removes the data."""
        await self._stack.aclose()

    async def prepare(self, needs: set[str], copied_rows: int) -> None:
        """Starts the parts that the chosen cases need: `disk`, `sql`, `empty`, `copy`, `in_process`, `service`, `slow`."""
        if "sql" in needs:
            await create_tables(await self._database("baseline"), self.accounts)
        if "empty" in needs:
            process, port = await start_responder("bench.empty_http")
            self._stop_later(process)
            self.empty_http_port = int(port)
            process, _ = await start_responder("bench.empty_nats", self._nats_url)
            self._stop_later(process)
        if needs & {"in_process", "copy"}:
            await self.start_in_process("in_process")
        if "copy" in needs:
            await self._write_sample(copied_rows)
        if "service" in needs:
            await self._start_service()
        if "slow" in needs:
            await self._start_slow()

    def url(self, database: str) -> str:
        """The address of one of the run's databases."""
        return self._urls[database]

    def process_of(self, needs: str) -> LoadProcess:
        """The process that runs the cases which need this."""
        return self._in_process.get(needs, self.wire)

    async def logged_events(self, database: str) -> int:
        """How many events the heads of the log say there are; positions have no gaps."""
        return await self._number(database, "select coalesce(sum(position), 0)::bigint from ledger.heads")

    async def projected_events(self, database: str) -> int:
        """How many events every projection that is read has."""
        return await self._number(database, PROJECTED)

    async def stored_events(self, database: str) -> int:
        """How many events the log really has, counted one by one."""
        return await self._number(database, "select count(*) from ledger.events")

    async def _start(self) -> None:
        self.directory = make_directory()
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        servers = EmbeddedServers(Path(self.directory))
        endpoints = await servers.start()
        self._stack.push_async_callback(servers.stop)
        self._postgres_url, self._nats_url = endpoints.socket_url, endpoints.nats_url
        self.nats_port = urlsplit(self._nats_url).port or 4222
        await self._check_durable()
        self.versions["nats-server"] = await nats_version(self.nats_port)
        self.wire = await self._load_process()

    async def _check_durable(self) -> None:
        connection = await asyncpg.connect(self._postgres_url, command_timeout=COMMAND_TIMEOUT_SECONDS)
        try:
            for name, wanted in DURABLE.items():
                if (found := await connection.fetchval("select current_setting($1)", name)) != wanted:
                    raise BenchError(f"PostgreSQL runs with {name} = {found}: commits would not be durable")
            version: str = await connection.fetchval("select current_setting('server_version')")
        finally:
            await connection.close()
        self.versions["PostgreSQL"] = version

    async def start_in_process(self, name: str) -> LoadProcess:
        """Starts a process with a ledger on a database of its own, with its accounts; `slow` is that of the slow disk."""
        settings = self._settings(await self._database(name))
        await run_ledger_command("migrate", settings, self.directory)
        self._in_process[name] = await self._load_process()
        window = await self._in_process[name].run(InProcess(self._opening(), self.url(name), self.catalog, "opening"))
        self._check_opened(window.acknowledged)
        return self._in_process[name]

    async def _write_sample(self, rows: int) -> None:
        """Lets the ledger write the rows that COPY is to write again."""
        load = Load(
            run="sample",
            accounts=self.accounts,
            in_flight=SAMPLE_IN_FLIGHT,
            seconds=SAMPLE_SECONDS_MAX,
            pairs=rows // 2,
        )
        await self._in_process["in_process"].run(InProcess(load, self.url("in_process"), self.catalog))
        await create_copies(self.url("in_process"))

    async def _start_slow(self) -> None:
        """Starts a second PostgreSQL, whose syncs take 2 ms, and a load process whose syncs do so too."""
        library = slow_disk.build(Path(self.directory))
        directory = Path(self.directory) / "slow"
        directory.mkdir(mode=0o755)
        server = EmbeddedPostgres(directory)
        with slow_disk.preloaded(library):
            await server.start()
            self._stack.push_async_callback(server.stop)
            slow_disk.check_loaded(server.pid or 0, library)
            self._slow_url = server.socket_url
            await create_tables(await self._database("slow_baseline"), self.accounts)
            await self.start_in_process("slow")

    async def _start_service(self) -> None:
        self.http_port = free_port()
        settings = self._settings(await self._database("service"))
        await run_ledger_command("migrate", settings, self.directory)
        self._stop_later(await start_service(settings, self.directory, self.http_port))
        window = await self.wire.run(Http(self._opening(), self.http_port, "open_by_plan", 201))
        self._check_opened(window.acknowledged)

    async def start_projector(self, database: str) -> None:
        """Starts `credit-ledger projections run` on one of the run's databases."""
        self._stop_later(await start_projector(self.settings_of(database), self.directory))

    def _opening(self) -> Load:
        return Load(
            run="opening",
            accounts=self.accounts,
            in_flight=OPENING_IN_FLIGHT,
            seconds=OPENING_SECONDS_MAX,
            pairs=self.accounts + 1,
        )

    def _check_opened(self, acknowledged: int) -> None:
        wanted = 2 * (self.accounts + 1)
        if acknowledged != wanted:
            raise BenchError(
                f"{acknowledged} of {wanted} commands that open and fund the accounts were answered in time"
            )

    def settings_of(self, database: str) -> dict[str, str]:
        """The settings of a command that works on one of the run's databases."""
        return self._settings(self.url(database))

    def _settings(self, database_url: str) -> dict[str, str]:
        return {
            "LEDGER_DATABASE_URL": database_url,
            "LEDGER_NATS_URL": self._nats_url,
            "LEDGER_CATALOG": self.catalog,
            "LEDGER_HTTP_HOST": "127.0.0.1",
            "LEDGER_HTTP_PORT": str(self.http_port),
            "LEDGER_AUTH": "off",
            **self.more_settings,
        }

    async def _database(self, name: str) -> str:
        server = self._slow_url if name.startswith("slow") else self._postgres_url
        connection = await asyncpg.connect(server, command_timeout=COMMAND_TIMEOUT_SECONDS)
        try:
            await connection.execute(f"create database bench_{name}")
        finally:
            await connection.close()
        self._urls[name] = urlsplit(server)._replace(path=f"/bench_{name}").geturl()
        return self._urls[name]

    async def _number(self, database: str, query: str) -> int:
        if database not in self._connections:
            connection = await asyncpg.connect(self.url(database), command_timeout=COMMAND_TIMEOUT_SECONDS)
            self._stack.push_async_callback(connection.close)
            self._connections[database] = connection
        found: object = await self._connections[database].fetchval(query)
        if not isinstance(found, int):
            raise BenchError(f"not a number: {query}")
        return found

    async def _load_process(self) -> LoadProcess:
        process = await LoadProcess.start()
        self._stack.push_async_callback(process.stop)
        return process

    def _stop_later(self, process: Process) -> None:
        self._stack.push_async_callback(stop_process, process)


async def nats_version(port: int) -> str:
    """The broker's version, from the line with which it greets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    greeting = await reader.readline()
    writer.close()
    return str(orjson.loads(greeting.removeprefix(b"INFO "))["version"])


def make_directory() -> str:
    """A directory for the run's data, which a server that runs as another user can reach."""
    parent = HERE / ".data"
    parent.mkdir(exist_ok=True)
    directory = tempfile.mkdtemp(prefix="run-", dir=parent)
    Path(directory).chmod(0o755)
    return directory


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
