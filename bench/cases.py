"""All that is measured: name, load, and the job that makes one round of it.

A case's name is what it is, where its accounts are (`uniform` over all of them or one `hot` account) and how many
requests are in flight: `nats.hot.512`. `beside` names the baselines whose figures its own is divided by.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bench.jobs import Copy, Http, InProcess, Job, Load, Nats, Sql, Sync
from bench.stage import Stage

COPY_ROWS = 50_000
COPY_ROWS_QUICK = 2_000
SYNC_WRITES = 100
ACCEPTED = 200
CREATED = 201
IN_FLIGHT = (64, 512)
CLIENTS = (8, 32, 64)
PLACES = ("uniform", "hot")
# A partition is filled from this position on in each round; the rounds' rows never meet.
COPY_POSITIONS_PER_ROUND = 1_000_000

MakeJob = Callable[[Stage, Load, int], Job]


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    name: str
    what: str
    needs: str
    make: MakeJob
    in_flight: int = 0
    hot: bool = False
    beside: tuple[str, ...] = ()
    target_per_second: int | None = None
    log: str | None = None


def all_cases(*, quick: bool) -> list[Case]:
    """Every case, baselines first."""
    return [*disk_cases(quick=quick), *sql_cases(), *empty_cases(), *ledger_cases()]


def disk_cases(*, quick: bool) -> list[Case]:
    """The disk alone, and COPY of event rows."""
    rows = COPY_ROWS_QUICK if quick else COPY_ROWS

    def copy_into(table: str) -> MakeJob:
        return lambda stage, _, round_: Copy(stage.url("baseline"), table, rows, 1 + round_ * COPY_POSITIONS_PER_ROUND)

    return [
        Case(
            "disk.fdatasync", "8 KiB writes, each synced", "sql", lambda stage, *_: Sync(stage.directory, SYNC_WRITES)
        ),
        Case("copy.plain", "event rows by COPY, primary key only", "sql", copy_into("copy_plain")),
        Case("copy.indexed", "event rows by COPY, the log's indexes", "sql", copy_into("copy_indexed")),
    ]


def sql_cases() -> list[Case]:
    """Hand-written spending over asyncpg."""
    whats = {"naive": "SELECT FOR UPDATE transactions", "conditional": "conditional UPDATE, one statement"}

    def spend(style: str) -> MakeJob:
        return lambda stage, load, _: Sql(load, stage.url("baseline"), style)

    return [
        Case(f"{style}.{place}.{clients}", what, "sql", spend(style), in_flight=clients, hot=place == "hot")
        for style, what in whats.items()
        for place in PLACES
        for clients in CLIENTS
    ]


def empty_cases() -> list[Case]:
    """Empty responders under the load generators that the ledger gets."""

    def http(stage: Stage, load: Load, _: int) -> Job:
        return Http(load, stage.empty_http_port, ACCEPTED)

    def nats(stage: Stage, load: Load, _: int) -> Job:
        return Nats(load, stage.nats_port, "bench.empty", None)

    return [
        *(Case(f"empty_http.{n}", "empty aiohttp handler", "empty", http, in_flight=n) for n in IN_FLIGHT),
        *(Case(f"empty_nats.{n}", "empty nats-py responder", "empty", nats, in_flight=n) for n in IN_FLIGHT),
    ]


def ledger_cases() -> list[Case]:
    """The ledger: reserve and consume pairs, in process, over NATS and over HTTP."""
    targets = {"in_process.uniform.512": 15_000, "in_process.hot.512": 25_000}
    ways: list[tuple[str, str, str, str, MakeJob]] = [
        ("in_process", "ledger in process", "in_process", "copy.indexed", in_process_job),
        ("nats", "ledger over NATS", "service", "empty_nats.{n}", nats_job),
        ("http", "ledger over HTTP", "service", "empty_http.{n}", http_job),
    ]
    return [
        Case(
            name=(name := f"{way}.{place}.{n}"),
            what=what,
            needs=needs,
            make=make,
            in_flight=n,
            hot=place == "hot",
            beside=(ceiling.format(n=n), f"naive.{place}.32"),
            target_per_second=targets.get(name),
            log=needs,
        )
        for way, what, needs, ceiling, make in ways
        for place in PLACES
        for n in IN_FLIGHT
    ]


def in_process_job(stage: Stage, load: Load, _: int) -> Job:
    return InProcess(load, stage.url("in_process"), stage.catalog)


def nats_job(stage: Stage, load: Load, _: int) -> Job:
    return Nats(load, stage.nats_port, "credits.cmd.bench", CREATED)


def http_job(stage: Stage, load: Load, _: int) -> Job:
    return Http(load, stage.http_port, CREATED)
