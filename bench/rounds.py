"""The rounds of a run: each case once in each round, forwards and backwards in turn, the first round thrown away.

Taking turns makes a slow minute of the machine slow for every case; changing the direction gives each case another
predecessor. After each round of a ledger case the log is asked whether it holds exactly what was acknowledged.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from bench.cases import Case
from bench.jobs import Load
from bench.processes import until_quiet
from bench.stage import Stage
from service.benching.pump import BenchError, Window

FIRST_GUESS_PER_SECOND = 30_000
FIRST_GUESS_OF_BATCHES_PER_SECOND = 100_000
SPARE_SHARE = 2.0
WARM_UP_SHARE = 0.5
PAIRS_MIN = 1_000
PAIRS_MAX = 150_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run is."""

    rounds: int
    warm_up_rounds: int
    seconds: float
    accounts: int


FULL = Plan(rounds=5, warm_up_rounds=1, seconds=1.2, accounts=10_000)
QUICK = Plan(rounds=1, warm_up_rounds=0, seconds=0.3, accounts=500)


@dataclass(slots=True)
class Record:
    """What is known of one case: its measured rounds, and the seconds of work that each left behind."""

    case: Case
    windows: list[Window] = field(default_factory=list[Window])
    left_behind_seconds: list[float] = field(default_factory=list[float])
    rates: list[float] = field(default_factory=list[float])
    """Of every round, those before the measured ones too."""


async def run_rounds(stage: Stage, cases: list[Case], plan: Plan, on_step: Callable[[str], None]) -> list[Record]:
    """Runs all rounds; `on_step` hears the name of each case before it runs.

    Raises:
        BenchError: an answer was wrong, or the log does not hold what was acknowledged.
    """
    records = {case.name: Record(case) for case in cases}
    await until_quiet()
    for number in range(plan.warm_up_rounds + plan.rounds):
        for record in records.values() if number % 2 == 0 else reversed(records.values()):
            case = record.case
            on_step(case.name)
            # The first round goes forwards, and who needs a rate stands behind the one whose rate it is.
            rates = record.rates if case.half_of is None else records[case.half_of].rates
            try:
                window, left_behind_seconds = await run_once(stage, case, load_for(case, plan, number, rates), number)
            except BenchError as error:
                raise BenchError(f"{case.name}: {error}") from error
            record.rates.append(window.per_second)
            if number >= plan.warm_up_rounds:
                record.windows.append(window)
                record.left_behind_seconds.append(left_behind_seconds)
    for database in sorted({case.log for case in cases if case.log is not None}):
        await check_whole_log(stage, database)
    return list(records.values())


async def run_once(stage: Stage, case: Case, load: Load, number: int) -> tuple[Window, float]:
    """One round of one case, its check, and the wait until its deferred work is done."""
    before = await stage.logged_events(case.log) if case.log is not None else 0
    window = await stage.process_of(case.needs).run(case.make(stage, load, number))
    if case.log is not None:
        written = await stage.logged_events(case.log) - before
        if written != window.acknowledged:
            raise BenchError(f"{window.acknowledged} commands were acknowledged, but the log grew by {written} events")
    return window, await until_quiet()


def load_for(case: Case, plan: Plan, number: int, rates: list[float]) -> Load:
    """The load of one round: twice as many pairs as the best of these rates so far says that the window needs."""
    guess = FIRST_GUESS_OF_BATCHES_PER_SECOND if case.batch else FIRST_GUESS_PER_SECOND
    wanted = int(max(rates, default=guess) * plan.seconds * SPARE_SHARE / 2)
    return Load(
        run=f"{case.name.replace('.', '_')}-{number}",
        accounts=1 if case.hot else plan.accounts,
        in_flight=case.in_flight,
        seconds=plan.seconds if number >= plan.warm_up_rounds else plan.seconds * WARM_UP_SHARE,
        pairs=max(PAIRS_MIN, 2 * case.batch * case.in_flight, min(PAIRS_MAX, wanted)),
        batch=case.batch,
        per_second=0 if case.half_of is None else median(rates) / 2,
    )


async def check_whole_log(stage: Stage, database: str) -> None:
    """The heads may not promise what the log does not have."""
    promised, stored = await stage.logged_events(database), await stage.stored_events(database)
    if promised != stored:
        raise BenchError(f"the heads of {database} say {promised} events, the log has {stored}")
