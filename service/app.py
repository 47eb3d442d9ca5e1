"""The composition root: what a process is made of, in which order it starts and in which it stops.

    start   database pool -> catalog in force -> ledger -> gateway -> NATS begins to connect -> HTTP listens, last, so that who is let in is served
    stop    HTTP and NATS take nothing new and finish what they took -> alerts, projector, sweeper -> writers drain -> the last events are published -> pool closes

The database must be there at the start, or the process ends with a sentence that says so. NATS need not be: HTTP serves
without it, and NATS joins when it is there. `running` is both halves as one context manager; whatever fails in between,
what had started is stopped. SIGTERM and Ctrl-C cancel the one main task (`run`), so they end the process in the same
order at any moment, half started too; a second Ctrl-C ends it at once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

from events.catalog import Catalog
from service.access import Access
from service.alert_publisher import AlertPublisher
from service.alerting import Alerting
from service.auditor import Auditor
from service.bus import Bus
from service.bus.durable import DurableBus
from service.checkpoint_publisher import CheckpointPublisher
from service.checkpoints.checkpointer import Checkpointer
from service.checkpoints.keys import SigningKey
from service.checkpoints.note import InvalidNote
from service.checkpoints.proofs import Proofs
from service.checkpoints.statements import SignedStatements
from service.cloud_events import source_of
from service.correctable import StartError
from service.database import explained
from service.delivery import Delivery
from service.gateway import Gateway
from service.http.server import HttpServer
from service.ids import new_id
from service.in_force import CatalogRefused, Follower, InForce, in_force, settle
from service.leading import Lead
from service.ledger import Ledger
from service.process import tune_collector
from service.projector import Projector
from service.publisher import Publisher
from service.reads import Reads
from service.settings import (
    PREFIX,
    Settings,
    database_url,
    read_access,
    read_catalog,
    read_receivers,
    read_signing_keys,
)
from service.store.catalogs import StoredCatalogs
from service.store.checkpoints import StoredCheckpoints
from service.store.feed import Feed
from service.store.log import Log
from service.store.migrate import compare
from service.store.outgoing import Outgoing
from service.store.publishing import Outbox
from service.sweeper import Sweeper
from service.telemetry.health import Alarm, Check, Health
from service.telemetry.metrics import Metrics

VERSION = version("credit-ledger")
DRAIN_SECONDS_MAX = 5.0
READER_CONNECTIONS = 4
"""Connections of those who read the log behind the callers, so that no append waits for one."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """A ledger that serves, for those who say where and those who use it from inside."""

    settings: Settings
    catalog: Catalog
    gateway: Gateway
    http: HttpServer
    bus: Bus | None
    delivery: Delivery | None

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
    access, keys, receivers = read_access(settings), read_signing_keys(settings), read_receivers(settings)
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
            await _refuse_older(log)
            stored = StoredCatalogs(log)
            activation, catalog, history = await _catalog_of(settings, stored)
            ledger = await Ledger.open(log, catalog, history)
            readers = await Log.connect(database_url(settings), connections=READER_CONNECTIONS)
            stack.push_async_callback(readers.close)
        proofs = Proofs(log, ledger.id, ledger.partitions, [key.public for key in keys]) if keys else None
        signed = None if proofs is None else SignedStatements(proofs, keys)
        reads, feed = Reads(ledger, signed), Feed(log, ledger.partitions)
        gateway = Gateway(ledger, reads)
        delivery = _delivery(settings, ledger, gateway, access)
        if delivery is not None:
            stack.push_async_callback(delivery.stop)
            reads.outcomes.submitted, reads.outcomes.refused = delivery.submitted, delivery.refused
        stack.push_async_callback(_drain, ledger)
        alarms: dict[str, Alarm] = {"commands": log.alarm}
        checkpointer = await _checkpointer(settings, ledger, feed, keys)
        if checkpointer is not None:
            checkpointer.start()
            stack.push_async_callback(checkpointer.stop)
            alarms["history"] = checkpointer.alarm
        auditor = Auditor(log, ledger.partitions)
        auditor.start()
        stack.push_async_callback(auditor.stop)
        alarms["audit"] = auditor.alarm
        follower = Follower(ledger, stored, activation.number)
        sweeper = Sweeper(ledger)
        projector = Projector(readers)
        ledger.followers.append(lambda _partition, _position: projector.wake())
        alerting = Alerting(ledger, readers, receivers)
        for worker in (follower, sweeper, *_inside(settings, projector), alerting):
            worker.start()
            stack.push_async_callback(worker.stop)
        checks: dict[str, Check] = {"database": ledger.check}
        if delivery is not None:
            checks["events"] = delivery.publisher.check
            alarms["checkpoints"] = lambda: delivery.checkpoints.alarm if delivery.checkpoints else None

        def server(port: int) -> HttpServer:
            metrics = _metrics(sweeper, gateway, delivery, auditor, checkpointer, projector, alerting)
            return HttpServer(
                gateway=gateway,
                feed=feed,
                access=access,
                health=Health(checks, alarms),
                metrics=metrics,
                host=settings.http_host,
                port=port,
                operations_port=settings.operations_port,
                proofs=proofs,
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
        stack.push_async_callback(_stop_intake, http, bus, delivery)
        if bus is not None:
            bus.start()
        if delivery is not None:
            delivery.start()
        tune_collector()
        yield Running(settings, catalog, gateway, http, bus, delivery)


async def _refuse_older(log: Log) -> None:
    """Raise StartError for a database that lacks something of this release; one of a newer release is served."""
    missing, unknown = await compare(log)
    if missing:
        raise StartError(f"the database is behind this release ({', '.join(missing)}): run `credit-ledger migrate`")
    if unknown:
        _log.warning("the database is ahead of this release (%s): upgrade when you can", ", ".join(unknown))


class _Measured(Protocol):
    """What has figures of its own."""

    def measure(self, metrics: Metrics) -> None: ...


def _metrics(*measured: _Measured | None) -> Metrics:
    """Return the metrics of all there is."""
    metrics = Metrics()
    for each in measured:
        if each is not None:
            each.measure(metrics)
    return metrics


def _inside(settings: Settings, projector: Projector) -> Sequence[Projector]:
    """Return the projector where it works in this process."""
    return [projector] if settings.projector == "inside" else []


def _delivery(settings: Settings, ledger: Ledger, gateway: Gateway, access: Access) -> Delivery | None:
    """Return what publishes the log and takes durable commands; None without NATS."""
    if settings.nats_url is None:
        return None
    bus = DurableBus(
        gateway=gateway,
        access=access,
        healthy=ledger.log.writable,
        url=settings.nats_url.get_secret_value(),
        credentials=settings.nats_creds,
        prefix=settings.subject_prefix,
    )
    outbox = Outbox(ledger.log)
    publisher = Publisher(
        outbox,
        bus.events,
        prefix=settings.subject_prefix,
        source=source_of(ledger.id),
        partitions=ledger.partitions,
    )
    ledger.followers.append(publisher.note)
    alerts = AlertPublisher(
        Outgoing(ledger.log), bus.alerts, prefix=settings.subject_prefix, source=source_of(ledger.id)
    )
    checkpoints = CheckpointPublisher(StoredCheckpoints(ledger.log), bus.checkpoints)
    return Delivery(Lead(outbox, new_id()), bus, publisher, alerts, checkpoints)


async def _checkpointer(
    settings: Settings, ledger: Ledger, feed: Feed, keys: Sequence[SigningKey]
) -> Checkpointer | None:
    """Return what signs checkpoints, after it compared the log with the last one; None without a key."""
    if not keys:
        return None
    checkpointer = Checkpointer(
        ledger_id=ledger.id,
        partitions=ledger.partitions,
        feed=feed,
        stored=StoredCheckpoints(ledger.log),
        keys=keys,
        clock=ledger.clock,
        hold_back=ledger.hold_back,
        directory=settings.checkpoint_dir,
    )
    try:
        with explained(settings):
            await checkpointer.begin()
    except InvalidNote as error:
        raise StartError(f"the last checkpoint cannot be read: {error}") from None
    return checkpointer


async def _catalog_of(settings: Settings, stored: StoredCatalogs) -> InForce:
    """Return the catalog to begin with: that of the settings when it is new, else the one in force."""
    try:
        if settings.catalog is not None:
            return await settle(stored, settings.catalog)
        return await in_force(stored)
    except CatalogRefused as refused:
        raise StartError(str(refused)) from None


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


async def _stop_intake(http: HttpServer, bus: Bus | None, delivery: Delivery | None) -> None:
    _log.info("stopping: nothing new is taken, what was taken is finished")
    if delivery is not None:
        await delivery.stop_intake()
    await asyncio.gather(http.stop(), *([] if bus is None else [bus.stop()]))


async def _drain(ledger: Ledger) -> None:
    try:
        async with asyncio.timeout(DRAIN_SECONDS_MAX):
            await ledger.drain()
    except TimeoutError:
        _log.warning("some commands were still without an outcome; their callers can look it up by their keys")
