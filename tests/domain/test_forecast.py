"""Laws of the forecast: what it says comes true when the work goes on at the same pace (FEATURES.md X10)."""

from __future__ import annotations

from events.catalog import parse_catalog
from events.decide import due_facts
from events.forecast import Forecast, Pace, forecast
from events.instants import Instant, plus
from tests.domain.scenario import Story, given
from tests.domain.shop import START, direct, granted, opened, reserve, status

DAY = 86_400
MONTHLY = parse_catalog(
    """
    version = "1"
    default_plan = "monthly"
    [plans.monthly]
    rank = 0
    interval = "30d"
    allowance.credits = 30
    rollover = { share = "0.5", cap = 10 }
    [operations.image]
    each = "1"
    """
)


def after(story: Story, *, days: int, **used: int) -> Forecast:
    """The forecast for a day's work by operation; `any` names none."""
    by_operation = {None if name == "any" else name: amount for name, amount in used.items()}
    return forecast(
        due_facts(story.state, story.now, story.catalog)[0],
        Pace("credits", by_operation, DAY),
        story.now,
        plus(story.now, seconds=days * DAY),
        story.catalog,
    )


def at(days: int) -> Instant:
    return plus(START, seconds=days * DAY)


def test_credits_that_are_not_renewed_run_out_at_the_pace_of_the_work() -> None:
    story = given(opened("bare"), granted("gift", 100))
    told = after(story, days=90, any=8)
    assert told == Forecast(Instant("2026-11-13T21:30:00.000000Z"), (), at(90))


def test_without_work_nothing_runs_out_and_what_ends_is_lost() -> None:
    story = given(opened("bare"), granted("gift", 100, expires_at=at(20)), granted("kept", 7))
    told = after(story, days=90)
    assert told.run_out_at is None
    assert [(each.at, each.grant_id, each.amount) for each in told.expiring] == [(at(20), "gift", 100)]


def test_what_work_will_use_in_time_is_not_said_to_expire() -> None:
    story = given(opened("bare"), granted("gift", 100, expires_at=at(20)))
    assert [each.amount for each in after(story, days=90, any=4).expiring] == [20]
    assert after(story, days=90, any=5).expiring == ()
    assert after(story, days=19, any=1).expiring == ()


def test_a_renewal_comes_in_time_or_too_late() -> None:
    story = given(opened("monthly"), catalog=MONTHLY)
    assert after(story, days=360, any=1).run_out_at is None
    assert after(story, days=360, any=2).run_out_at == at(15)


def test_what_rolls_over_is_counted_and_what_does_not_expires() -> None:
    told = after(given(opened("monthly"), catalog=MONTHLY), days=65)
    assert [(each.at, each.amount) for each in told.expiring] == [(at(30), 20), (at(60), 10), (at(60), 20)]
    assert [each.grant_id is None for each in told.expiring] == [False, True, True]


def test_credits_for_an_operation_are_used_by_it_alone() -> None:
    story = given(opened("bare"), granted("images", 50, operations=("image",)), granted("all", 10))
    assert after(story, days=90, image=1).run_out_at == at(60)
    assert after(story, days=90, any=1).run_out_at == at(10)


def test_open_holds_are_taken_for_work_that_is_charged() -> None:
    story = given(opened("bare"), granted("gift", 100), reserve("r", amount=60))
    assert after(story, days=90, any=4).run_out_at == at(10)


def test_a_frozen_account_uses_nothing() -> None:
    story = given(opened("bare"), granted("gift", 10), status("frozen"))
    assert after(story, days=90, any=1).run_out_at is None


def test_a_forecast_leaves_the_account_as_it_was() -> None:
    story = given(opened("monthly"), direct("c", amount=5), catalog=MONTHLY)
    before = story.state.account.figures["credits"]
    after(story, days=90, any=1)
    assert story.state.account.figures["credits"] == before


def test_a_forecast_of_very_short_periods_ends_and_says_when() -> None:
    seconds = parse_catalog('version = "1"\n[plans.p]\nrank = 0\ninterval = "1s"\nallowance.credits = 1')
    told = after(given(opened("p"), catalog=seconds), days=90)
    assert told.until < plus(START, seconds=500)
