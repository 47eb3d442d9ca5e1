"""All that is measured in rounds: name, load, and the job that makes one round of it.

A case's name is what it is, where its accounts are (`uniform` over all of them or one `hot` account) and how many
requests are in flight: `nats.hot.512`. `beside` names the baselines whose figures its own is divided by.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import slow_disk
from bench.jobs import Copy, Http, InProcess, Job, Load, Nats, Sql, Sync
from bench.stage import Stage
from service.benching.requests import Shape

COPY_ROWS = 50_000
COPY_ROWS_QUICK = 2_000
SYNC_WRITES = 100
ACCEPTED = 200
CREATED = 201
IN_FLIGHT = (64, 512)
CONNECTIONS = 64
CLIENTS = (8, 32)
BATCHES = {100: 8, 1000: 4}
"""How many commands a batch has, and how many batches are in flight."""
PLACES = ("uniform", "hot")
SUBJECT = ("credits.cmd.dev", "credits.query.dev")
"""The caller is the one of HTTP: the ledger must not take the cases for callers that crowd each other out."""
SUBJECT_EMPTY = ("bench.empty", "bench.empty")

MakeJob = Callable[[Stage, Load, int], Job]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of the table.

    `batch` is how many commands a request has. `half_of` names the case at half of whose rate requests arrive here,
    answered or not. `log` names the database whose log must grow by what was acknowledged.
    """

    name: str
    what: str
    needs: str
    make: MakeJob
    in_flight: int = 0
    hot: bool = False
    batch: int = 0
    half_of: str | None = None
    beside: tuple[str, ...] = ()
    log: str | None = None


def all_cases(*, quick: bool) -> list[Case]:
    """Every case that this machine can run, baselines first."""
    slow = [] if slow_disk.why_not() else slow_cases()
    return [
        *disk_cases(quick=quick),
        *sql_cases(),
        *empty_cases(),
        *single_cases(),
        *batch_cases(),
        *half_cases(),
        *read_cases(),
        *slow,
    ]


def chosen(cases: Sequence[Case], only: tuple[str, ...]) -> list[Case]:
    """The cases whose names begin with one of these, with those that they need to know the rate of."""
    if not only:
        return list(cases)
    picked = {case.name for case in cases if case.name.startswith(only)}
    picked |= {case.half_of for case in cases if case.name in picked and case.half_of is not None}
    return [case for case in cases if case.name in picked]


def disk_cases(*, quick: bool) -> list[Case]:
    """The disk alone, and COPY of event rows."""
    rows = COPY_ROWS_QUICK if quick else COPY_ROWS

    def copy_into(table: str) -> MakeJob:
        return lambda stage, *_: Copy(stage.url("in_process"), table, rows)

    return [
        Case(name="disk", what="8 KiB writes, each synced", needs="disk", make=sync_job),
        Case(
            name="copy.plain",
            what="COPY of the log's rows, primary key only",
            needs="copy",
            make=copy_into("copy_plain"),
        ),
        Case(
            name="copy.indexed",
            what="COPY of the log's rows, its indexes",
            needs="copy",
            make=copy_into("copy_indexed"),
        ),
    ]


def sql_cases() -> list[Case]:
    """Hand-written spending over asyncpg."""
    whats = {"naive": "SELECT FOR UPDATE transactions", "conditional": "conditional UPDATE, one statement"}
    clients = {"naive": CLIENTS, "conditional": CLIENTS[-1:]}
    return [
        Case(
            name=f"{style}.{place}.{count}",
            what=what,
            needs="sql",
            make=spend_job(style, "baseline"),
            in_flight=count,
            hot=place == "hot",
        )
        for style, what in whats.items()
        for place in PLACES
        for count in (clients[style] if place == "hot" else clients[style][-1:])
    ]


def empty_cases() -> list[Case]:
    """Empty responders under the load generators that the ledger gets."""

    def http(shape: Shape) -> MakeJob:
        return lambda stage, load, _: Http(load, stage.empty_http_port, shape, ACCEPTED)

    def nats(stage: Stage, load: Load, _: int) -> Job:
        return Nats(load, stage.nats_port, SUBJECT_EMPTY, "pairs", None)

    what = "empty aiohttp handler"
    return [
        Case(name="empty_http.64", what=what, needs="empty", make=http("pairs"), in_flight=CONNECTIONS),
        Case(name="empty_http.get.64", what=what, needs="empty", make=http("balance"), in_flight=CONNECTIONS),
        *(
            Case(name=f"empty_nats.{n}", what="empty nats-py responder", needs="empty", make=nats, in_flight=n)
            for n in IN_FLIGHT
        ),
    ]


def single_cases() -> list[Case]:
    """Single commands: reserve and consume pairs, in process, over NATS and over HTTP; many in flight, and one alone."""
    ways: list[tuple[str, str, str, MakeJob, tuple[int, ...], tuple[str, ...]]] = [
        ("in_process", "ledger in process", "in_process", in_process_job, IN_FLIGHT, ("copy.plain", "copy.indexed")),
        ("nats", "ledger over NATS", "service", nats_job("pairs", CREATED), IN_FLIGHT, ("empty_nats.{n}",)),
        ("http", "ledger over HTTP", "service", http_job("pairs", CREATED), (CONNECTIONS,), ("empty_http.{n}",)),
    ]
    return [
        Case(
            name=f"{way}.{place}.{n}",
            what=what,
            needs=needs,
            make=make,
            in_flight=n,
            hot=place == "hot",
            beside=() if n == 1 else (*(ceiling.format(n=n) for ceiling in ceilings), f"naive.{place}.32"),
            log=needs,
        )
        for way, what, needs, make, counts, ceilings in ways
        for place in PLACES
        for n in ((1, *counts) if place == "uniform" else counts)
    ]


def batch_cases() -> list[Case]:
    """Batches of 100 and 1,000 commands."""
    ways: list[tuple[str, str, str, MakeJob]] = [
        ("in_process", "batches in process", "in_process", in_process_job),
        ("nats", "batches over NATS", "service", nats_job("batches", ACCEPTED)),
        ("http", "batches over HTTP", "service", http_job("batches", ACCEPTED)),
    ]
    return [
        Case(
            name=f"{way}.batch.{size}",
            what=what,
            needs=needs,
            make=make,
            in_flight=in_flight,
            batch=size,
            beside=("copy.plain",) if way == "in_process" else (f"in_process.batch.{size}",),
            log=needs,
        )
        for way, what, needs, make in ways
        for size, in_flight in BATCHES.items()
    ]


def half_cases() -> list[Case]:
    """Latency where the load is half of the most, and callers do not wait for each other."""
    ways = [("in_process", "in_process", in_process_job), ("nats", "service", nats_job("pairs", CREATED))]
    return [
        Case(
            name=f"{way}.half",
            what="half of the maximal load, open loop",
            needs=needs,
            make=make,
            in_flight=2 * IN_FLIGHT[-1],
            half_of=f"{way}.uniform.{IN_FLIGHT[-1]}",
            log=needs,
        )
        for way, needs, make in ways
    ]


def read_cases() -> list[Case]:
    """Reads of balances, and of what a reserve would answer."""
    shapes: tuple[Shape, ...] = ("balance", "check")
    return [
        *(
            Case(
                name=f"http.{shape}.{CONNECTIONS}",
                what="reads over HTTP",
                needs="service",
                make=http_job(shape, ACCEPTED),
                in_flight=CONNECTIONS,
                beside=("empty_http.get.64",),
            )
            for shape in shapes
        ),
        *(
            Case(
                name=f"nats.{shape}.{IN_FLIGHT[-1]}",
                what="reads over NATS",
                needs="service",
                make=nats_job(shape, ACCEPTED),
                in_flight=IN_FLIGHT[-1],
                beside=(f"empty_nats.{IN_FLIGHT[-1]}",),
            )
            for shape in shapes
        ),
    ]


def slow_cases() -> list[Case]:
    """A disk with 2 ms for each fsync."""
    what = "a disk with 2 ms for each fsync"
    return [
        Case(name="slow.disk", what=what, needs="slow", make=sync_job),
        Case(
            name="slow.naive.hot.32",
            what=what,
            needs="slow",
            make=spend_job("naive", "slow_baseline"),
            in_flight=32,
            hot=True,
        ),
        *(
            Case(
                name=f"slow.in_process.{place}.512",
                what=what,
                needs="slow",
                make=slow_job,
                in_flight=512,
                hot=place == "hot",
                beside=(*(("slow.naive.hot.32",) if place == "hot" else ()), f"in_process.{place}.512"),
                log="slow",
            )
            for place in PLACES
        ),
    ]


def sync_job(stage: Stage, *_: object) -> Job:
    return Sync(stage.directory, SYNC_WRITES)


def spend_job(style: str, database: str) -> MakeJob:
    return lambda stage, load, _: Sql(load, stage.url(database), style)


def in_process_job(stage: Stage, load: Load, _: int) -> Job:
    return InProcess(load, stage.url("in_process"), stage.catalog)


def slow_job(stage: Stage, load: Load, _: int) -> Job:
    return InProcess(load, stage.url("slow"), stage.catalog)


def nats_job(shape: Shape, status: int) -> MakeJob:
    return lambda stage, load, _: Nats(load, stage.nats_port, SUBJECT, shape, status)


def http_job(shape: Shape, status: int) -> MakeJob:
    return lambda stage, load, _: Http(load, stage.http_port, shape, status)
