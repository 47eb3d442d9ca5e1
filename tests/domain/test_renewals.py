"""Laws of renewals: the grid of periods, what rolls over, what ends, what was missed, what is held over the boundary."""

from __future__ import annotations

import pytest

from events.commands import parse_command
from events.decide import due_facts
from events.draft import Draft
from events.instants import Instant
from events.renewals import reopen
from tests.domain.scenario import Story, given
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
)

PLANS = """
    [units.minutes]
    [capacities.jobs]
    [plans.month]
    rank = 1
    allowance = { credits = 100, minutes = 10 }
    capacity.jobs = 1
    [plans.roll]
    rank = 1
    allowance.credits = 100
    rollover = { share = "0.35", cap = 30 }
    [plans.clear]
    rank = 1
    allowance.credits = 100
    clear_bonus = true
    trial = { credits = 5 }
    [plans.debt]
    rank = 1
    allowance.credits = 100
    overdraft_limit = 40
    [plans.minute]
    rank = 1
    interval = "90s"
    allowance.credits = 3
    [plans.week]
    rank = 1
    interval = "7d"
    allowance.credits = 50
    [plans.year]
    rank = 1
    interval = "year"
    allowance.credits = 12
    """
SHOP = catalog(PLANS)
END = "2026-12-01T09:30:00.000000Z"


def on(plan: str = "month", at: str = "2026-11-01T09:30:00.000000Z") -> Story:
    return given(opened(plan), catalog=SHOP, at=Instant(at))


def touched(story: Story) -> Story:
    """The story after a command that changes nothing but lets what is due be written."""
    return story.when(change_plan(str(story.state.account.plan)))


class TestTheBoundary:
    def test_the_period_turns_at_its_end_and_not_before(self) -> None:
        story = on().when(direct(amount=60)).at("2026-12-01T09:29:59.999999Z").balance(available=40)
        story.at(END).balance(available=100)
        touched(story).then("unchanged", due=["renewed", "expired", "expired", "plan", "plan"], available=100)
        data = story.data("renewed")
        assert (data.period_start, data.period_end) == (END, "2027-01-01T09:30:00.000000Z")
        assert story.data("plan").expires_at == data.period_end
        assert (story.data("plan").starts_at, story.data("plan").grant_id) == (END, "ledger:7")
        usage = story.state.account.usage["credits"]
        assert (usage.used, usage.charged, usage.allowed) == (0, 0, 100)

    def test_all_of_it_belongs_to_the_system_and_holds_from_the_boundary(self) -> None:
        story = touched(on().at("2026-12-05T00:00:00.000000Z"))
        written = [line.event for line in story.log[3:-1]]
        assert {event.effective_at for event in written} == {END}
        assert {event.command.name for event in written} == {"system"}
        ids = [event.command.id for event in written]
        assert ids[0] == f"renewed:{END}"
        assert len(set(ids)) == len(ids)

    def test_whoever_comes_to_write_it_writes_the_same(self) -> None:
        story = on().at(END)
        one, other = (due_facts(story.state, story.now, story.catalog)[1] for _ in range(2))
        story.when(direct(amount=1))
        assert story.decision is not None
        assert one == other == story.decision.due

    def test_a_caller_cannot_take_the_ledgers_ids(self) -> None:
        with pytest.raises(ValueError, match="ledger's own"):
            parse_command("grant", b'{"account":"a","amount":1,"grant_id":"ledger:6"}', on_reservation=False)

    @pytest.mark.parametrize(
        ("opening", "boundaries"),
        [
            ("2026-01-31T12:00:00", ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
            ("2028-01-31T12:00:00", ["2028-02-29", "2028-03-31", "2028-04-30"]),
            ("2027-12-30T12:00:00", ["2028-01-30", "2028-02-29", "2028-03-30"]),
        ],
    )
    def test_the_grid_is_counted_from_the_anchor_and_clamped_to_the_months_end(
        self, opening: str, boundaries: list[str]
    ) -> None:
        story = on(at=f"{opening}.000000Z")
        for day in boundaries:
            story.at(f"{day}T12:00:00.000000Z")
            touched(story).then("unchanged", due=["renewed", "expired", "expired", "plan", "plan"])
            assert story.state.account.period_start == f"{day}T12:00:00.000000Z"

    def test_a_leap_day_comes_back_every_four_years(self) -> None:
        story = on("year", at="2028-02-29T00:00:00.000000Z")
        for day in ("2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"):
            touched(story.at(f"{day}T00:00:00.000000Z")).then("unchanged", due=["renewed", "expired", "plan"])
            assert story.state.account.period_start == f"{day}T00:00:00.000000Z"

    def test_thirteen_missed_periods_grant_one(self) -> None:
        story = on("roll", at="2026-01-31T12:00:00.000000Z").at("2027-03-15T00:00:00.000000Z").balance(available=100)
        touched(story).then("unchanged", due=["expired", "renewed", "plan"], available=100)
        assert story.data("renewed").period_start == "2027-02-28T12:00:00.000000Z"
        assert story.data("renewed").rolled_over == {}

    def test_a_million_short_periods_take_one_step(self) -> None:
        story = on("minute").at("2029-11-01T09:30:00.000000Z").balance(available=3)
        touched(story).then("unchanged", due=["expired", "renewed", "plan"])

    def test_a_clock_that_jumps_a_day_back_changes_nothing(self) -> None:
        story = touched(on().at(END))
        before = story.state.account
        again, facts = due_facts(story.state, Instant("2026-11-30T09:30:00.000000Z"), story.catalog)
        assert not facts
        assert again.account.figures == before.figures

    def test_a_clock_that_jumps_a_day_ahead_renews_once(self) -> None:
        story = touched(on().at("2026-12-02T09:30:00.000000Z"))
        story.after(hours=0)
        touched(story).then("unchanged", due=[], available=100)

    def test_an_account_that_nobody_uses_is_left_to_its_next_command(self) -> None:
        story = on()
        assert story.state.account.sweep_at == END
        swept, _ = due_facts(story.state, Instant(END), story.catalog)
        assert swept.account.sweep_at is None
        assert swept.account.due_at == "2027-01-01T09:30:00.000000Z"
        story.at(END).when(direct(amount=1))
        assert story.state.account.sweep_at == "2027-01-01T09:30:00.000000Z"


class TestRollover:
    def test_a_share_rolls_over_rounded_down_and_capped(self) -> None:
        story = on("roll").when(direct(amount=51)).at(END).when(direct("d", amount=1))
        story.then("direct", due=["renewed", "rollover", "expired", "plan"], available=116, bonus=16)
        assert story.data("renewed").rolled_over == {"credits": 17}
        assert story.data("rollover").expires_at == "2027-01-01T09:30:00.000000Z"
        assert story.drawn("rollover") == [("new1:1", 17)]
        assert (story.bucket("new1:1").rolled_over, story.bucket("new1:1").expired) == (17, 32)
        assert story.drawn("direct") == [("ledger:4", 1)]
        on("roll").at(END).balance(available=130)

    def test_what_rolled_over_never_rolls_again(self) -> None:
        story = touched(on("roll").at(END)).at("2027-01-01T09:30:00.000000Z")
        touched(story).then("unchanged", due=["renewed", "rollover", "expired", "expired", "plan"], available=130)

    def test_it_follows_the_policies_of_the_old_plan(self) -> None:
        on("roll").when(change_plan("month", when="next_period")).at(END).balance(available=130)
        on("month").when(change_plan("roll", when="next_period")).at(END).balance(available=100)

    def test_it_lasts_until_the_end_that_it_was_given_whatever_grid_follows(self) -> None:
        story = touched(on("roll").at(END)).at("2026-12-02T00:00:00.000000Z")
        story.when(change_plan("week", mode="reset", reference="p1")).then("changed", "revoked", "plan", available=80)
        story.at("2026-12-09T00:00:00.000000Z").balance(available=80)
        story.at("2026-12-30T00:00:00.000000Z").balance(available=80)
        story.at("2027-01-01T09:30:00.000000Z").balance(available=50)

    def test_what_is_held_stays_with_the_hold(self) -> None:
        story = on("roll").when(reserve(amount=60, ttl_seconds=86_400)).at("2026-11-30T20:00:00.000000Z")
        story.when(reserve("r2", amount=60, ttl_seconds=86_400)).at(END)
        story.when(direct(amount=1)).then(
            "direct", due=["renewed", "rollover", "expired", "plan"], available=113, reserved=60
        )


class TestHoldsOverTheBoundary:
    def over(self) -> Story:
        story = on().at("2026-12-01T09:00:00.000000Z").when(reserve(amount=30, ttl_seconds=3600)).then("hold")
        return story.at(END)

    def test_the_hold_keeps_what_it_holds_of_the_old_allowance(self) -> None:
        story = self.over().balance(available=100, reserved=30)
        story.when(consume(amount=20)).then(
            "settle",
            "release",
            "expired",
            due=["renewed", "expired", "expired", "plan", "plan"],
            available=100,
            reserved=0,
        )
        assert story.state.account.usage["credits"].used == 20

    def test_what_it_returns_expires_in_the_same_batch(self) -> None:
        story = touched(self.over())
        story.when(release()).then("release", "expired", available=100, reserved=0)

    def test_when_it_expires_at_the_very_boundary_it_returns_first(self) -> None:
        story = on().at("2026-12-01T09:00:00.000000Z").when(reserve(amount=30, ttl_seconds=1770))
        touched(story.at(END)).then("unchanged", due=["hold_expired", "renewed", *["expired"] * 2, "plan", "plan"])
        assert story.bucket("new1:1").expired == 100

    def test_a_refund_of_last_periods_work_leaves_this_periods_usage_alone(self) -> None:
        story = (
            on()
            .when(direct(amount=50))
            .at(END)
            .when(direct("d", amount=5))
            .then("direct", due=["renewed", "expired", "expired", "plan", "plan"])
        )
        story.when(refund()).then("consumption", "refund_regrant", available=145)
        assert story.state.account.usage["credits"].used == 5


class TestWhatComesWithIt:
    def test_the_new_allowance_repays_debt_first(self) -> None:
        story = on("debt").when(reserve(amount=100)).when(consume(amount=130)).then("settle", debt=30)
        touched(story.at(END)).then("unchanged", due=["renewed", "plan"], debt=0, available=70)

    def test_bonus_is_cleared_when_the_plan_says_so(self) -> None:
        story = on("clear").when(granted("gift", 7)).when(granted("bought", 9, kind="purchase"))
        story.when(granted("later", 4, effective_at="2026-12-02T00:00:00Z")).at(END)
        story.when(direct(amount=1)).then(
            "direct", due=["renewed", *["expired"] * 3, "plan"], available=108, scheduled=4
        )
        assert story.bucket("gift").state == "expired"

    def test_the_catalog_in_force_at_that_instant_counts(self) -> None:
        story = on().under(catalog("[plans.month]\nallowance.credits = 500")).balance(available=100)
        story.at(END).balance(available=500)

    def test_a_plan_that_left_the_catalog_lives_on(self) -> None:
        story = on().under(catalog("[units.minutes]\n[plans.other]")).at(END).balance(available=100)
        touched(story.under(SHOP)).then("unchanged", due=["renewed", "expired", "expired", "plan", "plan"])

    def test_a_catalog_that_changes_the_interval_begins_a_new_grid(self) -> None:
        story = on().under(catalog('[plans.month]\ninterval = "10d"\nallowance.credits = 9'))
        story.at("2026-11-20T00:00:00.000000Z").balance(available=100)
        story.at("2026-12-15T00:00:00.000000Z").balance(available=9)
        account = story.read().account
        assert (account.anchor, account.period_start) == (END, "2026-12-11T09:30:00.000000Z")

    def test_an_allowance_never_stops_time(self) -> None:
        story = on().when(granted("much", 2**53 - 1 - 150)).then("promo").when(direct(amount=1))
        big = catalog("[units.minutes]\n[plans.month]\nallowance.credits = 200")
        story.under(big).at(END).balance(available=2**53 - 1)

    def test_a_renewal_that_grants_nothing_is_one_event(self) -> None:
        story = on().when(limits(allowance={"credits": 0, "minutes": 0})).then("limits", "revoked", "revoked")
        touched(story.at(END)).then("unchanged", due=["renewed"], available=0)


class TestStatus:
    def with_status(self, status: str) -> Story:
        story = on()
        story.state.account.status = status  # type: ignore[assignment]  # the command that does this is not this one's
        return story

    def test_a_frozen_account_renews(self) -> None:
        story = self.with_status("frozen")
        assert "renewed" in [fact.kind for fact in due_facts(story.state, Instant(END), SHOP)[1]]

    def test_a_closed_one_does_not(self) -> None:
        story = self.with_status("closed")
        state, facts = due_facts(story.state, Instant(END), SHOP)
        assert [fact.kind for fact in facts] == ["expired", "expired"]
        assert state.account.period_start == "2026-11-01T09:30:00.000000Z"

    def test_opening_it_again_starts_a_period(self) -> None:
        story = on().when(direct(amount=99))
        draft = Draft(story.state, Instant("2026-11-20T00:00:00.000000Z"), SHOP, "n")
        reopen(draft, reason="came back")
        assert [fact.kind for fact in draft.facts] == ["renewed", "expired", "expired", "plan", "plan"]
        account = draft.state.account
        assert (account.anchor, account.period_end) == ("2026-11-20T00:00:00.000000Z", "2026-12-20T00:00:00.000000Z")
        assert account.figures["credits"].available == 100
