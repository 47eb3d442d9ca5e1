"""Laws of alerts: what is told at which crossing, that it is told once, and what time alone brings about."""

from __future__ import annotations

from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from events.commands import Command
from events.instants import Instant, plus
from projections.alerts import Alert, Raised, Timer, Watched, due_alert, fold
from tests.domain.scenario import Story, given, new
from tests.domain.shop import (
    ACCOUNT,
    adjust,
    catalog,
    change_plan,
    consume,
    direct,
    extend,
    granted,
    opened,
    refund,
    release,
    renew,
    reserve,
    status,
)

SHOP = catalog(
    """
    [capacities.jobs]
    [plans.bare]
    rank = 0
    [plans.month]
    rank = 1
    allowance.credits = 100
    [plans.half]
    rank = 2
    allowance.credits = 100
    low_balance_percent = 50
    [plans.never]
    rank = 1
    allowance.credits = 100
    low_balance_percent = 0
    [plans.busy]
    rank = 1
    allowance.credits = 100
    capacity.jobs = 2
    [plans.paid]
    rank = 1
    allowance.credits = 100
    renewal = "external"
    """
)


def raised(story: Story) -> list[Raised]:
    """All that was raised in a story."""
    return fold({}, [line.event for line in story.log], None).raised


def kinds(story: Story) -> list[str]:
    return [each.alert.kind for each in raised(story)]


def last(story: Story) -> Alert:
    return raised(story)[-1].alert


def timers(story: Story) -> list[Timer]:
    return [timer for _, timer in fold({}, [line.event for line in story.log], None).timers]


def on(plan: str, *commands: Command) -> Story:
    return given(opened(plan), *commands, catalog=SHOP)


class TestABalance:
    def test_that_falls_to_the_threshold_is_low(self) -> None:
        assert kinds(on("month", direct("a", amount=79))) == []
        story = on("month", direct("a", amount=80))
        assert kinds(story) == ["low_balance"]
        alert = last(story)
        assert (alert.unit, alert.available, alert.threshold, alert.plan) == ("credits", 20, 20, "month")
        assert alert.event == story.log[-1].event.id

    def test_has_the_percent_of_its_plan(self) -> None:
        assert kinds(on("half", direct("a", amount=50))) == ["low_balance"]
        assert kinds(on("never", direct("a", amount=99))) == []

    def test_that_is_low_is_told_once_until_it_recovers(self) -> None:
        story = on("month", direct("a", amount=80), direct("b", amount=5), refund("b"))
        assert kinds(story) == ["low_balance"]
        story.when(refund("a")).when(direct("c", amount=80))
        assert kinds(story) == ["low_balance", "recovered", "low_balance"]

    def test_that_falls_from_enough_to_nothing_is_exhausted_and_not_low(self) -> None:
        assert kinds(on("month", direct("a", amount=100))) == ["exhausted"]

    def test_that_falls_step_by_step_is_low_then_exhausted(self) -> None:
        assert kinds(on("month", direct("a", amount=90), direct("b", amount=10))) == ["low_balance", "exhausted"]

    def test_that_is_exhausted_by_the_first_command_of_an_account_is_told(self) -> None:
        story = Story(
            catalog(
                """
                default_plan = "tiny"
                [plans.tiny]
                rank = 0
                allowance.credits = 5
                """
            )
        )
        assert kinds(story.when(direct("a", amount=5))) == ["exhausted"]

    def test_that_has_credits_again_has_recovered_though_it_is_low(self) -> None:
        story = on("month", direct("a", amount=100), refund("a", amount=1))
        assert kinds(story) == ["exhausted", "recovered"]
        assert (last(story).available, last(story).threshold) == (1, 20)
        story.when(refund("a", amount=60))
        assert kinds(story) == ["exhausted", "recovered"]
        story.when(direct("b", amount=61))
        assert kinds(story) == ["exhausted", "recovered", "exhausted"]

    def test_that_never_had_anything_is_not_exhausted(self) -> None:
        assert kinds(on("bare", change_plan("bare"))) == []

    def test_is_measured_against_what_there_was_after_the_last_grant(self) -> None:
        story = on("bare", granted("pack", 1000, kind="purchase"), direct("a", amount=799))
        assert kinds(story) == []
        story.when(direct("b", amount=1))
        assert (kinds(story), last(story).threshold) == (["low_balance"], 200)
        assert kinds(story.when(granted("next", 500, kind="purchase"))) == ["low_balance", "recovered"]

    def test_is_measured_against_the_allowance_when_that_is_more(self) -> None:
        story = on("month", direct("a", amount=95), granted("gift", 1))
        assert kinds(story) == ["low_balance"]

    def test_counts_what_is_held_as_gone_until_it_returns(self) -> None:
        story = on("month", reserve("r", amount=100))
        assert kinds(story) == ["exhausted"]
        assert kinds(story.when(release("r"))) == ["exhausted", "recovered"]

    def test_that_a_renewal_takes_and_gives_again_was_never_exhausted(self) -> None:
        story = on("month", direct("a", amount=10)).after(days=31)
        story.when(direct("b", amount=1))
        assert kinds(story) == []

    def test_that_a_renewal_fills_has_recovered(self) -> None:
        story = on("month", direct("a", amount=100)).after(days=31).when(direct("b", amount=1))
        assert kinds(story) == ["exhausted", "recovered"]


class TestACapacity:
    def test_that_is_full_is_told_once_until_there_is_room(self) -> None:
        story = on("busy", reserve("a", amount=0, occupies={"jobs": 1}))
        assert kinds(story) == []
        story.when(reserve("b", amount=0, occupies={"jobs": 1}))
        assert kinds(story) == ["capacity_reached"]
        assert (last(story).capacity, last(story).used, last(story).limit) == ("jobs", 2, 2)
        story.when(extend("b", ttl_seconds=600))
        assert kinds(story) == ["capacity_reached"]
        story.when(release("a")).when(reserve("c", amount=0, occupies={"jobs": 1}))
        assert kinds(story) == ["capacity_reached", "capacity_reached"]

    def test_follows_what_holds_occupy_from_their_extensions_to_their_ends(self) -> None:
        story = on("busy", reserve("a", amount=2, occupies={"jobs": 1}), extend("a", occupies={"jobs": 2}))
        assert kinds(story) == ["capacity_reached"]
        story.when(extend("a", occupies={"jobs": 0})).when(consume("a"))
        story.when(reserve("b", amount=0, occupies={"jobs": 1}))
        assert kinds(story) == ["capacity_reached"]
        story.after(days=1).when(reserve("c", amount=0, occupies={"jobs": 1}))
        assert kinds(story) == ["capacity_reached"], "the other hold has expired"

    def test_that_a_smaller_plan_fills_is_told(self) -> None:
        holds = [reserve(name, amount=0, occupies={"jobs": 1}) for name in "abc"]
        story = on("month", *holds)
        assert kinds(story.when(change_plan("busy"))) == ["capacity_reached"]


class TestTime:
    def test_tells_of_a_grant_a_week_before_its_end_when_something_is_left(self) -> None:
        story = on("bare", granted("promo", 10, expires_at="2026-12-01T00:00:00Z"))
        (timer,) = timers(story)
        assert timer == Timer(ACCOUNT, "grant_expiring", "promo", Instant("2026-11-24T00:00:00.000000Z"))
        told = due_alert(timer, story.state.account, timer.at)
        assert told is not None
        assert (told.alert.remaining, told.alert.expires_at) == (10, "2026-12-01T00:00:00.000000Z")
        story.when(direct("a", amount=10))
        assert due_alert(timer, story.state.account, timer.at) is None

    def test_tells_nothing_of_a_grant_that_has_ended_or_of_a_closed_account(self) -> None:
        story = on("bare", granted("promo", 10, expires_at="2026-12-01T00:00:00Z"))
        (timer,) = timers(story)
        assert due_alert(timer, story.state.account, Instant("2026-12-01T00:00:00.000000Z")) is None
        story.when(status("closed"))
        assert due_alert(timer, story.state.account, timer.at) is None

    def test_says_nothing_of_what_ends_with_its_period(self) -> None:
        assert timers(on("month")) == []

    def test_looks_at_a_short_grant_at_once(self) -> None:
        story = on("bare", granted("promo", 10, expires_at="2026-11-02T00:00:00Z"))
        assert timers(story)[0].at <= story.now

    def test_tells_of_a_payment_that_is_due_from_when_it_can_be_made(self) -> None:
        story = on("paid")
        timer = timers(story)[-1]
        assert timer.at == plus(story.state.account.period_end, seconds=-3 * 86_400)
        told = due_alert(timer, story.state.account, timer.at)
        assert told is not None and told.alert.period_end == story.state.account.period_end
        story.at(timer.at).when(renew("invoice-1"))
        assert due_alert(timer, story.state.account, timer.at) is None, "it is paid"

    def test_tells_of_each_period_once(self) -> None:
        story = on("paid").after(days=29).when(renew("invoice-1")).after(days=3).when(direct("a", amount=1))
        ids = {
            due.id for timer in timers(story) if (due := due_alert(timer, story.state.account, story.now)) is not None
        }
        assert len(ids) == 1


steps = st.lists(
    st.tuples(st.sampled_from(["spend", "refund", "grant", "adjust", "hold", "release", "month"]), st.integers(1, 60)),
    max_size=25,
)


@settings(max_examples=60)
@for_all(steps, st.integers(1, 7))
def test_no_alert_comes_twice_without_its_opposite_whatever_happens(taken: list[tuple[str, int]], size: int) -> None:
    """And it is the same whether events come one by one, in batches, or again from the beginning."""
    story = new(SHOP)
    story.thorough = False
    story.attempt(opened("month"))
    for number, (what, amount) in enumerate(taken):
        commands: dict[str, Command] = {
            "spend": direct(f"c{number}", amount=amount),
            "refund": refund(f"c{max(0, number - amount % 5 - 1)}"),
            "grant": granted(f"g{number}", amount),
            "adjust": adjust(-amount, insufficient="debt" if amount % 2 else "clamp"),
            "hold": reserve(f"r{number}", amount=amount),
            "release": release(f"r{max(0, number - amount % 5 - 1)}"),
        }
        if what == "month":
            story.after(days=amount)
        else:
            story.attempt(commands[what])
    events = [line.event for line in story.log]
    whole = raised(story)
    pieces: dict[str, Watched] = {}
    told = [
        each
        for at in range(0, len(events), size)
        for each in fold(pieces, events[at : at + size], next(iter(events[at + size :]), None)).raised
    ]
    assert told == whole
    before = "recovered"
    opposite = {"low_balance": {"recovered"}, "exhausted": {"recovered", "low_balance"}}
    for each in whole:
        assert before in opposite.get(each.alert.kind, {"low_balance", "exhausted"})
        before = each.alert.kind
    figures = story.state.account.figures["credits"]
    if figures.available <= 0:
        assert before == "exhausted"
    assert len({each.id for each in whole}) == len(whole)
