"""Statement, usage, finance and the log agree to the last credit, for random histories and random ranges of time."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from events.account import ZERO
from events.catalog import parse_catalog
from events.errors import InvalidRequest
from events.facts import Consumed, Refunded
from events.instants import Instant, plus
from events.recorded import Event, decode
from projections import finance
from projections.usage import hour_of
from service.ledger import Ledger
from service.queries import parse_query
from service.reads import Reads
from service.store.log import Log
from service.sweeper import Sweeper
from tests.domain.projecting import worth
from tests.projections.test_projector import projected
from tests.writer.asking import CATALOG_TEXT, Clock, OpenLedger, accounts_of, ask
from tests.writer.load import crowd, work_through

CATALOG = parse_catalog(
    CATALOG_TEXT
    + """
[plans.daily]
rank = 3
interval = "1d"
allowance.credits = 60
overdraft_limit = 20
rollover = { share = "0.5", cap = 10 }
"""
)
ACCOUNTS = [*accounts_of(3, 2), *accounts_of(5, 1)]


async def history(ledger: Ledger, clock: Clock, random: Random) -> None:
    """Five days of work in a few accounts that are renewed each day, and now and then a sweep."""
    for account in ACCOUNTS:
        await ledger.execute(ask("change_plan", account, plan="daily"))
        basis = {"amount": 900, "currency": "usd"}
        await ledger.execute(ask("grant", account, amount=100, kind="purchase", cost_basis=basis))
    sweeper = Sweeper(ledger)
    for day in range(10):
        await work_through([ledger], crowd(2, ACCOUNTS, seed=day, name=f"d{day}-"), 12)
        for _ in range(3):
            await ledger.execute(ask("consume", random.choice(ACCOUNTS), operation="render"))
        clock.advance(random.randint(1, 80_000))
        if random.random() < 0.5:
            while await sweeper.sweep():
                pass


async def every_event(log: Log) -> list[Event]:
    """The whole log."""
    events: list[Event] = []
    for partition in range(16):
        events += [decode(stored.line) for stored in await log.lines_from(partition, 1, 100_000)]
    return events


async def asked(reads: Reads, name: str, **fields: object) -> Any:
    """The answer of a query."""
    return (await reads.answer(name, parse_query(name, {k: v for k, v in fields.items() if v is not None})))[1]


class Told:
    """A history, and what may be asked about it."""

    def __init__(self, reads: Reads, events: Sequence[Event], clock: Clock) -> None:
        self.reads = reads
        self.events = events
        self.clock = clock

    def instant(self, random: Random) -> Instant:
        """An instant at which something happens, or one near it, or a whole hour."""
        at = random.choice(self.events).effective_at
        near = plus(at, seconds=random.choice([0, 0, 1, -1, 1800]))
        chosen = random.choice([at, near, Instant(hour_of(near))])
        return min(chosen, self.clock())


@pytest.fixture
async def told(open_ledger: OpenLedger, readers: Log, request: pytest.FixtureRequest) -> Told:
    """A history whose seed is the test's parameter."""
    clock = Clock(days_ago=30)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    await history(ledger, clock, Random(request.param))
    await projected(readers)
    return Told(Reads(ledger), await every_event(readers), clock)


@pytest.mark.parametrize("told", [1, 2], indirect=True)
async def test_usage_is_what_the_log_says_in_any_range(told: Told) -> None:
    random = Random(7)
    for _ in range(25):
        from_, to = sorted((told.instant(random), told.instant(random)))
        account = random.choice(ACCOUNTS)
        bucket, group_by = (
            random.choice(["hour", "day", "month"]),
            random.choice([None, "operation", "operation,actor"]),
        )
        mine = await asked(
            told.reads, "usage", account=account, **{"from": from_, "to": to}, bucket=bucket, group_by=group_by
        )
        whole = await asked(told.reads, "usage_of_all", **{"from": from_, "to": to}, bucket=bucket, group_by=group_by)
        within = [event for event in told.events if from_ <= event.recorded_at < to]
        _check_usage(mine, [event for event in within if event.account == account])
        _check_usage(whole, within)


def _check_usage(view: Any, events: Sequence[Event]) -> None:
    work = [event.data for event in events if isinstance(event.data, Consumed)]
    back = [event.data for event in events if isinstance(event.data, Refunded)]
    totals = view["totals"]
    assert totals["used"] == sum(data.actual for data in work)
    assert totals["charged"] == sum(data.charged for data in work)
    assert totals["unfunded"] == sum(data.unfunded for data in work)
    assert totals["refunded"] == sum(data.usage for data in back)
    assert totals["net"] == totals["used"] - totals["refunded"]
    for name in ("count", "used", "charged", "unfunded", "refunded", "net"):
        assert sum(row[name] for row in view["series"]) == totals[name]
        assert sum(row[name] for row in view["groups"]) == (totals[name] if view["group_by"] else 0)


@pytest.mark.parametrize("told", [1, 2], indirect=True)
async def test_finance_is_what_the_log_says_in_any_range_and_adds_up(told: Told) -> None:
    random = Random(8)
    ranges = [(None, None), *(tuple(sorted((told.instant(random), told.instant(random)))) for _ in range(25))]
    for from_, to in ranges:
        view = await asked(told.reads, "finance_summary", **{"from": from_, "to": to})
        for row in (view, *view["rows"]):
            moved = row["granted"] - row["consumed"] + row["refunded"] - row["expired"] - row["revoked"]
            assert row["opening"] + moved == row["closing"]
        before = [event for event in told.events if from_ is not None and event.effective_at < from_]
        until = [event for event in told.events if to is None or event.effective_at < to]
        assert view["opening"] == _worth(before)
        assert view["closing"] == _worth(until)
        within = [event for event in until if from_ is None or event.effective_at >= from_]
        assert view["consumed"] == sum(e.data.charged for e in within if isinstance(e.data, Consumed))
        assert view["unfunded"] == sum(
            e.data.unfunded if isinstance(e.data, Consumed) else -max(0, e.data.usage - e.data.amount)
            for e in within
            if isinstance(e.data, Consumed | Refunded)
        )
        assert view["debt"] == sum(figures.debt for figures in _last_balances(until).values())


def _last_balances(events: Sequence[Event]) -> dict[str, Any]:
    return {event.account: event.balance.get("credits", ZERO) for event in events}


def _worth(events: Sequence[Event]) -> int:
    """What the accounts had after these events, in which each account's stand in their order."""
    return sum(worth(figures) for figures in _last_balances(events).values())


@pytest.mark.parametrize("told", [1, 2], indirect=True)
async def test_a_statement_leads_from_one_balance_to_the_other(told: Told) -> None:
    random = Random(9)
    names = ("available", "reserved", "scoped", "scheduled", "debt", "bonus")
    for _ in range(25):
        account = random.choice(ACCOUNTS)
        opened = min(event.effective_at for event in told.events if event.account == account)
        from_, to = sorted((told.instant(random), told.instant(random)))
        fields: dict[str, object] = {"account": account, "from": from_, "to": to, "limit": random.choice([1, 7, 500])}
        view = await asked(told.reads, "statement", **fields)
        movements, cursor = list(view["movements"]), view["next_cursor"]
        while cursor is not None:
            page = await asked(told.reads, "statement", **fields, cursor=cursor)
            assert (page["opening"], page["closing"]) == (view["opening"], view["closing"])
            movements += page["movements"]
            cursor = page["next_cursor"]
        for name in names:
            assert view["opening"][name] + sum(row["delta"][name] for row in movements) == view["closing"][name]
        written = [event.id for event in told.events if event.account == account and from_ <= event.effective_at < to]
        assert [row["event"] for row in movements if row["event"] is not None] == written
        for at, shown in ((from_, view["opening"]), (to, view["closing"])):
            just_before = _just_before(at)
            if just_before >= opened:
                balance = await asked(told.reads, "balance", account=account, at=just_before)
                assert {name: balance[name] for name in names} == {name: shown[name] for name in names}


def _just_before(at: Instant) -> Instant:
    seconds, micros = at[:19], int(at[20:26])
    if micros:
        return Instant(f"{seconds}.{micros - 1:06}Z")
    return Instant(f"{plus(at, seconds=-1)[:19]}.999999Z")


@pytest.mark.parametrize("told", [4], indirect=True)
async def test_what_is_due_and_not_written_ends_a_statement(told: Told) -> None:
    told.clock.advance(3 * 86_400)
    for account in ACCOUNTS:
        view = await asked(told.reads, "statement", account=account)
        due = [row for row in view["movements"] if row["event"] is None]
        assert due
        assert due == view["movements"][-len(due) :]
        now = await asked(told.reads, "balance", account=account)
        assert view["closing"]["available"] == now["available"]
        assert sum(row["delta"]["available"] for row in view["movements"]) == now["available"]


@pytest.mark.parametrize("told", [5], indirect=True)
async def test_a_range_that_goes_back_is_refused(told: Told) -> None:
    fields = {"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    for name, more in (
        ("usage", {"account": ACCOUNTS[0]}),
        ("statement", {"account": ACCOUNTS[0]}),
        ("finance_summary", {}),
    ):
        with pytest.raises(InvalidRequest):
            await asked(told.reads, name, **fields, **more)


@pytest.mark.parametrize("told", [6], indirect=True)
async def test_readers_see_every_batch_whole_while_projections_move(told: Told, readers: Log) -> None:
    async def look() -> None:
        for _ in range(20):
            view = await asked(told.reads, "finance_summary")
            assert view["opening"] == 0
            debt = [row for row in view["rows"] if row["kind"] == finance.DEBT]
            assert view["closing"] == sum(row["closing"] for row in view["rows"])
            assert view["debt"] == -sum(row["closing"] for row in debt)

    from service.projection_commands import rebuild

    await asyncio.gather(look(), rebuild(readers, ["finance", "usage"]))
