"""A ledger that publishes and takes durable commands, and a look at what stands in its streams."""

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from nats.js.client import JetStreamContext

from events.catalog import parse_catalog
from events.recorded import Actor
from service.access import Access
from service.alert_publisher import AlertPublisher
from service.bus.connection import LastingClient
from service.bus.durable import DurableBus
from service.cloud_events import source_of
from service.delivery import Delivery
from service.gateway import Gateway
from service.ids import new_id
from service.leading import Lead
from service.ledger import Ledger
from service.publisher import Publisher
from service.reads import Reads
from service.settings import CATALOGS
from service.store.log import Log
from service.store.outgoing import Outgoing
from service.store.publishing import Outbox
from tests.servers import eventually

CATALOG = parse_catalog((CATALOGS / "content_platform.toml").read_text(encoding="utf-8"))
TESTER = Actor(id="tester", via="test")
_prefixes = itertools.count(1)
_keys = itertools.count(1)


def new_prefix() -> str:
    """Subjects, and so streams, that no other test has."""
    return f"stream-test-{next(_prefixes)}"


@dataclass(frozen=True)
class Stored:
    """A message of a stream."""

    sequence: int
    subject: str
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Stage:
    """A ledger with its delivery, and a client of the server beside it."""

    log: Log
    ledger: Ledger
    gateway: Gateway
    delivery: Delivery
    bus: DurableBus
    client: LastingClient
    prefix: str

    @property
    def js(self) -> JetStreamContext:
        return self.client.jetstream()

    def stream(self, what: str) -> str:
        """The name of a stream."""
        return f"{self.prefix.upper()}_{what}"

    async def open(self, account: str) -> None:
        """Give an account 7,000 credits."""
        body = json.dumps({"account": account, "plan": "agency"}).encode()
        assert (await self.gateway.command("change_plan", body, actor=TESTER, key="open")).status < 300

    async def spend(self, account: str, amount: int = 1) -> None:
        """Write at least one event."""
        body = json.dumps({"account": account, "amount": amount}).encode()
        reply = await self.gateway.command("consume", body, actor=TESTER, key=f"key-{next(_keys)}")
        assert reply.status == 201, reply.body

    async def stored(self, what: str) -> list[Stored]:
        """All messages of a stream, as it is now."""
        name, found = self.stream(what), list[Stored]()
        state = (await self.js.stream_info(name)).state
        for sequence in range(state.first_seq, state.last_seq + 1):
            message = await self.js.get_msg(name, sequence)
            found.append(Stored(sequence, message.subject or "", message.headers or {}, message.data or b""))
        return found

    async def is_published(self) -> bool:
        """Whether the stream has as many events as the log, and each partition's last one."""
        heads = await Outbox(self.log).heads()
        return self.delivery.publisher.positions == [heads[partition] for partition in range(self.ledger.partitions)]

    async def published(self) -> None:
        """Wait until everything is published."""
        await eventually(self.is_published, "everything is published")

    async def stream_is_the_log(self) -> None:
        """Each partition's events stand in the stream in log order, none missing, none twice, bytes as stored."""
        await self.published()
        lines: defaultdict[int, list[str]] = defaultdict(list)
        for message in await self.stored("EVENTS"):
            event = message.json
            data = event["data"]
            digest = data.pop("hash")
            line = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            assert sha256(line).hexdigest() == digest
            assert event["id"] == data["id"]
            assert message.subject == (
                f"{self.prefix}.events.{data['partition']}.{data['type']}.{data['kind']}.{data['account']}"
            )
            lines[data["partition"]].append(digest)
        for partition in range(self.ledger.partitions):
            rows = await self.log.lines_from(partition, 1, 100_000)
            assert lines[partition] == [row.hash for row in rows], f"partition {partition}"


@asynccontextmanager
async def delivering(
    database_url: str,
    nats_url: str,
    prefix: str,
    *,
    access: Access | None = None,
    gateway: Gateway | None = None,
    start: bool = True,
) -> AsyncGenerator[Stage]:
    """A ledger on this database that delivers to this server."""
    log = await Log.connect(database_url, connections=4)
    ledger = await Ledger.open(log, CATALOG)
    reads = Reads(ledger)
    gateway = gateway or Gateway(ledger, reads)
    bus = DurableBus(gateway=gateway, access=access or Access.open(), healthy=log.writable, url=nats_url, prefix=prefix)
    outbox = Outbox(log)
    publisher = Publisher(outbox, bus.events, prefix=prefix, source=source_of(ledger.id), partitions=ledger.partitions)
    ledger.followers.append(publisher.note)
    alerts = AlertPublisher(Outgoing(log), bus.alerts, prefix=prefix, source=source_of(ledger.id), poll_seconds=0.02)
    delivery = Delivery(Lead(outbox, new_id()), bus, publisher, alerts)
    reads.outcomes.submitted, reads.outcomes.refused = delivery.submitted, delivery.refused
    client = LastingClient()
    await client.connect(nats_url, reconnect_time_wait=0, max_reconnect_attempts=-1, error_cb=_ignore)
    if start:
        delivery.start()
    try:
        yield Stage(log, ledger, gateway, delivery, bus, client, prefix)
    finally:
        await delivery.stop_intake()
        await ledger.drain()
        await delivery.stop()
        await client.close()
        await log.close()


async def spread(stage: Stage, accounts: int, each: int = 1) -> None:
    """Events in many partitions, the accounts side by side."""

    async def one(account: str) -> None:
        await stage.open(account)
        for _ in range(each):
            await stage.spend(account)

    await asyncio.gather(*(one(f"a{number}") for number in range(accounts)))


async def _ignore(_error: Exception) -> None:
    """Leave errors of the test's connection to the assertions."""
