"""`credit-ledger republish`: events again, for consumers that lost them or a stream from which some were deleted.

The command takes the lease from whoever publishes, sends what the log has of the partition behind the position, up to
its end, and gives the lease up. Then the service goes on: it asks the stream where it stands. If the command is stopped
in the middle, the service sends the rest, because the stream's last event of the partition is then an older one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import click

from service.bus.connection import Connection
from service.bus.event_stream import EventStream, StreamMoved
from service.bus.jetstream import StreamAway
from service.cloud_events import source_of
from service.console import complete, told
from service.correctable import StartError
from service.database import DATA, log_at_hand
from service.embedded import endpoints_of
from service.ids import new_id
from service.leading import Lead
from service.outages import Outage
from service.publisher import HistoryRolledBack, Publisher
from service.settings import PREFIX, InvalidSettings, Settings, load
from service.store.log import Log
from service.store.publishing import Outbox

ATTEMPTS_MAX = 5
CONNECT_SECONDS_MAX = 10.0
LEASE_SECONDS = 60.0


@click.command("republish", short_help="Publish events again.")
@click.option("--partition", type=click.IntRange(0, 1023), required=True, help="Whose events.")
@click.option("--after", type=click.IntRange(0), required=True, help="The position behind which to begin; 0 for all.")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path),
    help="The directory of a `credit-ledger up`.  [default: LEDGER_DATABASE_URL and LEDGER_NATS_URL, or .ledger]",
)  # fmt: skip
def republish_command(partition: int, after: int, data: Path | None) -> None:
    """Publish again what the log has of a partition behind a position, to the end of it.

    Consumers see these events a second time, in order; they know them by partition and position. The service may run
    meanwhile: it publishes nothing for that moment, and goes on by itself.

    \b
    credit-ledger republish --partition 3 --after 1200
    credit-ledger republish --partition 3 --after 0 --data .ledger
    """  # noqa: D301 - click takes \b for "leave these lines as they are"

    async def work() -> None:
        async with log_at_hand(settings, data) as (log, _):
            count = await republish(log, _nats_of(settings, data), settings, partition, after)
        click.echo(f"published {count} events of partition {partition} again")

    with told():
        settings = load(Settings)
        complete(work, otherwise="run it again; consumers know what they have seen")


async def republish(log: Log, nats_url: str, settings: Settings, partition: int, after: int) -> int:
    """Publish again what stands behind a position of a partition; returns how many events. Raises StartError."""
    ledger_id, partitions = await log.identity()
    if partition >= partitions:
        raise StartError(f"there is no partition {partition}: the ledger has {partitions}, from 0")
    outbox, stream = Outbox(log), EventStream(settings.subject_prefix)
    publisher = Publisher(
        outbox, stream, prefix=settings.subject_prefix, source=source_of(ledger_id), partitions=partitions
    )
    lead = Lead(outbox, new_id(), seconds=LEASE_SECONDS)
    async with _connected(nats_url, settings, stream):
        try:
            return await _attempts(publisher, lead, partition, after)
        except HistoryRolledBack as error:
            raise StartError(str(error)) from None
        except (StreamAway, StreamMoved, Outage) as error:
            raise StartError(f"not everything was published again; try once more ({error})") from None
        finally:
            await lead.leave()


async def _attempts(publisher: Publisher, lead: Lead, partition: int, after: int) -> int:
    """Try again when another publisher was in the middle of a window, which the stream then refuses."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        await lead.take_by_force()
        try:
            return await publisher.republish(partition, after, _held(lead))
        except StreamMoved:
            if attempt == ATTEMPTS_MAX:
                raise
    raise AssertionError("the last attempt returns or raises")


def _held(lead: Lead) -> Callable[[], bool]:
    return lambda: lead.is_held


@asynccontextmanager
async def _connected(nats_url: str, settings: Settings, stream: EventStream) -> AsyncGenerator[None]:
    connection = Connection(
        nats_url, attach=stream.attach, credentials=settings.nats_creds, name="credit-ledger-republish"
    )
    connection.open()
    try:
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await connection.attached()
        except TimeoutError:
            raise StartError(f"NATS cannot be reached: start it, or correct {PREFIX}NATS_URL") from None
        yield
    finally:
        await connection.close()


def _nats_of(settings: Settings, data: Path | None) -> str:
    """Return the URL of NATS; raises InvalidSettings when none is known."""
    if data is None and settings.nats_url is not None:
        return settings.nats_url.get_secret_value()
    endpoints = endpoints_of(data or DATA)
    if endpoints is None:
        raise InvalidSettings(
            f"NATS is not known: set {PREFIX}NATS_URL, or name the directory of a `credit-ledger up` that runs with --data"
        )
    return endpoints.nats_url
