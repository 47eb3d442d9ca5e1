"""The database that a command beside the service works on: that of the settings, or the one that `up` keeps in a directory.

The database of `up` is used where it runs; when nothing runs on the directory, its server runs for as long as the
command does. So a command works beside a running service and without one. What keeps a database from being used is
told in words that say what to do.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from pydantic import SecretStr

from service.correctable import StartError
from service.embedded import EmbeddedPostgres, endpoints_of
from service.outages import Outage
from service.settings import PREFIX, InvalidSettings, Settings, database_url, masked
from service.store.log import Log
from service.store.migrate import MigrationError, migrate

DATA = Path(".ledger")
SIGNING_KEY = "signing.key"
"""The key of `up`, in its directory."""
CHECKPOINTS = "checkpoints"
"""Where `up` adds its checkpoints, in its directory."""
CONNECTIONS = 4

# What PostgreSQL says when it can be reached and cannot be used, by SQLSTATE, and what to do about it.
_ADVICE = {
    "28P01": "the database refuses the password in {setting}",
    "28000": "the database refuses the user in {setting}",
    "3D000": "there is no such database; create it, then run `credit-ledger migrate`",
    "22023": "the database has no ledger yet; run `credit-ledger migrate`",
    "3F000": "the database has no ledger yet; run `credit-ledger migrate`",
    "42P01": "the database has no ledger of this release; run `credit-ledger migrate`",
    "42883": "the database has no ledger of this release; run `credit-ledger migrate`",
    "42501": "the user in {setting} lacks the rights: after `credit-ledger migrate`, which the database's owner runs, `serve` "
    "needs `grant credit_ledger_app to` that user",
}


@asynccontextmanager
async def log_at_hand(
    settings: Settings, data: Path | None, *, connections: int = CONNECTIONS
) -> AsyncGenerator[tuple[Log, Settings]]:
    """Lend the log, with the settings that name its database.

    `data` is the directory of a `credit-ledger up`; without it LEDGER_DATABASE_URL is used, or else `.ledger` when it is
    there, with its key for signing and its checkpoints unless others are set. Raises InvalidSettings, StartError and
    EmbeddedServerError.
    """
    async with AsyncExitStack() as stack:
        if data is not None or settings.database_url is None:
            data = data or DATA
            url = await _embedded(stack, data)
            own: dict[str, object] = {"database_url": SecretStr(url)}
            if settings.signing_key_file is None and (data / SIGNING_KEY).is_file():
                own["signing_key_file"] = data / SIGNING_KEY
            if settings.checkpoint_dir is None:
                own["checkpoint_dir"] = data / CHECKPOINTS
            settings = settings.model_copy(update=own)
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


async def prepare(settings: Settings) -> list[str]:
    """Migrate the database and return what was applied; raises InvalidSettings and StartError."""
    with explained(settings):
        try:
            return await migrate(database_url(settings), settings.partitions)
        except MigrationError as error:
            raise StartError(str(error)) from None


@contextmanager
def explained(settings: Settings) -> Generator[None]:
    """Turn what keeps the database from being used into StartErrors that say what to do."""
    try:
        yield
    except LookupError as error:
        raise StartError(str(error.args[0])) from None
    except Exception as error:
        # asyncpg's errors have a class each and PostgreSQL's code; only the store may know the classes.
        told = error.__cause__ if isinstance(error, Outage) and error.__cause__ is not None else error
        advice = _ADVICE.get(str(getattr(told, "sqlstate", "")))
        if advice is not None:
            raise StartError(f"{advice.format(setting=f'{PREFIX}DATABASE_URL')} ({told})") from None
        if not isinstance(error, Outage | OSError | TimeoutError):
            raise
        raise StartError(
            f"the database cannot be reached at {masked(database_url(settings))}: start it, or correct "
            f"{PREFIX}DATABASE_URL ({told})"
        ) from None
