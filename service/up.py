"""Everything on this machine by one command: the embedded servers, their ledger, and a word of welcome.

The order is that of `app.running`, with the servers around it: they start first, are migrated, and stop last. A second
ledger may run at the same time in another directory; when nobody chose a port and 8080 is taken, it serves on one of
the next. A port that somebody chose is never exchanged for another one.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console

from service.app import running
from service.checkpoints.command import NAME_DEFAULT
from service.checkpoints.keys import SigningKey, write_key
from service.correctable import StartError
from service.database import CHECKPOINTS, SIGNING_KEY, prepare
from service.embedded import EmbeddedServers
from service.settings import UpSettings, load
from service.welcome import play, welcome

OTHER_PORTS = (*range(8081, 8090), 0)
NATS_SECONDS_MAX = 10.0
_LOOPBACK = {"database_url": "postgresql://127.0.0.1", "nats_url": "nats://127.0.0.1"}

_log = logging.getLogger(__name__)


def settings_of(*, port: int | None, catalog: Path | None) -> UpSettings:
    """Return the settings of `up`, whose servers are its own whatever else is set; raises InvalidSettings."""
    settings = load(UpSettings, {"http_port": port, "catalog": catalog, **_LOOPBACK})
    return settings.model_copy(update={"nats_creds": None})


async def up(settings: UpSettings, data: Path, *, nats_port: int | None, demo: bool, console: Console) -> None:
    """Run everything until cancelled, or until one of the servers ends.

    Raises:
        EmbeddedServerError, InvalidSettings, StartError: each says what to do next.
    """
    servers = EmbeddedServers(data, nats_port=nats_port)
    async with servers as endpoints:
        own: dict[str, object] = {
            "database_url": SecretStr(endpoints.socket_url),
            "nats_url": SecretStr(endpoints.nats_url),
        }
        if settings.signing_key_file is None:
            own["signing_key_file"] = _signing_key(data)
        if settings.checkpoint_dir is None:
            own["checkpoint_dir"] = data / CHECKPOINTS
        mine = settings.model_copy(update=own)
        await prepare(mine)
        other_ports = () if "http_port" in settings.model_fields_set else OTHER_PORTS
        async with running(mine, other_ports=other_ports) as ledger:
            if ledger.bus is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(NATS_SECONDS_MAX):
                        await ledger.bus.started()
            accounts = await play(ledger.gateway, ledger.catalog) if demo else []
            welcome(console, ledger, data, accounts, endpoints.database_url)
            raise StartError(await servers.ended())


def _signing_key(data: Path) -> Path:
    """Return the file of the key that signs this ledger's checkpoints; a new one the first time."""
    path = data / SIGNING_KEY
    if not path.exists():
        write_key(path, SigningKey.create(NAME_DEFAULT))
    return path
