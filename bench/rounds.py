"""The rounds of a run: each case once in each round, forwards and backwards in turn, the first round thrown away.

Taking turns makes a slow minute of the machine slow for every case; changing the direction gives each case another
predecessor. After each round of a ledger case the log is asked whether it holds exactly what was acknowledged.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.cases import Case
from bench.jobs import Load
from bench.measure import BenchError, Window
from bench.processes import until_quiet
from bench.stage import Stage

FIRST_GUESS_PER_SECOND = 30_000
SPARE_SHARE = 2.0
PAIRS_MIN = 1_000
PAIRS_MAX = 150_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run is."""

    rounds: int
    warm_up_rounds: int
    seconds: float
    accounts: int


FULL = Plan(rounds=5, warm_up_rounds=1, seconds=1.5, accounts=10_000)
QUICK = Plan(rounds=1, warm_up_rounds=0, seconds=0.3, accounts=500)


@dataclass(slots=True)
class Record:
    """What is known of one case: its measured rounds, and the seconds of work that each left behind."""

    case: Case
    windows: list[Window] = field(default_factory=list[Window])
    left_behind_seconds: list[float] = field(default_factory=list[float])
    best_per_second: float = 0.0


async def run_rounds(stage: Stage, cases: list[Case], plan: Plan, on_step: Callable[[str], None]) -> list[Record]:
    """Runs all rounds; `on_step` hears the name of each case before it runs.

    Raises:
        BenchError: an answer was wrong, or the log does not hold what was acknowledged.
    """
    records = [Record(case) for case in cases]
    await until_quiet()
    for number in range(plan.warm_up_rounds + plan.rounds):
        for record in records if number % 2 == 0 else reversed(records):
            on_step(record.case.name)
            try:
                window, left_behind_seconds = await run_once(stage, record, plan, number)
            except BenchError as error:
                raise BenchError(f"{record.case.name}: {error}") from error
            record.best_per_second = max(record.best_per_second, window.per_second)
            if number >= plan.warm_up_rounds:
                record.windows.append(window)
                record.left_behind_seconds.append(left_behind_seconds)
    for database in sorted({case.log for case in cases if case.log is not None}):
        await check_whole_log(stage, database)
    return records


async def run_once(stage: Stage, record: Record, plan: Plan, number: int) -> tuple[Window, float]:
    """One round of one case, its check, and the wait until its deferred work is done."""
    case = record.case
    job = case.make(stage, load_for(record, plan, number), number)
    process = stage.in_process() if case.needs == "in_process" else stage.wire
    before = await stage.logged_events(case.log) if case.log is not None else 0
    window = await process.run(job)
    if case.log is not None:
        written = await stage.logged_events(case.log) - before
        if written != window.acknowledged:
            raise BenchError(f"{window.acknowledged} commands were acknowledged, but the log grew by {written} events")
    return window, await until_quiet()


def load_for(record: Record, plan: Plan, number: int) -> Load:
    """The load of one round: twice as many pairs as the best round so far says that the window needs."""
    wanted = int((record.best_per_second or FIRST_GUESS_PER_SECOND) * plan.seconds * SPARE_SHARE / 2)
    return Load(
        run=f"{record.case.name.replace('.', '_')}-{number}",
        accounts=1 if record.case.hot else plan.accounts,
        in_flight=record.case.in_flight,
        seconds=plan.seconds,
        pairs=max(PAIRS_MIN, min(PAIRS_MAX, wanted)),
    )


async def check_whole_log(stage: Stage, database: str) -> None:
    """The heads may not promise what the log does not have."""
    promised, stored = await stage.logged_events(database), await stage.stored_events(database)
    if promised != stored:
        raise BenchError(f"the heads of {database} say {promised} events, the log has {stored}")
