"""Laws of going down, waiting, overriding and resetting: no order of changes grants more than the largest allowance."""

from __future__ import annotations

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import ValidationError

from events.commands import parse_command
from tests.domain.scenario import Story, given, new
from tests.domain.shop import (
    catalog,
    change_plan,
    consume,
    direct,
    granted,
    limits,
    opened,
    refund,
    release,
    reserve,
    reset_usage,
)

LADDER = catalog(
    """
    default_plan = "low"
    [units.minutes]
    [capacities.jobs]
    [plans.low]
    rank = 0
    allowance = { credits = 40, minutes = 5 }
    capacity.jobs = 1
    [plans.mid]
    rank = 1
    allowance.credits = 100
    capacity.jobs = 2
    overdraft_limit = 30
    [plans.top]
    rank = 2
    allowance = { credits = 150, minutes = 10 }
    overdraft_limit = 30
    [plans.year]
    rank = 3
    interval = "year"
    allowance.credits = 1000
    [plans.smallyear]
    rank = 0
    interval = "year"
    allowance.credits = 300
    [plans.paid]
    rank = 2
    renewal = "external"
    allowance.credits = 150
    [operations.image]
    each = "1"
    [operations.render]
    each = "1"
    occupies.jobs = 1
    """
)
END = "2026-12-01T09:30:00.000000Z"


def on(plan: str = "top") -> Story:
    return given(opened(plan), catalog=LADDER)


class TestDown:
    def test_without_a_word_about_when_it_waits_for_the_next_period(self) -> None:
        story = on().when(change_plan("low", reason="less")).then("scheduled", available=150)
        assert (story.state.account.plan, story.state.account.pending.plan) == ("top", "low")  # type: ignore[union-attr]  # it is pending
        told = story.answered()["plan"]
        assert told["plan"] == "top"
        assert told["pending"] == {
            "plan": "low",
            "effective_at": END,
            "allowance": {"credits": 40, "minutes": 5},
            "capacity": {"jobs": 1},
        }
        assert story.data("scheduled").new_value == {"plan": "low", "from": END}

    def test_the_period_ends_and_it_acts(self) -> None:
        story = on().when(change_plan("low")).then("scheduled").at(END).when(direct(amount=1))
        story.then("direct", due=["renewed", "expired", "expired", "plan", "plan"], available=39)
        assert (story.data("renewed").from_, story.data("renewed").to) == ("top", "low")
        assert story.state.account.pending is None

    def test_at_once_it_takes_back_what_is_more(self) -> None:
        story = on().when(change_plan("low", when="now")).then("changed", "revoked", "revoked", available=40)
        story.balance("minutes", available=5)
        assert (story.data("revoked").amount, story.data("revoked").take_back) == (-110, "change")
        assert story.state.account.reclaim == {}

    def test_what_was_consumed_is_not_taken_from_anything_else(self) -> None:
        story = on().when(granted("gift", 70)).when(direct(amount=130)).then("direct", available=90)
        story.when(change_plan("low", when="now")).then("changed", "revoked", "revoked", available=70, debt=0)
        assert story.state.account.reclaim == {"credits": 90}
        assert story.data("changed").reclaim == {"credits": 90}

    def test_what_a_hold_returns_is_revoked_until_the_rest_is_reclaimed(self) -> None:
        story = on().when(reserve("a", amount=100)).when(reserve("b", amount=50)).then("hold", available=0)
        story.when(change_plan("low", when="now")).then("changed", "revoked")  # the minutes
        assert story.state.account.reclaim == {"credits": 110}
        story.when(release("a")).then("release", "revoked", available=0)
        assert (story.data("revoked").amount, story.data("revoked").take_back) == (-100, "reclaim")
        story.when(release("b")).then("release", "revoked", available=40)
        assert story.state.account.reclaim == {}

    def test_what_expires_with_a_hold_is_revoked_as_well(self) -> None:
        story = on().when(reserve(amount=150)).when(change_plan("low", when="now")).after(hours=1)
        story.when(granted("g", 1)).then("promo", due=["hold_expired", "revoked"], available=41)

    def test_what_a_refund_returns_is_revoked_until_the_rest_is_reclaimed(self) -> None:
        story = on().when(direct(amount=150)).when(change_plan("low", when="now")).then("changed", "revoked")
        story.when(refund(amount=100)).then("consumption", "revoked", available=0)
        story.when(refund()).then("consumption", "revoked", available=40)

    def test_it_is_revoked_before_any_debt_is_repaid(self) -> None:
        story = on("mid").when(reserve("a", amount=60)).when(reserve("b", amount=40))
        story.when(consume("a", amount=80)).then("settle", debt=20, available=0)
        story.when(change_plan("low", when="now")).then("changed", "plan")  # of minutes
        assert story.state.account.reclaim == {"credits": 60}
        story.when(release("b")).then("release", debt=20, available=0)
        assert [(part.grant_id, part.amount) for part in story.data("release").reclaimed] == [("new1:1", 40)]
        assert story.state.account.reclaim == {"credits": 20}
        story.when(refund("a", amount=50)).then("consumption", "revoked", debt=0, available=10)

    def test_limits_act_on_new_holds_at_once(self) -> None:
        story = on("mid").when(reserve("a", operation="render")).when(reserve("b", operation="render"))
        story.when(change_plan("low", when="now")).then("changed", "revoked", "plan")
        story.when(reserve("c", operation="render")).then_refused("capacity_exceeded", used=2, limit=1)


class TestUpAgain:
    def test_up_down_and_up_again_gains_nothing(self) -> None:
        story = on("low").when(change_plan("top")).then("changed", "plan", "plan", available=150)
        story.when(change_plan("low", when="now")).then("changed", "revoked", "revoked", available=40)
        story.when(change_plan("top")).then("changed", "plan", "plan", available=150)

    def test_nor_when_everything_was_consumed_between(self) -> None:
        story = on("top").when(direct(amount=150)).when(change_plan("low", when="now")).then("changed", "revoked")
        story.when(change_plan("top")).then("changed", "plan", available=0)
        assert story.state.account.reclaim == {}
        story.when(change_plan("mid", when="now")).then("changed", "revoked", "revoked", available=0)  # of minutes
        assert story.state.account.reclaim == {"credits": 50}
        story.when(change_plan("top")).then("changed", "plan", available=0)

    def test_an_upgrade_lowers_what_is_reclaimed_before_it_grants(self) -> None:
        story = (
            on("top")
            .when(direct(amount=120))
            .when(change_plan("low", when="now"))
            .then("changed", "revoked", "revoked")
        )
        assert story.state.account.reclaim == {"credits": 80}
        story.when(change_plan("mid")).then("changed", available=0)
        assert story.state.account.reclaim == {"credits": 20}
        story.when(change_plan("top")).then("changed", "plan", "plan", available=30)
        assert story.state.account.reclaim == {}

    @settings(max_examples=150, deadline=None)
    @for_all(
        st.lists(
            st.tuples(
                st.sampled_from(["low", "mid", "top"]),
                st.sampled_from(["now", "next_period"]),
                st.integers(0, 60),
                st.sampled_from(["spend", "hold", "release", "refund", "reset"]),
            ),
            max_size=12,
        )
    )
    def test_no_sequence_within_a_period_grants_more_than_the_largest_allowance(
        self, steps: list[tuple[str, str, int, str]]
    ) -> None:
        story = Story(LADDER, thorough=False)
        story.attempt(opened("low"))
        largest = {"low": 40, "mid": 100, "top": 150}
        most = 40
        for name, (plan, when, amount, act) in enumerate(steps, 1):
            if story.attempt(change_plan(plan, when=when)) is None and story.state.account.plan == plan:
                most = max(most, largest[plan])
            if act == "spend" and amount:
                story.attempt(direct(f"c{name}", amount=amount))
            elif act == "hold" and amount:
                story.attempt(reserve(f"r{name}", amount=amount))
            elif act == "release":
                story.attempt(release(f"r{amount % name}"))
            elif act == "refund":
                story.attempt(refund(f"c{amount % name}"))
            elif act == "reset":
                story.attempt(reset_usage())
            account = story.state.account
            figures = account.figures["credits"]
            worth = figures.available + figures.reserved - figures.debt + account.usage["credits"].used
            assert worth - account.reclaim.get("credits", 0) <= most
            allowed = account.usage["credits"].allowed - account.reclaim.get("credits", 0)
            assert allowed == largest[str(account.plan)]
        story.check_history()


class TestOnePendingChange:
    def test_a_newer_one_replaces_it(self) -> None:
        story = on().when(change_plan("mid")).then("scheduled").when(change_plan("low")).then("scheduled")
        assert story.state.account.pending.plan == "low"  # type: ignore[union-attr]  # it is pending

    def test_an_immediate_one_drops_it(self) -> None:
        story = (
            on("mid")
            .when(change_plan("low"))
            .then("scheduled")
            .when(change_plan("top"))
            .then("changed", "plan", "plan")
        )
        assert story.state.account.pending is None

    def test_asking_for_the_current_plan_cancels_it_and_grants_nothing(self) -> None:
        story = (
            on().when(change_plan("low")).then("scheduled").when(change_plan("top")).then("cancelled", available=150)
        )
        assert story.data("cancelled").previous_value == {"plan": "top", "pending": "low"}
        story.at(END).when(direct(amount=1)).then("direct", due=["renewed", "expired", "expired", "plan", "plan"])
        assert story.state.account.plan == "top"

    def test_an_upgrade_may_wait_too(self) -> None:
        story = on("low").when(change_plan("top", when="next_period")).then("scheduled", available=40)
        story.at(END).balance(available=150)

    def test_one_whose_plan_left_the_catalog_meanwhile_comes_from_its_snapshot(self) -> None:
        story = on().when(change_plan("low")).then("scheduled").at(END)
        story.under(catalog("[units.minutes]\n[plans.top]")).balance(available=40).balance("minutes", available=5)

    def test_another_interval_begins_where_the_period_ends(self) -> None:
        story = on().when(change_plan("year", when="next_period")).then("scheduled").at(END).balance(available=1000)
        account = story.read().account
        assert (account.anchor, account.period_end) == (END, "2027-12-01T09:30:00.000000Z")


class TestReset:
    def test_a_new_period_and_anchor_start_with_the_full_allowance(self) -> None:
        story = on("low").when(direct(amount=30)).after(days=10)
        story.when(change_plan("top", mode="reset", reference="pay_1"))
        story.then("changed", "revoked", "revoked", "plan", "plan", available=150)
        account = story.state.account
        assert (account.anchor, account.period_start) == (story.now, story.now)
        assert account.period_end == "2026-12-11T09:30:00.000000Z"
        assert (account.usage["credits"].used, account.usage["credits"].allowed) == (0, 150)

    def test_it_counts_once_for_each_payment(self) -> None:
        story = on("low").when(change_plan("top", mode="reset", reference="pay_1"))
        story.when(direct(amount=100)).after(days=3).when(change_plan("top", mode="reset", reference="pay_1"))
        story.then_counted_before(reference="pay_1").balance(available=50)
        story.when(change_plan("top", mode="reset", reference="pay_2")).then("changed", *["revoked"] * 2, *["plan"] * 2)

    def test_a_change_of_interval_takes_one(self) -> None:
        story = on("low")
        story.when(change_plan("year")).then_refused("invalid_request")
        story.when(change_plan("year", mode="carry_usage")).then_refused("invalid_request")
        story.when(change_plan("year", mode="reset", reference="p")).then(
            "changed", *["revoked"] * 2, "plan", available=1000
        )
        assert story.state.account.period_end == "2027-11-01T09:30:00.000000Z"
        story.when(change_plan("smallyear", mode="reset", reference="q")).then_refused("invalid_request")
        story.when(change_plan("low", mode="reset", reference="q")).then(
            "changed", "revoked", "plan", "plan", available=40
        )

    def test_it_acts_at_once_or_not_at_all(self) -> None:
        story = on("low").when(change_plan("top", mode="reset", when="next_period", reference="p"))
        story.then_refused("invalid_request")

    def test_it_needs_the_reference_of_a_payment(self) -> None:
        for body in (b'{"account":"a","plan":"top","mode":"reset"}', b'{"account":"a","mode":"reset","reference":"p"}'):
            with pytest.raises(ValidationError):
                parse_command("change_plan", body, on_reservation=False)

    def test_what_a_hold_returns_later_to_the_old_plan_is_revoked(self) -> None:
        story = on("low").when(reserve(amount=30)).when(change_plan("mid", mode="reset", reference="p"))
        story.then("changed", "revoked", "revoked", "plan", available=100)
        story.when(release()).then("release", "revoked", available=100)
        assert story.state.account.usage["credits"].allowed == 100

    def test_a_refund_of_what_the_old_period_consumed_leaves_the_new_usage_alone(self) -> None:
        story = on("low").when(direct(amount=30)).when(change_plan("mid", mode="reset", reference="p"))
        story.when(direct("d", amount=5)).when(refund()).then("consumption", "revoked", available=95)
        assert story.state.account.usage["credits"].used == 5


class TestLimits:
    def test_an_override_acts_at_once_and_null_restores(self) -> None:
        story = (
            on("mid").when(limits(allowance={"credits": 130}, reason="goodwill")).then("limits", "plan", available=130)
        )
        assert story.data("limits").previous_value == {"allowance": {"credits": 100}}
        assert story.data("limits").new_value == {"allowance": {"credits": 130}}
        story.when(limits(allowance={"credits": None})).then("limits", "revoked", available=100)
        story.when(limits(allowance={"credits": 130})).then("limits", "plan", available=130)

    def test_of_a_capacity_as_well(self) -> None:
        story = on("low").when(limits(capacity={"jobs": 2})).then("limits")
        story.when(reserve("a", operation="render")).when(reserve("b", operation="render")).then("hold")
        story.when(limits(capacity={"jobs": None})).then("limits")
        story.when(reserve("c", operation="render")).then_refused("capacity_exceeded", limit=1)
        story.when(limits(capacity={"jobs": 0})).then("limits")
        assert story.data("limits").previous_value == {"capacity": {"jobs": 1}}

    def test_it_survives_renewals_until_the_next_change_of_plan(self) -> None:
        story = on("mid").when(limits(allowance={"credits": 7, "minutes": 3}, capacity={"jobs": 9}))
        story.then("limits", "revoked", "plan", available=7)
        story.at(END).balance(available=7).balance("minutes", available=3)
        assert story.read().account.capacity == {"jobs": 9}
        story.when(change_plan("top")).then(
            "changed", "plan", "plan", due=["renewed", "expired", "expired", "plan", "plan"]
        )
        story.balance(available=150).balance("minutes", available=10)
        assert story.state.account.capacity == {}

    def test_it_can_come_with_a_plan(self) -> None:
        story = on("low").when(change_plan("mid", allowance={"credits": 110}, capacity={"jobs": 5}))
        story.then("changed", "plan", available=110)
        assert story.state.account.capacity == {"jobs": 5}
        assert story.data("changed").new_value == {
            "plan": "mid",
            "allowance": {"credits": 110},
            "capacity": {"jobs": 5},
        }

    def test_only_what_is_named_moves(self) -> None:
        story = on("top").under(catalog("[units.minutes]\n[capacities.jobs]\n[plans.top]\nallowance.credits = 900"))
        story.when(limits(allowance={"minutes": 12})).then("limits", "plan", available=150)
        story.balance("minutes", available=12)

    def test_it_may_open_an_account(self) -> None:
        new(LADDER).when(limits(allowance={"credits": 3})).then("opened", "plan", "plan", available=3)

    def test_a_change_that_waits_goes_on_waiting(self) -> None:
        story = on("top").when(change_plan("low")).when(limits(capacity={"jobs": 4})).then("limits")
        assert story.state.account.pending is not None
        story.when(limits(capacity={"jobs": 5}, when="next_period")).then("scheduled")
        story.at(END).balance(available=40)
        assert story.read().account.capacity == {"jobs": 5}

    def test_the_same_again_changes_nothing(self) -> None:
        on("mid").when(limits(capacity={"jobs": 4})).when(limits(capacity={"jobs": 4})).then("unchanged")

    def test_what_the_catalog_does_not_know_is_refused(self) -> None:
        on().when(limits(allowance={"gold": 1})).then_refused("invalid_request")
        on().when(limits(capacity={"gold": 1})).then_refused("invalid_request")

    @pytest.mark.parametrize("value", [b"-1", b"1.5", b'"5"', b"9007199254740992"])
    def test_bad_limits_are_refused(self, value: bytes) -> None:
        with pytest.raises(ValidationError):
            parse_command("change_plan", b'{"account":"a","capacity":{"jobs":%b}}' % value, on_reservation=False)
