"""A forecast: when an account runs out and what expires unused, if its work goes on at the same pace (FEATURES.md X10).

Time is let go on over the account as it is, by the very rules that will do it: grants start and end, periods turn with
what rolls over, a plan change that waits takes effect. Between two such instants work is drawn from the grants in the
normal order. Holds that are open now are taken for work that will be charged, and nothing else is guessed: no payment,
no new grant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from events.account import State
from events.catalog import Catalog
from events.draft import Draft
from events.due import apply_due
from events.facts import Consumed, Fact, Granted
from events.grants import Drawing, allocations
from events.history import NO_HISTORY, History
from events.instants import Instant, instant, moment

STEPS_MAX = 400
"""How many instants at which something is due a forecast looks at; then it ends, and says so."""
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast work goes on: credits of a unit by operation, done in `seconds`."""

    unit: str
    used: Mapping[str | None, int]
    seconds: int


@dataclass(frozen=True, slots=True)
class Expiring:
    """A part of a grant that will end unused; `grant_id` is None for one that does not exist yet."""

    at: Instant
    grant_id: str | None
    amount: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What will come, until `until`: `run_out_at` is the first instant at which work is not covered, None if there is none."""

    run_out_at: Instant | None
    expiring: tuple[Expiring, ...]
    until: Instant


def forecast(
    state: State, pace: Pace, now: Instant, until: Instant, catalog: Catalog, history: History = NO_HISTORY
) -> Forecast:
    """Let time go on from `now`, at which all that is due has happened, until an instant; `state` is left as it is."""
    known = state.account.grants.keys()
    ahead = state.fork()
    ahead.account.open_holds = 0  # none of them ends in the forecast
    run_out_at: Instant | None = None
    expiring: list[Expiring] = []
    done: dict[str | None, int] = {}
    last = now
    for _ in range(STEPS_MAX):
        due_at = ahead.account.due_at
        at = until if due_at is None or due_at >= until else max(due_at, last)
        ahead, missing = _worked(ahead, pace, now, at, done, catalog)
        if missing and run_out_at is None:
            covered = sum(done.values()) - missing
            run_out_at = min(at, max(last, _done_at(pace, now, covered)))
        last = at
        if at == until:
            break
        draft = Draft(ahead, at, catalog, "", history)
        apply_due(draft)
        ahead = draft.state
        ahead.settle()
        expiring += [each for fact in draft.facts if (each := _expiry(fact, pace.unit, at)) is not None]
    return Forecast(
        run_out_at,
        tuple(each if each.grant_id in known else Expiring(each.at, None, each.amount) for each in expiring),
        last,
    )


def _worked(
    state: State, pace: Pace, begin: Instant, at: Instant, done: dict[str | None, int], catalog: Catalog
) -> tuple[State, int]:
    """Draw the work that is done until `at`; returns the account after it and what was not covered.

    `done` is what was wanted before, by operation; what was not covered is not asked for again.
    """
    if state.account.status != "active":
        return state, 0
    elapsed = (moment(at) - moment(begin)) // _MICROSECOND
    drawing = Drawing(state.account.grants.values(), pace.unit)
    wanted = missing = 0
    parts: list[tuple[str, int]] = []
    for operation, used in pace.used.items():
        until_now = used * elapsed // (pace.seconds * 1_000_000)
        amount = until_now - done.get(operation, 0)
        done[operation] = until_now
        drawn, short = drawing.take(amount, operation)
        parts += drawn
        wanted += amount
        missing += short
    if not parts:
        return state, missing
    draft = Draft(state, at, catalog, "")
    charged = wanted - missing
    draft.add(
        "direct",
        Consumed(
            reservation_id=None,
            consumption_id="~forecast",
            unit=pace.unit,
            reserved=0,
            actual=charged,
            charged=charged,
            debt_added=0,
            unfunded=0,
            allocation=allocations(parts),
            operation=None,
            quantity=None,
            price=None,
            period=state.account.period_start,
        ),
    )
    return draft.state, missing


def _done_at(pace: Pace, begin: Instant, amount: int) -> Instant:
    """Return the instant at which so much is done since the beginning, of all operations together."""
    used = sum(pace.used.values())
    return instant(moment(begin) + timedelta(microseconds=pace.seconds * 1_000_000 * amount // used))


def _expiry(fact: Fact, unit: str, at: Instant) -> Expiring | None:
    data = fact.data
    if fact.kind != "expired" or not isinstance(data, Granted) or data.unit != unit or not data.amount:
        return None
    return Expiring(fact.effective_at or at, data.grant_id, -data.amount)
