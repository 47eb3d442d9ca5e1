"""The composition root: what a process is made of, in which order it starts and in which it stops.

    start   database pool -> catalog in force -> ledger -> gateway -> NATS begins to connect -> HTTP listens, last, so that who is let in is served
    stop    HTTP and NATS take nothing new and finish what they took -> projector, sweeper -> writers drain -> pool closes

The database must be there at the start, or the process ends with a sentence that says so. NATS need not be: HTTP serves
without it, and NATS joins when it is there. `running` is both halves as one context manager; whatever fails in between,
what had started is stopped. SIGTERM and Ctrl-C cancel the one main task (`run`), so they end the process in the same
order at any moment, half started too; a second Ctrl-C ends it at once.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import orjson
import uvloop

from events.catalog import Catalog
from service.bus import Bus
from service.gateway import Gateway
from service.http.server import HttpServer
from service.in_force import CatalogRefused, Follower, InForce, in_force, settle
from service.ledger import Ledger
from service.outages import Outage
from service.projector import Projector
from service.reads import Reads
from service.settings import PREFIX, Settings, database_url, masked, read_access, read_catalog
from service.store.catalogs import StoredCatalogs
from service.store.feed import Feed
from service.store.log import Log
from service.store.migrate import MigrationError, migrate
from service.sweeper import Sweeper
from service.telemetry.health import Health
from service.telemetry.metrics import Metrics

VERSION = version("credit-ledger")
DRAIN_SECONDS_MAX = 5.0
READER_CONNECTIONS = 3
"""Connections of those who read the log behind the callers, so that no append waits for one."""
EXIT_FORCED = 130
GC_THRESHOLDS = (50_000, 20, 100)

# What PostgreSQL says when it can be reached and cannot be used, by SQLSTATE, and what to do about it.
_ADVICE = {
    "28P01": "the database refuses the password in {setting}",
    "28000": "the database refuses the user in {setting}",
    "3D000": "there is no such database; create it, then run `credit-ledger migrate`",
    "22023": "the database has no ledger yet; run `credit-ledger migrate`",
    "3F000": "the database has no ledger yet; run `credit-ledger migrate`",
    "42P01": "the database has no ledger of this release; run `credit-ledger migrate`",
    "42883": "the database has no ledger of this release; run `credit-ledger migrate`",
    "42501": "the user in {setting} lacks the rights; run `credit-ledger migrate` as the database's owner",
}

_log = logging.getLogger(__name__)


class StartError(Exception):
    """The process cannot start, or cannot go on; the message says why and what to do next."""


@dataclass(frozen=True, slots=True)
class Running:
    """A ledger that serves, for those who say where and those who use it from inside."""

    settings: Settings
    catalog: Catalog
    gateway: Gateway
    http: HttpServer
    bus: Bus | None

    @property
    def url(self) -> str:
        """Where HTTP answers."""
        host = self.settings.http_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.http.port}"


@asynccontextmanager
async def running(settings: Settings, *, other_ports: Sequence[int] = ()) -> AsyncGenerator[Running]:
    """Start everything, lend it, and stop it in the opposite order.

    `other_ports` are tried when the port of the settings is taken. Raises InvalidSettings and StartError.
    """
    access = read_access(settings)
    if settings.catalog is not None:
        read_catalog(settings)  # what is wrong with it is told before the database is asked
    async with AsyncExitStack() as stack:
        with explained(settings):
            log = await Log.connect(database_url(settings))
            stack.push_async_callback(log.close)
            _, partitions = await log.identity()
            if partitions != settings.partitions:
                raise StartError(
                    f"this ledger was created with {partitions} partitions, which never changes; "
                    f"set {PREFIX}PARTITIONS={partitions}"
                )
            stored = StoredCatalogs(log)
            activation, catalog, history = await _catalog_of(settings, stored)
            ledger = await Ledger.open(log, catalog, history)
            readers = await Log.connect(database_url(settings), connections=READER_CONNECTIONS)
            stack.push_async_callback(readers.close)
        stack.push_async_callback(_drain, ledger)
        follower = Follower(ledger, stored, activation.number)
        sweeper = Sweeper(ledger)
        projector = Projector(readers)
        log.on_written.append(projector.wake)
        follower.start()
        sweeper.start()
        projector.start()
        stack.push_async_callback(follower.stop)
        stack.push_async_callback(sweeper.stop)
        stack.push_async_callback(projector.stop)
        gateway, feed = Gateway(ledger, Reads(ledger)), Feed(log, ledger.partitions)

        def server(port: int) -> HttpServer:
            metrics = Metrics()
            sweeper.measure(metrics)
            projector.measure(metrics)
            return HttpServer(
                gateway=gateway,
                feed=feed,
                access=access,
                health=Health({"database": log.identity}),
                metrics=metrics,
                host=settings.http_host,
                port=port,
                operations_port=settings.operations_port,
            )

        bus = None
        if settings.nats_url is not None:
            bus = Bus(
                gateway=gateway,
                access=access,
                url=settings.nats_url.get_secret_value(),
                credentials=settings.nats_creds,
                prefix=settings.subject_prefix,
                version=VERSION,
            )
        http = await _listen(server, (settings.http_port, *other_ports), settings.http_host)
        stack.push_async_callback(_stop_intake, http, bus)
        if bus is not None:
            bus.start()
        tune_collector()
        yield Running(settings, catalog, gateway, http, bus)


async def _catalog_of(settings: Settings, stored: StoredCatalogs) -> InForce:
    """Return the catalog to begin with: that of the settings when it is new, else the one in force."""
    try:
        if settings.catalog is not None:
            return await settle(stored, settings.catalog)
        return await in_force(stored)
    except CatalogRefused as refused:
        raise StartError(str(refused)) from None


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
    except (Outage, OSError, TimeoutError) as error:
        raise StartError(
            f"the database cannot be reached at {masked(database_url(settings))}: start it, or correct "
            f"{PREFIX}DATABASE_URL ({error.__cause__ or error})"
        ) from None
    except Exception as error:
        # asyncpg's errors have a class each and PostgreSQL's code; only the store may know the classes.
        advice = _ADVICE.get(str(getattr(error, "sqlstate", "")))
        if advice is None:
            raise
        raise StartError(f"{advice.format(setting=f'{PREFIX}DATABASE_URL')} ({error})") from None


async def _listen(server: Callable[[int], HttpServer], ports: Sequence[int], host: str) -> HttpServer:
    """Return a server that listens at the first of the ports that is free."""
    for port in ports:
        http = server(port)
        try:
            await http.start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StartError(f"cannot listen on {host} port {port}: {error.strerror}") from None
            _log.warning("port %d is taken", port)
        else:
            return http
    raise StartError(
        f"port {ports[0]} of {host} is taken: stop what listens there, or choose another one with --port N or "
        f"{PREFIX}HTTP_PORT=N; 0 takes one that is free"
    )


async def _stop_intake(http: HttpServer, bus: Bus | None) -> None:
    _log.info("stopping: nothing new is taken, what was taken is finished")
    await asyncio.gather(http.stop(), *([] if bus is None else [bus.stop()]))


async def _drain(ledger: Ledger) -> None:
    try:
        async with asyncio.timeout(DRAIN_SECONDS_MAX):
            await ledger.drain()
    except TimeoutError:
        _log.warning("some commands were still without an outcome; their callers can look it up by their keys")


def tune_collector() -> None:
    """Let the garbage collector look at what may be garbage only.

    What was built so far lives as long as the process, so it is frozen: no collection walks it again. A command makes
    thousands of short-lived objects that reference counting frees by itself; at the default threshold of 700 the
    collector runs several times for each batch and finds nothing, and each full one walks the whole state cache.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run to the end, or until SIGTERM or Ctrl-C, and return when all is stopped; a second Ctrl-C ends the process."""

    async def until_told() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs is in a task
        is_told = False

        def tell(number: signal.Signals) -> None:
            nonlocal is_told
            if is_told and number is signal.SIGINT:
                os._exit(EXIT_FORCED)
            if not is_told:
                is_told = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, tell, number)
        try:
            await main()
        except asyncio.CancelledError:
            if not is_told:
                raise

    uvloop.run(until_told())


def set_up_logging() -> None:
    """Log to standard error: lines for a person when it is a terminal, JSON otherwise; never what a request holds."""
    handler = logging.StreamHandler()
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        seconds, _, fraction = f"{record.created:.6f}".partition(".")
        line: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(int(seconds)))}.{fraction}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()
