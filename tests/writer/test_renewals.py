"""Laws of renewals and payments in a running ledger: whoever comes first, the period turns once and is paid once."""

import asyncio
from typing import Any, cast

import pytest

from events.catalog import parse_catalog
from events.errors import BatchAborted, IdempotencyMismatch
from events.history import Activation, History
from events.instants import plus
from projections.outcome import answer
from service.queries import AccountQuery, BalanceQuery, GrantsQuery, QuotaQuery
from service.reads import Reads
from service.requests import Outcome
from service.sweeper import Sweeper
from tests.writer.asking import CATALOG_TEXT, Clock, OpenLedger, ask
from tests.writer.auditing import audited

DAY = 86_400
CATALOG = parse_catalog(
    CATALOG_TEXT
    + """
[plans.auto]
rank = 3
interval = "4d"
allowance.credits = 50
[plans.paid]
rank = 3
interval = "4d"
renewal = "external"
allowance.credits = 50
[plans.more]
rank = 4
interval = "4d"
renewal = "external"
allowance.credits = 80
"""
)


async def balance(reads: Reads, **fields: object) -> dict[str, object]:
    """The credits of the account now or at a past instant."""
    _, view = await reads.answer("balance", BalanceQuery(account="a", **fields))  # type: ignore[arg-type]  # fields of a query
    return view


def ids(outcome: Outcome) -> list[str]:
    """The events that an outcome shows."""
    return [line.event.id for line in outcome.lines]


async def test_a_payment_told_twice_answers_as_the_first_time_from_a_cold_memory(
    open_ledger: OpenLedger, database_url: str
) -> None:
    clock = Clock(days_ago=40)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    await ledger.execute(ask("change_plan", "a", plan="paid", reference="first"))
    clock.advance(4 * DAY)
    first = await ledger.execute(ask("renew", "a", reference="second"))
    for _ in range(40):
        await ledger.execute(ask("consume", "a", amount=1))
    cold = await open_ledger(clock=clock, catalog=CATALOG)
    for elsewhere in (ledger, cold):
        again = await elsewhere.execute(ask("renew", "a", key="another", reference="second"))
        assert (again.replayed, ids(again)) == (True, ids(first))
        assert answer("a", again.lines, again.state, replayed=True)["plan"]["plan"] == "paid"  # type: ignore[index]  # it is about a plan
        assert await elsewhere.outcome("a", "another") is None, "what was counted before stores no key"
    clock.advance(9 * DAY)
    assert ids(await cold.execute(ask("renew", "a", reference="second"))) == ids(first)
    assert ids(await cold.execute(ask("renew", "a", reference="first"))) == [
        f"{cold.partition('a')}-1",
        f"{cold.partition('a')}-2",
    ]
    await audited(database_url)


@pytest.mark.parametrize("payments", [["second"] * 8, [f"p{number}" for number in range(8)]], ids=["same", "different"])
async def test_many_payments_at_once_in_two_ledgers_pay_the_period_once(
    open_ledger: OpenLedger, database_url: str, payments: list[str]
) -> None:
    clock = Clock(days_ago=40)
    ledgers = [await open_ledger(clock=clock, catalog=CATALOG) for _ in range(2)]
    await ledgers[0].execute(ask("change_plan", "a", plan="paid"))
    clock.advance(5 * DAY)
    outcomes = await asyncio.gather(
        *(ledgers[number % 2].execute(ask("renew", "a", reference=name)) for number, name in enumerate(payments))
    )
    assert [outcome.replayed for outcome in outcomes].count(False) == 1
    assert len({tuple(ids(outcome)) for outcome in outcomes}) == 1
    assert (await balance(Reads(ledgers[1])))["available"] == 50
    await audited(database_url)


async def test_a_payment_in_a_batch_that_was_counted_before_answers_as_the_first_time(
    open_ledger: OpenLedger, database_url: str
) -> None:
    ledger = await open_ledger(clock=Clock(days_ago=40), catalog=CATALOG)
    first = await ledger.execute(ask("change_plan", "a", plan="paid", reference="first"))
    for batch in (ledger.execute_all, ledger.execute_together):
        told = await batch([ask("renew", "a", reference="first"), ask("consume", "a", amount=1)])
        assert isinstance(told[0], Outcome)
        assert (ids(told[0]), told[0].replayed) == (ids(first), True)
        assert isinstance(told[1], Outcome)
    await audited(database_url)


@pytest.mark.parametrize(
    "commands",
    [
        [("renew", {"reference": "first"}), ("consume", {"amount": 1})],
        [("grant", {"amount": 1, "grant_id": "g"}), ("renew", {"reference": "first"})],
        [("renew", {"reference": "second"}), ("consume", {"amount": 1})],
        [("consume", {"amount": 1}), ("consume", {"operation": "note"})],
    ],
    ids=["counted", "counted behind", "counts", "free"],
)
async def test_an_atomic_batch_with_what_leaves_no_key_is_answered_as_first_when_it_comes_again(
    open_ledger: OpenLedger, database_url: str, commands: list[tuple[str, dict[str, Any]]]
) -> None:
    clock = Clock(days_ago=40)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    await ledger.execute(ask("change_plan", "a", plan="paid", reference="first"))
    clock.advance(3.5 * DAY)
    batch = [ask(name, "a", key=f"{name}-{number}", **fields) for number, (name, fields) in enumerate(commands)]
    first = await ledger.execute_together(batch)
    for elsewhere in (ledger, await open_ledger(clock=clock, catalog=CATALOG)):
        again = await elsewhere.execute_together(batch)
        for one, other in zip(first, again, strict=True):
            assert isinstance(one, Outcome)
            assert isinstance(other, Outcome)
            assert (ids(other), other.replayed or other.free) == (ids(one), True)
    await audited(database_url)


@pytest.mark.parametrize("first", [("consume", {"operation": "note"}), ("renew", {"reference": "first"})])
async def test_what_is_due_is_written_also_behind_a_command_of_the_batch_that_writes_nothing(
    open_ledger: OpenLedger, database_url: str, first: tuple[str, dict[str, Any]]
) -> None:
    clock = Clock(days_ago=40)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    await ledger.execute(ask("change_plan", "a", plan="auto", reference="first"))
    clock.advance(5 * DAY)
    told = await ledger.execute_together([ask(first[0], "a", **first[1]), ask("consume", "a", amount=1)])
    assert all(isinstance(each, Outcome) for each in told)
    assert (await balance(Reads(ledger)))["available"] == 49
    kinds = [event.kind for event in (await audited(database_url)).events]
    assert kinds == ["opened", "plan", "renewed", "expired", "plan", "direct"]


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "in a batch"])
async def test_the_key_of_a_payment_is_not_free_for_another_command_that_tells_of_it(
    open_ledger: OpenLedger, database_url: str, *, alone: bool
) -> None:
    ledger = await open_ledger(catalog=CATALOG)
    await ledger.execute(ask("change_plan", "a", key="k", plan="paid", reference="first"))
    other = ask("renew", "a", key="k", reference="first")
    for elsewhere in (ledger, await open_ledger(catalog=CATALOG)):
        if alone:
            with pytest.raises(IdempotencyMismatch):
                await elsewhere.execute(other)
        else:
            told = await elsewhere.execute_together([other, ask("consume", "a", amount=1)])
            assert [type(each) for each in told] == [IdempotencyMismatch, BatchAborted]
    assert (await balance(Reads(ledger)))["available"] == 50
    await audited(database_url)


async def test_an_account_that_opens_again_begins_a_period(open_ledger: OpenLedger, database_url: str) -> None:
    clock = Clock(days_ago=40)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    await ledger.execute(ask("change_plan", "a", plan="auto"))
    await ledger.execute(ask("set_status", "a", status="closed", reason="left"))
    clock.advance(13 * DAY)
    assert (await balance(Reads(ledger)))["available"] == 0
    outcome = await ledger.execute(ask("set_status", "a", status="active", reason="came back"))
    assert [line.event.kind for line in outcome.lines] == ["status", "renewed", "plan"]
    assert (await balance(Reads(ledger)))["available"] == 50
    clock.advance(4 * DAY)
    assert (await balance(Reads(ledger)))["available"] == 50
    await audited(database_url)


@pytest.mark.parametrize("order", ["desc", "asc"])
@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_the_grants_of_an_account_that_nobody_renewed_are_those_that_its_balance_counts(
    open_ledger: OpenLedger, order: str, limit: int
) -> None:
    clock = Clock(days_ago=40)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    await ledger.execute(ask("change_plan", "a", plan="auto"))
    await ledger.execute(ask("grant", "a", amount=7, grant_id="gift"))
    clock.advance(13 * DAY)
    reads = Reads(ledger)
    assert (await balance(reads))["available"] == 57

    async def listed(**fields: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: object = None
        while cursor is not None or not found:
            query = GrantsQuery(account="a", order=order, limit=limit, cursor=cursor, **fields)  # type: ignore[arg-type]  # fields of a query
            _, view = await reads.answer("grants", query)
            found += cast("list[dict[str, Any]]", view["grants"])
            cursor = view["next_cursor"]
        return found if order == "asc" else found[::-1]

    due = await listed()
    assert [(grant["kind"], grant["remaining"], grant["state"]) for grant in due] == [
        ("plan", 0, "expired"),
        ("promo", 7, "active"),
        ("plan", 50, "active"),
    ]
    assert [grant["kind"] for grant in await listed(state="active")] == ["promo", "plan"]
    await ledger.sweep("a")
    assert await listed() == due


async def test_scheduler_and_webhook_grant_once(open_ledger: OpenLedger, database_url: str) -> None:
    clock = Clock(days_ago=40)
    ledger, other = [await open_ledger(clock=clock, catalog=CATALOG) for _ in range(2)]
    await ledger.execute(ask("change_plan", "a", plan="auto"))
    clock.advance(4 * DAY)
    await asyncio.gather(
        Sweeper(other).sweep(), *(ledger.execute(ask("renew", "a", reference="second")) for _ in range(3))
    )
    assert (await balance(Reads(ledger)))["available"] == 50
    kinds = [event.kind for event in (await audited(database_url)).events]
    assert (kinds.count("renewed"), kinds.count("plan")) == (1, 2)


async def test_two_upgrades_at_once_grant_the_difference_once(open_ledger: OpenLedger, database_url: str) -> None:
    clock = Clock(days_ago=40)
    ledgers = [await open_ledger(clock=clock, catalog=CATALOG) for _ in range(2)]
    await ledgers[0].execute(ask("change_plan", "a", plan="paid"))
    await asyncio.gather(*(each.execute(ask("change_plan", "a", plan="more", reference="up")) for each in ledgers * 3))
    assert (await balance(Reads(ledgers[0])))["available"] == 80
    resets = [ask("change_plan", "a", plan="more", mode="reset", reference="anew") for _ in range(6)]
    outcomes = await asyncio.gather(*(ledgers[n % 2].execute(request) for n, request in enumerate(resets)))
    assert [outcome.replayed for outcome in outcomes].count(False) == 1
    assert (await balance(Reads(ledgers[1])))["available"] == 80
    await audited(database_url)


async def test_reads_turn_the_period_in_memory_and_the_past_stays_as_it_was(open_ledger: OpenLedger) -> None:
    clock = Clock(days_ago=40)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    reads = Reads(ledger)
    await ledger.execute(ask("change_plan", "a", plan="auto"))
    await ledger.execute(ask("consume", "a", amount=30))
    _, quota = await reads.answer("quota", QuotaQuery(account="a"))
    assert (quota["credits_used"], quota["credits_limit"], quota["percentage"]) == (30, 50, 60)
    boundary = quota["next_renewal_at"]
    opened = clock()
    clock.advance(4 * DAY + 60)
    _, quota = await reads.answer("quota", QuotaQuery(account="a"))
    assert (quota["credits_used"], quota["credits_limit"], quota["period_start"]) == (0, 50, boundary)
    assert (await balance(reads))["available"] == 50
    before = plus(boundary, seconds=-1)  # type: ignore[arg-type]  # an instant
    assert (await balance(reads, at=before))["available"] == 20
    await ledger.execute(ask("consume", "a", amount=1))
    assert (await balance(reads, at=before))["available"] == 20
    assert (await balance(reads, at=boundary))["available"] == 50
    assert (await balance(reads, at=opened))["available"] == 20
    assert (await balance(reads))["available"] == 49


async def test_a_renewal_that_is_found_late_is_of_the_catalog_that_was_in_force(
    open_ledger: OpenLedger, database_url: str
) -> None:
    clock = Clock(days_ago=40)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    reads, opened = Reads(ledger), clock()
    await ledger.execute(ask("change_plan", "a", plan="auto"))
    clock.advance(4 * DAY + 60)
    then = clock()
    assert (await balance(reads))["available"] == 50
    clock.advance(60)
    richer = parse_catalog(CATALOG_TEXT + '[plans.auto]\nrank = 3\ninterval = "4d"\nallowance.credits = 70\n')
    ledger.catalog = richer
    ledger.history = History([Activation(opened, CATALOG), Activation(clock(), richer)])
    assert (await balance(reads))["available"] == 50
    await ledger.execute(ask("consume", "a", amount=1))
    assert [(await balance(reads, at=at))["available"] for at in (then, clock())] == [50, 49]
    clock.advance(4 * DAY)
    assert (await balance(reads))["available"] == 70
    await audited(database_url)


async def test_an_account_shows_the_change_that_waits(open_ledger: OpenLedger) -> None:
    clock = Clock(days_ago=40)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    await ledger.execute(ask("change_plan", "a", plan="more"))
    await ledger.execute(ask("change_plan", "a", plan="paid"))
    _, view = await Reads(ledger).answer("account", AccountQuery(account="a"))
    assert view["pending"] == {
        "plan": "paid",
        "effective_at": view["period_end"],
        "allowance": {"credits": 50},
        "capacity": {},
    }


async def test_an_idle_account_is_renewed_once_by_the_sweeper_and_then_left_alone(
    open_ledger: OpenLedger, database_url: str
) -> None:
    clock = Clock(days_ago=40)
    ledger = await open_ledger(clock=clock, catalog=CATALOG)
    await ledger.execute(ask("change_plan", "a", plan="auto"))
    sweeper = Sweeper(ledger)
    for _ in range(3):
        clock.advance(4 * DAY)
        await sweeper.sweep()
    written = (await ledger.log.head(ledger.partition("a"))).position
    assert written == 2 + 3, "opened and granted, then renewed once: renewed, expired, granted"
    assert (await balance(Reads(ledger)))["available"] == 50
    await ledger.execute(ask("consume", "a", amount=1))
    await audited(database_url)


async def test_a_reset_finds_grants_that_nobody_remembers(open_ledger: OpenLedger, database_url: str) -> None:
    ledger = await open_ledger(catalog=CATALOG)
    await ledger.execute(ask("change_plan", "a", plan="auto"))
    for number in range(5):
        await ledger.execute(ask("grant", "a", amount=2, priority=1, grant_id=f"g{number}"))
        await ledger.execute(ask("consume", "a", amount=2, consumption_id=f"c{number}"))
    cold = await open_ledger(catalog=CATALOG)
    outcome = await cold.execute(ask("reset_usage", "a", reason="our fault"))
    assert [line.event.kind for line in outcome.lines] == ["usage_reset"]
    assert (await balance(Reads(cold)))["available"] == 60
    await audited(database_url)
