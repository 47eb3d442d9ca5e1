"""The embedded servers keep what they were given, whoever is killed, and leave nothing running behind.

Ends are waited for on the locks that servers hold for as long as they live (`service/embedded/child.py`).
"""

import asyncio
import fcntl
import json
import os
import pwd
import signal
import socket
import stat
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import nats
import pytest

from service.embedded import (
    EmbeddedNats,
    EmbeddedPostgres,
    EmbeddedServerError,
    EmbeddedServers,
    Endpoints,
    endpoints_of,
)
from service.embedded.child import free_port
from service.embedded.postgres import buffers_mib, memory_bytes
from tests.servers import database_at, eventually, execute, throwaway_directory, value

REPOSITORY = Path(__file__).parents[1]
LAUNCH = REPOSITORY / "service" / "embedded" / "launch.py"

# Runs the servers of a directory, says where they are, and waits to be killed.
PARENT = """
import asyncio, dataclasses, json, sys
from pathlib import Path
from service.embedded import EmbeddedServers

async def main():
    servers = EmbeddedServers(Path(sys.argv[1]))
    async with servers as endpoints:
        told = {**dataclasses.asdict(endpoints), "pids": [servers.postgres.pid, servers.nats.pid]}
        print(json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
def data() -> Generator[Path]:
    with throwaway_directory() as directory:
        yield directory / "data"


@asynccontextmanager
async def parent_of_servers(data: Path, *launch: str) -> AsyncGenerator[tuple[asyncio.subprocess.Process, dict]]:
    """Another process that runs the servers, and what it told of them; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(*launch, sys.executable, "-c", PARENT, str(data)),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await servers_ended(data)


async def servers_ended(data: Path) -> None:
    """Returns when no server of this directory runs any more."""
    for lock in (data / "lock").glob("*.server"):
        with lock.open("rb") as file:
            await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)


async def write(endpoints: Endpoints) -> None:
    """Puts a row and a message into the servers."""
    await execute(endpoints.database_url, "CREATE TABLE kept AS SELECT 42 AS value")
    client = await nats.connect(endpoints.nats_url)
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", b"42")
    await client.close()


async def read(endpoints: Endpoints) -> tuple[object, bytes | None]:
    """What `write` put there."""
    row = await value(endpoints.database_url, "SELECT value FROM kept")
    client = await nats.connect(endpoints.nats_url)
    message = await client.jetstream().get_msg("KEPT", 1)
    await client.close()
    return row, message.data


async def test_data_survives_a_stop_and_a_start(data: Path) -> None:
    async with EmbeddedServers(data) as endpoints:
        await write(endpoints)
    async with EmbeddedServers(data) as endpoints:
        assert await read(endpoints) == (42, b"42")


async def test_data_survives_the_kill_of_both_servers(data: Path) -> None:
    servers = EmbeddedServers(data)
    await write(await servers.start())
    for pid in (servers.postgres.pid, servers.nats.pid):
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert "ended with exit code -9" in await servers.ended()
    await servers.stop()
    async with EmbeddedServers(data) as endpoints:
        assert await read(endpoints) == (42, b"42")


async def test_servers_end_when_their_parent_is_killed(data: Path) -> None:
    async with parent_of_servers(data) as (parent, _):
        parent.kill()
        await parent.wait()
        await servers_ended(data)


async def test_a_start_takes_over_from_a_killed_parent_at_once(data: Path) -> None:
    async with parent_of_servers(data) as (parent, told):
        await write(Endpoints(told["database_url"], told["nats_url"], told["socket_url"]))
        parent.kill()
        async with EmbeddedServers(data) as endpoints:
            assert await read(endpoints) == (42, b"42")


async def test_a_server_that_was_left_running_is_stopped_by_the_next_start(data: Path) -> None:
    """As on a system where the kernel does not tell the servers of their parent's death."""
    async with parent_of_servers(data) as (parent, told):
        for pid in told["pids"]:
            os.kill(pid, signal.SIGSTOP)  # so that the kernel's word reaches them after the new start has begun
        parent.kill()
        await parent.wait()
        server = EmbeddedPostgres(data)
        start = asyncio.create_task(server.start())
        owner = data / "lock" / "postgres.owner"
        await eventually(lambda: owner.read_text() == str(os.getpid()), "the new start has begun")
        for pid in told["pids"]:
            os.kill(pid, signal.SIGCONT)
        assert await value(await start, "SELECT 1") == 1
        await server.stop()


async def test_the_terminals_interrupt_does_not_reach_the_servers(data: Path) -> None:
    servers = EmbeddedServers(data)
    async with servers:
        for pid in (servers.postgres.pid, servers.nats.pid):
            assert pid is not None
            assert os.getsid(pid) == pid


async def test_two_directories_run_side_by_side(data: Path) -> None:
    async with EmbeddedServers(data / "one") as one, EmbeddedServers(data / "two") as two:
        await write(one)
        await write(two)
        assert await read(one) == await read(two) == (42, b"42")
        assert one.nats_url != two.nats_url


async def test_a_second_run_on_the_same_directory_is_refused_and_the_first_goes_on(data: Path) -> None:
    async with EmbeddedServers(data) as endpoints:
        await write(endpoints)
        with pytest.raises(EmbeddedServerError, match=rf"in use by process {os.getpid()}: stop that one, or .* --data"):
            await EmbeddedServers(data).start()
        assert await read(endpoints) == (42, b"42")


async def test_a_taken_port_is_named(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=f"port {port} for PostgreSQL is taken"):
            await EmbeddedServers(data, postgres_port=port).start()
        with pytest.raises(EmbeddedServerError, match=f"port {port} for NATS is taken"):
            await EmbeddedServers(data, nats_port=port).start()


async def test_given_ports_are_used(data: Path) -> None:
    postgres, nats_port = free_port(), free_port()
    async with EmbeddedServers(data, postgres_port=postgres, nats_port=nats_port) as endpoints:
        assert f"@127.0.0.1:{postgres}/credit_ledger" in endpoints.database_url
        assert endpoints.nats_url == f"nats://127.0.0.1:{nats_port}"


async def test_a_server_that_cannot_start_shows_the_end_of_its_log(data: Path) -> None:
    server = EmbeddedPostgres(data)
    await server.start()
    await server.stop()
    (data / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedServerError, match=r"did not start[^\0]*postgres\.log:[^\0]*pg_control"):
        await server.start()


async def test_an_interrupted_initdb_is_done_again(data: Path) -> None:
    (data / "init" / "postgres" / "base").mkdir(parents=True)
    server = EmbeddedPostgres(data)
    assert await value(await server.start(), "SELECT 1") == 1
    await server.stop()


async def test_a_cancelled_start_leaves_nothing_running(data: Path) -> None:
    servers = EmbeddedServers(data)
    start = asyncio.create_task(servers.start())
    await eventually(lambda: servers.postgres.pid is not None, "a server is being started")
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await servers_ended(data)
    async with EmbeddedServers(data) as endpoints:
        await write(endpoints)


async def test_a_process_id_that_another_program_has_by_now_is_no_obstacle(data: Path) -> None:
    server = EmbeddedPostgres(data)
    await server.start()
    await server.stop()
    (data / "postgres" / "postmaster.pid").write_text(f"{os.getppid()}\n{data}/postgres\n")
    assert await value(await server.start(), "SELECT 1") == 1
    await server.stop()


async def test_a_database_that_was_dropped_is_made_again(data: Path) -> None:
    server = EmbeddedPostgres(data)
    url = await server.start()
    await execute(database_at(url, "postgres"), "DROP DATABASE credit_ledger")
    await server.stop()
    assert await value(await server.start(), "SELECT current_database()") == "credit_ledger"
    await server.stop()


async def test_what_was_committed_is_on_the_disk(data: Path) -> None:
    server = EmbeddedPostgres(data)
    url = await server.start()
    for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
        assert await value(url, f"SHOW {setting}") == "on"
    await server.stop()


@pytest.mark.parametrize(
    ("memory_gib", "buffers_mib_wanted"), [(0.25, 128), (2, 128), (4, 256), (24, 1536), (32, 2048), (512, 2048)]
)
def test_postgresql_caches_in_a_sixteenth_of_the_memory_within_bounds(
    memory_gib: float, buffers_mib_wanted: int
) -> None:
    assert buffers_mib(int(memory_gib * 2**30)) == buffers_mib_wanted


def test_a_containers_limit_counts_as_its_memory(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = data.parent / "memory.max"
    monkeypatch.setattr("service.embedded.postgres.MEMORY_LIMIT", limit)
    of_machine = memory_bytes()
    limit.write_text("max\n")
    assert memory_bytes() == of_machine
    limit.write_text(f"{of_machine // 2}\n")
    assert memory_bytes() == of_machine // 2


async def test_nobody_connects_without_the_password(data: Path) -> None:
    server = EmbeddedPostgres(data)
    url = await server.start()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await value(url.replace("postgres:", "postgres:x", 1), "SELECT 1")
    await server.stop()


async def test_secrets_and_data_are_readable_to_their_owner_only(data: Path) -> None:
    async with EmbeddedServers(data):
        for name in ("postgres", "postgres.password", "nats", "log", "lock", "endpoints.json"):
            assert stat.S_IMODE((data / name).stat().st_mode) & 0o077 == 0, name


async def test_other_commands_find_the_servers_of_a_directory_while_they_run(data: Path) -> None:
    assert endpoints_of(data) is None
    async with EmbeddedServers(data) as endpoints:
        assert endpoints_of(data) == endpoints
    assert endpoints_of(data) is None


async def test_endpoints_of_a_killed_parent_are_not_believed(data: Path) -> None:
    async with parent_of_servers(data) as (parent, _):
        assert endpoints_of(data) is not None
        parent.kill()
        await parent.wait()
        assert endpoints_of(data) is None


async def test_a_long_path_is_no_obstacle(data: Path) -> None:
    async with EmbeddedServers(data / ("long" * 30) / "with 'quotes\" and spaces") as endpoints:
        await write(endpoints)


async def test_stopping_twice_or_before_the_start_is_harmless(data: Path) -> None:
    for server in (EmbeddedPostgres(data), EmbeddedNats(data)):
        await server.stop()
        await server.start()
        await server.stop()
        await server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="the whole suite runs as a user other than root already")
async def test_it_works_as_a_user_other_than_root(data: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home = data.parent / "home"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    # This file's own launcher, because nobody may be unable to enter the directory of Python or of this checkout.
    launch = (sys.executable, "-I", "-S", LAUNCH, os.getpid(), nobody.pw_uid, nobody.pw_gid)
    async with parent_of_servers(home / "data", *map(str, launch)) as (_, told):
        await write(Endpoints(told["database_url"], told["nats_url"], told["socket_url"]))
        assert await read(Endpoints(told["database_url"], told["nats_url"], told["socket_url"])) == (42, b"42")
        for path in ("postgres", "nats", "postgres.password"):
            assert (home / "data" / path).stat().st_uid == nobody.pw_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can close a directory to PostgreSQL's user")
async def test_root_may_keep_its_data_where_nobody_else_may_enter(data: Path) -> None:
    closed = data.parent / "closed"
    closed.mkdir(mode=0o700)
    async with EmbeddedServers(closed / "data") as endpoints:
        await write(endpoints)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
