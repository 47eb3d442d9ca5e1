"""The publisher beside bare JetStream, and how long an event takes from its commit to the stream.

`python -m bench --only publisher`. Three figures of one run on the same servers: bare publishes of the same bodies, in
windows of 128 that are acknowledged, without anything that keeps them in order; the publisher that fills a stream from
the log; and the delay of events while a service takes 2,000 commands a second. The delay is the time that JetStream
stored a message less the event's `recorded_at`, which is taken before the commit: it is never less than what is meant.
"""

import asyncio
import json
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import cast

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.cases import SUBJECT
from bench.jobs import Load, Nats
from bench.processes import until_quiet
from bench.stage import Stage
from events.instants import Instant, moment
from service.benching.pump import BenchError, percentile
from service.benching.requests import account_name
from service.bus.connection import Connection, subscribe
from service.bus.event_stream import EventStream
from service.cloud_events import message_of, source_of
from service.publisher import Publisher
from service.store.log import Log
from service.store.publishing import Lease, Outbox, PublishedLine

WINDOW_MESSAGES = 128
COMMANDS_PER_SECOND = 2_000
TICK_SECONDS = 0.005
TARGET_SHARE = 0.7
TARGET_DELAY_MS = 50.0
SETTLE_SECONDS_MAX = 30.0


async def publisher(*, quick: bool) -> dict[str, float]:
    """The figures; rates are medians of the rounds, which take turns."""
    rounds, events, seconds = (1, 2_000, 0.5) if quick else (5, 15_000, 6.0)
    async with Stage(500) as stage:
        await stage.prepare({"service"}, 0)
        await fill_log(stage, events)
        log = await Log.connect(stage.url("service"), connections=4)
        nats_url = f"nats://127.0.0.1:{stage.nats_port}"
        client = await nats.connect(nats_url)
        try:
            lines = await all_lines(log)
            bare_rates, rates = list[float](), list[float]()
            for number in range(rounds):
                await until_quiet()
                bare_rates.append(await bare(client, lines, f"bare{number}"))
                await until_quiet()
                rates.append(await filling(log, nats_url, len(lines), f"filled{number}"))
                await client.jetstream().delete_stream(f"FILLED{number}_EVENTS")
            await until_quiet()
            answers, delays = await delays_at(client, stage, int(COMMANDS_PER_SECOND * seconds))
        finally:
            await client.close()
            await log.close()
    return {
        "publisher.bare.per_second": round(median(bare_rates), 1),
        "publisher.filling.per_second": round(median(rates), 1),
        "publisher.filling.to.bare": round(median(rates) / median(bare_rates), 3),
        "publisher.filling.to.bare.target": TARGET_SHARE,
        "publisher.delay.events": len(delays),
        "publisher.delay.answers.p99_ms": round(percentile(answers, 0.99), 2),
        "publisher.delay.p50_ms": round(percentile(delays, 0.50), 2),
        "publisher.delay.p99_ms": round(percentile(delays, 0.99), 2),
        "publisher.delay.p99_ms.target": TARGET_DELAY_MS,
    }


async def fill_log(stage: Stage, events: int) -> None:
    """Have the service write events."""
    load = Load(run="publisher-log", accounts=stage.accounts, in_flight=256, seconds=60.0, pairs=events // 2)
    await stage.wire.run(Nats(load, stage.nats_port, SUBJECT, "pairs", 201))


async def all_lines(log: Log) -> list[PublishedLine]:
    """The whole log, by partition and position."""
    outbox = Outbox(log)
    return await outbox.behind(dict.fromkeys(await outbox.heads(), 0), 1_000_000)


async def bare(client: Client, lines: Sequence[PublishedLine], prefix: str) -> float:
    """Publishes a second in windows that wait for all acknowledgements, with the subjects and bodies of the events."""
    await client.jetstream().add_stream(name=prefix.upper(), subjects=[f"{prefix}.events.>"])
    messages = [message_of(line, prefix, "urn:bench") for line in lines]
    inbox = client.new_inbox()
    left, done = 0, asyncio.Event()

    async def take(answer: Msg) -> None:
        nonlocal left
        if b'"seq"' not in answer.data:
            raise BenchError(f"not stored: {answer.data!r}")
        left -= 1
        if not left:
            done.set()

    await subscribe(client, f"{inbox}.*", take)
    began_at = perf_counter()
    for start in range(0, len(messages), WINDOW_MESSAGES):
        window = messages[start : start + WINDOW_MESSAGES]
        left = len(window)
        done.clear()
        for number, message in enumerate(window):
            await client.publish(message.subject, message.body, reply=f"{inbox}.{number}")
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            await done.wait()
    seconds = perf_counter() - began_at
    await client.jetstream().delete_stream(prefix.upper())
    return len(messages) / seconds


async def filling(log: Log, nats_url: str, events: int, prefix: str) -> float:
    """Events a second from the log into a stream that is not there yet, by the publisher as the service runs it."""
    ledger_id, partitions = await log.identity()
    stream = EventStream(prefix)
    connection = Connection(nats_url, attach=stream.attach)
    connection.open()
    await connection.attached()
    await stream.open()
    work = Publisher(Outbox(log), stream, prefix=prefix, source=source_of(ledger_id), partitions=partitions)
    began_at = perf_counter()
    task = asyncio.create_task(work.run(Lease(0, "", ()), lambda: True))
    async with asyncio.timeout(SETTLE_SECONDS_MAX):
        await work.caught_up()
    seconds = perf_counter() - began_at
    task.cancel()
    await asyncio.wait({task})
    await connection.close()
    if work.published != events:
        raise BenchError(f"{work.published} of {events} events were published")
    return events / seconds


async def delays_at(client: Client, stage: Stage, commands: int) -> tuple[list[float], list[float]]:
    """Of commands that are sent at an even pace: the times of their answers, and the delays of their events; ms, sorted."""
    js = client.jetstream()
    first = (await js.stream_info("CREDITS_EVENTS")).state.last_seq + 1
    inbox = client.new_inbox()
    sent_at, answers, done = list[float](), list[float](), asyncio.Event()

    async def take(answer: Msg) -> None:
        if (answer.headers or {}).get("Status") != "201":
            raise BenchError(f"not accepted: {answer.data!r}")
        answers.append((perf_counter() - sent_at[int(answer.subject.rpartition(".")[2])]) * 1e3)
        if len(answers) == commands:
            done.set()

    await subscribe(client, f"{inbox}.*", take)
    began_at, sent = perf_counter(), 0
    while sent < commands:
        due = min(commands, int((perf_counter() - began_at) * COMMANDS_PER_SECOND))
        for number in range(sent, due):
            account = account_name(number % stage.accounts)
            sent_at.append(perf_counter())
            body = f'{{"account":"{account}","amount":1,"idempotency_key":"delay-{number}"}}'
            await client.publish("credits.cmd.bench.consume", body.encode(), reply=f"{inbox}.{number}")
        sent = due
        await asyncio.sleep(TICK_SECONDS)
    async with asyncio.timeout(SETTLE_SECONDS_MAX):
        await done.wait()
        while (last := (await js.stream_info("CREDITS_EVENTS")).state.last_seq) < first + commands - 1:  # noqa: ASYNC110 -- nothing announces it
            await asyncio.sleep(TICK_SECONDS)
    messages = await js.subscribe("credits.events.>", stream="CREDITS_EVENTS", ordered_consumer=True)
    delays: list[float] = []
    for _ in range(last):
        message = await messages.next_msg(timeout=SETTLE_SECONDS_MAX)
        if message.metadata.sequence.stream >= first:
            recorded_at = moment(cast("Instant", json.loads(message.data)["time"]))
            delays.append((message.metadata.timestamp - recorded_at).total_seconds() * 1e3)
    return sorted(answers), sorted(delays)
