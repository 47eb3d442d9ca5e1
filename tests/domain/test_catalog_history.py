"""Laws of renewals that are decided late: each boundary belongs to the catalog that was in force then."""

from __future__ import annotations

import pytest

from events.catalog import Catalog
from events.decide import due_facts
from events.history import NO_HISTORY, Activation, History
from events.instants import Instant
from tests.domain.scenario import Story, given
from tests.domain.shop import catalog, change_plan, direct, opened

LONG_AGO = "2026-01-01T00:00:00.000000Z"
END = "2026-12-01T09:30:00.000000Z"
NEXT_END = "2027-01-01T09:30:00.000000Z"


def of(amount: int, more: str = "") -> Catalog:
    """A catalog whose one plan allows so much."""
    return catalog(f"[plans.p]\nallowance.credits = {amount}\n{more}")


def on(first: Catalog) -> Story:
    return given(opened("p"), catalog=first)


@pytest.mark.parametrize(
    ("activated", "available"),
    [("2026-11-30T00:00:00.000000Z", 500), (END, 500), ("2026-12-01T09:30:00.000001Z", 100)],
    ids=["before", "at", "after"],
)
def test_a_renewal_that_is_decided_late_uses_the_catalog_of_its_boundary(activated: str, available: int) -> None:
    story = on(of(100)).having_had((LONG_AGO, of(100)), (activated, of(500)))
    story.at("2026-12-20T00:00:00.000000Z").balance(available=available)
    story.when(direct(amount=1)).then("direct", due=["renewed", "expired", "plan"], available=available - 1)


def test_the_next_one_uses_the_catalog_that_came_into_force_meanwhile() -> None:
    story = on(of(100)).having_had((LONG_AGO, of(100)), ("2026-12-10T00:00:00.000000Z", of(500)))
    story.at(END).balance(available=100)
    story.at(NEXT_END).balance(available=500)


def test_what_rolls_over_follows_the_policies_of_that_catalog_too() -> None:
    rolls = of(100, 'rollover = { share = "1", cap = 30 }')
    story = on(rolls).having_had((LONG_AGO, rolls), ("2026-12-05T00:00:00.000000Z", of(100)))
    story.at("2026-12-20T00:00:00.000000Z").balance(available=130)


def test_a_command_goes_by_the_catalog_of_its_own_instant() -> None:
    before, after = (of(100, f'[operations.image]\neach = "{price}"') for price in (1, 7))
    story = on(before).having_had((LONG_AGO, before), ("2026-12-05T00:00:00.000000Z", after))
    story.at("2026-12-20T00:00:00.000000Z").when(direct(operation="image"))
    story.then("direct", due=["renewed", "expired", "plan"], available=93)
    assert story.data("direct").price.catalog == "1"


def test_a_plan_that_left_the_catalog_after_the_boundary_renews_as_it_was_then() -> None:
    story = on(of(100)).having_had(
        (LONG_AGO, of(120)), ("2026-12-05T00:00:00.000000Z", catalog("[plans.q]\nallowance.credits = 1"))
    )
    story.at("2026-12-20T00:00:00.000000Z").balance(available=120)


def test_before_the_oldest_that_is_known_the_oldest_counts() -> None:
    story = on(of(100)).having_had(("2026-12-05T00:00:00.000000Z", of(200)), ("2026-12-06T00:00:00.000000Z", of(300)))
    story.at("2026-12-20T00:00:00.000000Z").balance(available=200)


def test_a_plan_that_asked_for_payments_for_a_while_waits_where_it_began_to() -> None:
    paid = of(100, 'renewal = "external"')
    story = on(of(100)).having_had(
        (LONG_AGO, of(100)), ("2026-12-15T00:00:00.000000Z", paid), ("2027-02-15T00:00:00.000000Z", of(100))
    )
    story.at("2027-06-01T00:00:00.000000Z")
    assert story.read().account.period_start == NEXT_END


CATALOGS = {
    "month": of(100),
    "more": of(150),
    "ten days": of(30, 'interval = "10d"'),
    "gone": catalog("[plans.q]\nallowance.credits = 1"),
}


@pytest.mark.parametrize("names", [("month", "ten days", "more"), ("ten days", "month", "ten days"), ("more", "gone")])
@pytest.mark.parametrize("days", [1, 29, 30, 31, 45, 61, 92, 200])
def test_whoever_looks_late_finds_the_period_of_whoever_looked_every_day(names: tuple[str, ...], days: int) -> None:
    instants = ["2026-11-20T00:00:00.000000Z", "2026-12-12T00:00:00.000000Z", "2027-01-31T12:00:00.000000Z"]
    in_force = [("month", LONG_AGO), *zip(names, instants, strict=False)]
    had = [(at, CATALOGS[name]) for name, at in in_force]
    often, late = (on(CATALOGS["month"]).having_had(*had) for _ in range(2))
    often.thorough = False
    for _ in range(days):
        often.after(days=1)
        if often.read().account.period_start != often.state.account.period_start:
            often.when(change_plan("p"))
    late.after(days=days)
    seen, found = often.read().account, late.read().account
    assert (found.period_start, found.period_end, found.anchor) == (seen.period_start, seen.period_end, seen.anchor)
    assert found.allowance == seen.allowance
    assert found.figures == seen.figures


def test_a_ledger_without_a_history_has_the_catalog_that_it_has() -> None:
    present = of(100)
    assert NO_HISTORY.at(Instant(END), present) is present
    assert NO_HISTORY.next_after(Instant(END)) is None
    one = History([Activation(Instant(END), of(200))])
    assert one.at(Instant(LONG_AGO), present).plan("p").allowance == {"credits": 200}
    assert one.next_after(Instant(LONG_AGO)) is None


def test_the_past_is_read_under_the_catalog_of_the_past() -> None:
    """What a read answers at an instant does not change when another catalog comes into force later."""
    story = on(of(100)).at("2026-12-02T00:00:00.000000Z")
    then = story.read().account
    story.having_had((LONG_AGO, of(100)), ("2026-12-05T00:00:00.000000Z", of(500)))
    again = due_facts(story.state, story.now, story.history.at(story.now, story.catalog), story.history)[0]
    assert again.account.figures == then.figures
