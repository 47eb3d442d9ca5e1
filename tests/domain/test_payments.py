"""Laws of `renew`: a payment counts once, for the period it is for, whether it comes early, late or twice."""

from __future__ import annotations

import pytest

from tests.domain.scenario import Story, given
from tests.domain.shop import catalog, change_plan, direct, granted, opened, renew, reserve

SHOP = catalog(
    """
    [units.minutes]
    [plans.free]
    rank = 0
    allowance.credits = 20
    [plans.paid]
    rank = 1
    renewal = "external"
    allowance = { credits = 100, minutes = 5 }
    rollover = { share = "0.5", cap = 1000 }
    [plans.more]
    rank = 2
    renewal = "external"
    allowance = { credits = 300, minutes = 5 }
    [plans.short]
    rank = 1
    renewal = "external"
    interval = "4d"
    allowance.credits = 9
    [plans.yearly]
    rank = 1
    renewal = "external"
    interval = "year"
    allowance.credits = 1000
    """
)
START = "2026-11-01T09:30:00.000000Z"
END = "2026-12-01T09:30:00.000000Z"
NEXT_END = "2027-01-01T09:30:00.000000Z"


def on(plan: str = "paid") -> Story:
    return given(opened(plan, reference="first"), catalog=SHOP)


class TestWaiting:
    def test_without_a_payment_the_allowance_ends_some_days_after_the_period(self) -> None:
        story = on().at("2026-12-04T09:29:59.999999Z").balance(available=100)
        story.at("2026-12-04T09:30:00.000000Z").balance(available=0)
        assert story.read().account.period_end == END

    def test_the_period_lasts_until_it_is_followed_by_a_paid_one(self) -> None:
        story = on().at("2026-12-02T00:00:00.000000Z").when(direct(amount=10)).then("direct", available=90)
        assert story.data("direct").period == START
        story.when(renew("second")).then("renewed", *["rollover"] * 2, *["expired"] * 2, *["plan"] * 2, available=145)
        story.balance("minutes", available=5 + 2)
        account = story.state.account
        assert (account.period_start, account.period_end) == (END, NEXT_END)
        assert account.usage["credits"].used == 0
        assert story.data("plan").expires_at == "2027-01-04T09:30:00.000000Z"

    def test_a_payment_months_later_pays_the_present_period_only(self) -> None:
        story = on().at("2027-02-10T00:00:00.000000Z").when(renew("second"))
        story.then("renewed", "plan", "plan", due=["expired", "expired"], available=100)
        assert story.state.account.period_start == "2027-02-01T09:30:00.000000Z"
        story.when(renew("third", END)).then_refused(
            "period_passed", present_period_start="2027-02-01T09:30:00.000000Z"
        )
        story.when(renew("third", START)).then_counted_before(reference="first")

    def test_a_late_payment_repays_debt_first(self) -> None:
        story = on().at("2026-12-05T00:00:00.000000Z").when(granted("g", 3)).when(reserve(amount=3))
        story.when(renew("second")).then("renewed", "plan", "plan", available=100, reserved=3)


class TestOnce:
    def test_the_opening_counts_as_paid(self) -> None:
        story = on().when(renew("first")).then_counted_before(reference="first", period_start=START)
        story.when(renew("other")).then_counted_before(reference="first", period_start=START)
        story.when(renew("other", START)).then_counted_before(reference="first")

    def test_a_payment_told_twice_counts_once_for_ever(self) -> None:
        story = on().at(END).when(renew("second")).when(direct(amount=40)).when(renew("second"))
        story.then_counted_before(reference="second", period_start=END).balance(available=110)
        story.at("2027-05-03T00:00:00.000000Z").when(renew("second")).then_counted_before(period_start=END)
        story.when(renew("third")).then("renewed", "plan", "plan", due=["expired"] * 4)
        story.when(renew("second")).then_counted_before(period_start=END)
        story.when(renew("again", END)).then_counted_before(reference="second")

    def test_two_payments_of_one_period_renew_once(self) -> None:
        on().at(END).when(renew("second")).when(renew("third", END)).then_counted_before(reference="second")

    def test_a_period_is_named_by_its_start_on_the_grid(self) -> None:
        story = on().at(END)
        story.when(renew("second", "2026-12-01T09:30:00.000001Z")).then_refused("invalid_request")
        story.when(renew("second", "2027-02-01T09:30:00Z")).then_refused("invalid_request")
        story.when(renew("second", "1970-01-01T00:00:00Z")).then_refused("invalid_request")
        story.when(renew("second", "9999-12-31T23:59:59Z")).then_refused("invalid_request")
        story.when(renew("second", "2026-10-01T09:30:00Z")).then_refused("period_passed")
        story.when(renew("second", "2026-12-01T10:30:00+01:00")).then(
            "renewed", "rollover", "rollover", *["expired"] * 2, *["plan"] * 2
        )

    def test_an_upgrade_with_a_reference_counts_as_paid(self) -> None:
        story = on().when(change_plan("more", reference="up")).then("changed", "plan", available=300)
        story.when(renew("up")).then_counted_before(reference="up", period_start=START)
        story.when(change_plan("more", reference="up")).then("unchanged", available=300)

    def test_so_does_a_reset(self) -> None:
        story = on().after(days=5).when(change_plan("more", mode="reset", reference="up"))
        story.when(renew("up")).then_counted_before(reference="up", period_start=story.now)
        story.when(renew("other")).then_counted_before(reference="up")

    def test_an_unknown_account_is_not_opened_by_a_payment(self) -> None:
        Story(SHOP).when(renew("first")).then_refused("account_not_found")


class TestAhead:
    def paid_ahead(self) -> Story:
        story = on().at("2026-11-28T09:30:00.000000Z").when(direct(amount=60)).when(renew("second"))
        return story.then("scheduled", "plan", "plan", available=40, scheduled=100)

    def test_shortly_before_the_boundary_the_next_period_is_paid(self) -> None:
        story = self.paid_ahead()
        assert (story.data("plan").starts_at, story.data("plan").expires_at) == (END, "2027-01-04T09:30:00.000000Z")
        assert story.state.account.period_start == START
        assert story.state.account.usage["credits"].allowed == 100
        story.when(renew("second")).then_counted_before(period_start=END)
        story.when(renew("third")).then_counted_before(reference="second", period_start=END)

    def test_the_period_turns_by_itself_then(self) -> None:
        story = self.paid_ahead().at(END).balance(available=120, scheduled=0)
        story.when(direct("d", amount=1)).then(
            "direct", due=["renewed", *["rollover"] * 2, *["expired"] * 2, "activated", "activated"], available=119
        )
        usage = story.state.account.usage["credits"]
        assert (usage.used, usage.allowed) == (1, 100)
        story.when(renew("third", END)).then_counted_before(reference="second")

    def test_not_earlier_and_one_period_at_most(self) -> None:
        story = on().at("2026-11-28T09:29:59.999999Z").when(renew("x")).then_counted_before(reference="first")
        story.when(renew("x", END)).then_refused("invalid_request")
        self.paid_ahead().when(renew("third", NEXT_END)).then_refused("invalid_request")

    def test_of_a_short_period_in_its_last_quarter(self) -> None:
        story = on("short").at("2026-11-04T09:29:59.000000Z").when(renew("x")).then_counted_before(reference="first")
        story.at("2026-11-04T09:30:00.000000Z").when(renew("x")).then("scheduled", "plan", scheduled=9)

    def test_a_change_that_waits_is_what_is_paid(self) -> None:
        story = (
            on().when(change_plan("more", when="next_period")).at("2026-11-29T00:00:00.000000Z").when(renew("second"))
        )
        story.then("scheduled", "plan", "plan", scheduled=300).at(END).balance(available=300 + 50)
        assert story.read().account.plan == "more"

    def test_an_upgrade_after_the_payment_is_made_up_for_at_the_boundary(self) -> None:
        story = self.paid_ahead().when(change_plan("more")).then("changed", "plan", available=240, scheduled=100)
        story.at(END).balance(available=300, scheduled=0)
        assert story.read().account.usage["credits"].allowed == 300

    def test_a_downgrade_after_the_payment_takes_back_what_is_more(self) -> None:
        story = self.paid_ahead().when(change_plan("free")).then("scheduled").at(END)
        story.when(granted("g", 1)).then(
            "promo",
            due=["renewed", *["rollover"] * 2, *["expired"] * 2, "revoked", "revoked", "activated"],
            available=20 + 20 + 1,
        )
        assert story.state.account.usage["credits"].allowed == 20

    def test_two_boundaries_later_the_paid_period_is_over_and_the_next_one_waits(self) -> None:
        story = self.paid_ahead().at("2027-01-02T00:00:00.000000Z").balance(available=100)
        assert story.read().account.period_start == END
        story.at("2027-01-10T00:00:00.000000Z").balance(available=0)
        story.when(renew("third")).then(
            "renewed",
            "plan",
            "plan",
            due=["renewed", *["rollover"] * 2, *["expired"] * 2, "activated", "activated", *["expired"] * 4],
            available=100,
        )


class TestGoingDownToAPlanThatRenewsByItself:
    def test_a_cancellation_acts_at_the_periods_end_without_a_payment(self) -> None:
        story = on().when(change_plan("free")).then("scheduled").at(END).balance(available=20 + 50)
        story.at("2027-01-01T09:30:00.000000Z").balance(available=20)

    def test_when_the_period_is_over_already_it_acts_now(self) -> None:
        story = on().at("2026-12-10T00:00:00.000000Z").when(change_plan("free"))
        story.then("changed", "plan", due=["expired", "expired"], available=20)
        assert story.state.account.period_start == END

    def test_so_does_any_change_at_once(self) -> None:
        story = on().at("2026-12-02T00:00:00.000000Z").when(change_plan("more", reference="second"))
        story.then("changed", *["rollover"] * 2, *["expired"] * 2, *["plan"] * 2, available=350)
        story.when(renew("second")).then_counted_before(reference="second", period_start=END)


class TestPlansThatRenewByThemselves:
    """Webhook and scheduler: whoever comes first, the allowance is granted once and the payment is on record."""

    def test_a_payment_of_a_period_that_began_by_itself_is_booked_and_grants_nothing(self) -> None:
        story = given(opened("free"), catalog=SHOP).at(END).when(renew("second"))
        story.then("unchanged", due=["renewed", "expired", "plan"], available=20)
        story.when(renew("second")).then_counted_before(reference="second", period_start=END)
        story.when(renew("third")).then_counted_before(reference="second")

    def test_a_payment_before_the_boundary_leads_to_the_same_balance(self) -> None:
        story = given(opened("free"), catalog=SHOP).at("2026-11-30T00:00:00.000000Z").when(renew("second"))
        story.then("scheduled", "plan", scheduled=20).at(END).balance(available=20, scheduled=0)
        story.when(renew("second")).then_counted_before(period_start=END)

    @pytest.mark.parametrize("days", [30, 31, 45])
    def test_paid_ahead_and_then_forgotten_it_goes_on_by_itself(self, days: int) -> None:
        story = given(opened("free"), catalog=SHOP).at("2026-11-30T00:00:00.000000Z").when(renew("second"))
        story.after(days=days).balance(available=20, scheduled=0)
