"""Laws of plans, as far as they go upwards: the difference at once, period and usage kept, nothing to gain by turns."""

from __future__ import annotations

import pytest

from tests.domain.scenario import Story, given
from tests.domain.shop import catalog, change_plan, consume, direct, granted, opened, reserve

LADDER = catalog(
    """
    [units.minutes]
    [capacities.jobs]
    [plans.a]
    rank = 1
    allowance.credits = 100
    capacity.jobs = 1
    [plans.b]
    rank = 1
    allowance.credits = 80
    [plans.c]
    rank = 2
    allowance = { credits = 150, minutes = 10 }
    capacity.jobs = 3
    overdraft_limit = 50
    [plans.year]
    rank = 3
    interval = "year"
    [operations.image]
    each = "1"
    """
)


def on_a() -> Story:
    return given(opened("a"), catalog=LADDER)


def test_an_upgrade_grants_the_difference_at_once() -> None:
    story = on_a().when(change_plan("c", reason="more")).then("changed", "plan", "plan", available=150)
    story.balance("minutes", available=10)
    assert (story.data("plan").amount, story.data("plan", 1).amount) == (50, 10)
    assert (story.data("changed").from_, story.data("changed").to, story.data("changed").reason) == ("a", "c", "more")
    assert story.data("changed").previous_value == {"plan": "a"}
    assert story.data("changed").new_value == {"plan": "c"}


def test_the_period_its_anchor_and_the_usage_stay() -> None:
    story = on_a().when(direct(amount=30)).then("direct").after(days=10)
    start, end = story.state.account.period_start, story.state.account.period_end
    story.when(change_plan("c")).then("changed", "plan", "plan", available=120)
    data = story.data("changed")
    assert (data.period_start, data.period_end, data.anchor) == (start, end, start)
    assert story.data("plan").expires_at == end
    assert story.state.account.usage["credits"].used == 30


def test_an_upgrade_to_the_same_rank_grants_nothing_when_the_allowance_is_no_larger() -> None:
    on_a().when(change_plan("b")).then("changed", available=100)


def test_to_and_fro_gains_nothing() -> None:
    story = on_a()
    for plan in ("b", "a", "b", "a"):
        story.when(change_plan(plan)).then("changed", available=100)
    story.when(change_plan("c")).then("changed", "plan", "plan", available=150)


def test_what_was_consumed_counts_as_granted() -> None:
    story = on_a().when(direct(amount=100)).then("direct", available=0)
    story.when(change_plan("c")).then("changed", "plan", "plan", available=50)


def test_other_grants_do_not_count_as_allowance() -> None:
    story = on_a().when(granted("g", 70)).then("promo")
    story.when(change_plan("c")).then("changed", "plan", "plan", available=220, bonus=70)


def test_asking_for_the_current_plan_grants_nothing() -> None:
    story = on_a().when(direct(amount=40)).then("direct")
    story.when(change_plan("a")).then("unchanged", available=60)
    assert story.data("unchanged").previous_value == story.data("unchanged").new_value == {"plan": "a"}


def test_asking_for_the_current_plan_grants_nothing_even_when_the_catalog_grew() -> None:
    grown = catalog("[plans.a]\nallowance.credits = 500")
    on_a().under(grown).when(change_plan("a")).then("unchanged", available=100)


def test_an_unknown_plan_is_not_found() -> None:
    on_a().when(change_plan("gold")).then_refused("plan_not_found", plan="gold", plans=["a", "b", "c", "year"])


def test_the_new_plans_limits_and_policies_act_at_once() -> None:
    story = on_a().when(reserve("r1", amount=0, occupies={"jobs": 1})).then("hold")
    story.when(reserve("r2", amount=0, occupies={"jobs": 1})).then_refused("capacity_exceeded")
    story.when(change_plan("c")).then("changed", "plan", "plan")
    story.when(reserve("r2", amount=0, occupies={"jobs": 2})).then("hold")
    assert story.data("hold").occupies == {"jobs": 2}


def test_the_answer_tells_the_plan() -> None:
    told = on_a().when(change_plan("c")).then("changed", "plan", "plan").answered()
    assert told["plan"] == {
        "plan": "c",
        "period_start": "2026-11-01T09:30:00.000000Z",
        "period_end": "2026-12-01T09:30:00.000000Z",
        "pending": None,
        "allowance": {"credits": 150, "minutes": 10},
        "capacity": {"jobs": 3},
    }
    assert told["balance"]["unit"] == "credits"


def test_the_answer_to_a_first_plan_tells_the_credits() -> None:
    told = given(opened("c"), catalog=LADDER).answered()
    assert (told["plan"]["plan"], told["balance"]["unit"], told["balance"]["available"]) == ("c", "credits", 150)


def test_an_upgrade_repays_debt_first() -> None:
    story = given(opened("basic"), reserve(amount=120)).when(change_plan("pro")).then("changed", "plan")
    story.when(consume(amount=340)).then("settle", debt=20, available=0)
    bigger = catalog("[units.minutes]\n[plans.pro]\nrank = 2\n[plans.max]\nrank = 3\nallowance.credits = 330")
    story.under(bigger).when(change_plan("max")).then("changed", "plan", debt=0, available=10)
    assert story.data("plan").debt_repaid == 20


@pytest.mark.parametrize("plan", ["year"])
def test_a_change_of_interval_at_once_is_refused(plan: str) -> None:
    on_a().when(change_plan(plan)).then_refused("invalid_request")
