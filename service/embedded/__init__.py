"""PostgreSQL and NATS without installing them: the servers that `credit-ledger up` and the tests run on.

Both come as Python packages with binaries. Their data is one directory:

    <data>/postgres             the cluster, made by initdb at the first start
    <data>/postgres.password    the superuser's password, made then too, readable to its owner only
    <data>/nats                 JetStream's store and the server's configuration
    <data>/log, <data>/lock     the servers' output; who runs them (`child.py`)
    <data>/endpoints.json       the servers' addresses while they run, for other commands on the same data

The data is as safe as on servers that were installed: every commit and every acknowledged message is on the disk
(`fsync`, `sync_interval: always`), checksums are on, and after `kill -9` of anything the next start finds a sound
state. Both listen on 127.0.0.1 only, at a given port or at one that is free. PostgreSQL asks for its password; NATS is
open to the users of this machine, like the HTTP interface of `up`.

Start reading here; then `postgres.py` and `nats.py` (what is particular to each), `child.py` (what holds for any
server: one owner, nothing left behind) and `launch.py` (how a server gets its user and ends with its parent).
"""

import asyncio
import dataclasses
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from service.embedded.child import EmbeddedServerError, write_private
from service.embedded.nats import EmbeddedNats
from service.embedded.postgres import EmbeddedPostgres

__all__ = [
    "EmbeddedNats",
    "EmbeddedPostgres",
    "EmbeddedServerError",
    "EmbeddedServers",
    "Endpoints",
    "endpoints_of",
]

WATCH_SECONDS = 0.5


@dataclass(frozen=True)
class Endpoints:
    """Where the two servers answer, as URLs; those of the database hold a password.

    `socket_url` is the same database by the fastest way that this machine has.
    """

    database_url: str
    nats_url: str
    socket_url: str


def endpoints_of(data: Path) -> Endpoints | None:
    """The endpoints of the servers that another process runs on this data directory, or None when none runs."""
    try:
        endpoints = Endpoints(**json.loads((data / "endpoints.json").read_bytes()))
    except FileNotFoundError:
        return None
    return endpoints if EmbeddedPostgres(data).is_owned() else None


class EmbeddedServers:
    """Both servers on one data directory: `async with EmbeddedServers(data) as endpoints`.

    Ports are of 127.0.0.1; None or 0 means one that is free.
    """

    def __init__(self, data: Path, *, postgres_port: int | None = None, nats_port: int | None = None) -> None:
        self.postgres = EmbeddedPostgres(data, postgres_port)
        self.nats = EmbeddedNats(data, nats_port)
        self._note = data.absolute() / "endpoints.json"

    async def start(self) -> Endpoints:
        """Starts both at once; when one of them does not start, neither is left running.

        Raises:
            EmbeddedServerError: says what to do next.
        """
        try:
            # Both are waited for even when one fails, so that what is stopped then is not still starting.
            database_url, nats_url = await asyncio.gather(
                self.postgres.start(), self.nats.start(), return_exceptions=True
            )
            for outcome in (database_url, nats_url):
                if isinstance(outcome, BaseException):
                    raise outcome
            endpoints = Endpoints(str(database_url), str(nats_url), self.postgres.socket_url)
            write_private(self._note, json.dumps(dataclasses.asdict(endpoints)))
        except BaseException:
            await self.stop()
            raise
        return endpoints

    async def stop(self) -> None:
        """Stops both cleanly; without effect on what does not run. Stop what uses them first."""
        if self.postgres.pid is not None:
            with suppress(FileNotFoundError):
                self._note.unlink()
        await asyncio.gather(self.postgres.stop(), self.nats.stop())

    async def ended(self) -> str:
        """Waits until one of the servers ends without having been asked to; which one, and how."""
        while True:
            for name, server in (("PostgreSQL", self.postgres), ("NATS", self.nats)):
                if server.exit_code is not None:
                    return f"{name} ended with exit code {server.exit_code}; its log is {server.log}"
            await asyncio.sleep(WATCH_SECONDS)

    async def __aenter__(self) -> Endpoints:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
