"""The database that a command beside the service works on: that of the settings, or the one that `up` keeps in a directory.

The database of `up` is used where it runs; when nothing runs on the directory, its server runs for as long as the
command does. So a command works beside a running service and without one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from service.app import explained
from service.embedded import EmbeddedPostgres, endpoints_of
from service.settings import PREFIX, InvalidSettings, Settings
from service.store.log import Log

DATA = Path(".ledger")
CONNECTIONS = 4


@asynccontextmanager
async def log_at_hand(
    settings: Settings, data: Path | None, *, connections: int = CONNECTIONS
) -> AsyncGenerator[tuple[Log, Settings]]:
    """Lend the log, with the settings that name its database.

    `data` is the directory of a `credit-ledger up`; without it LEDGER_DATABASE_URL is used, or else `.ledger` when it is
    there. Raises InvalidSettings, StartError and EmbeddedServerError.
    """
    async with AsyncExitStack() as stack:
        if data is not None or settings.database_url is None:
            url = await _embedded(stack, data or DATA)
            settings = settings.model_copy(update={"database_url": SecretStr(url)})
        assert settings.database_url is not None  # noqa: S101 - one of the two was there
        with explained(settings):
            log = await Log.connect(settings.database_url.get_secret_value(), connections=connections)
        stack.push_async_callback(log.close)
        with explained(settings):
            yield log, settings


async def _embedded(stack: AsyncExitStack, data: Path) -> str:
    """Return the URL of the embedded database in a directory, which is started when it does not run."""
    endpoints = endpoints_of(data)
    if endpoints is not None:
        return endpoints.socket_url
    if not (data / "postgres").is_dir():
        raise InvalidSettings(
            f"there is no database: set {PREFIX}DATABASE_URL to a postgresql:// URL, or name the directory of a "
            "`credit-ledger up` with --data"
        )
    server = EmbeddedPostgres(data)
    stack.push_async_callback(server.stop)
    await server.start()
    return server.socket_url
