"""Laws of work that is reported after its hold expired: booked, not lost, from what is there now, for three days."""

from __future__ import annotations

from typing import Any

import pytest

from tests.domain.scenario import Story, given
from tests.domain.shop import (
    catalog,
    consume,
    direct,
    extend,
    granted,
    line,
    opened,
    part,
    refund,
    release,
    reserve,
    status,
)

WINDOW = 330 + 72 * 3600
"""Seconds from a reserve by amount until it can no longer be settled: its life, its grace, and the window."""


def expired(overage: str | None = None, plan: str = "bare", spent: int = 0, **fields: Any) -> Story:
    """A hold of 6 among 10 credits that ran out; `spent` of them were spent since."""
    story = given(opened(plan), granted("g", 10), reserve("r", **({"amount": 6} | fields), overage=overage))
    story.after(seconds=330)
    if spent:
        story.when(direct("s", amount=spent)).then("direct", due=["hold_expired"])
    return story


class TestBooking:
    def test_all_that_was_reserved_unless_an_amount_is_said(self) -> None:
        story = expired(reference="job 7").when(consume()).then("late", due=["hold_expired"], available=4, reserved=0)
        assert story.answered()["reservation"]["state"] == "settled_late"
        told = story.answered()["consumption"]
        assert (told["id"], told["charged"], told["reference"]) == ("r", 6, "job 7")
        data = story.data("late")
        assert (data.reserved, data.actual, data.charged, data.unfunded) == (6, 6, 6, 0)

    def test_less_leaves_the_rest_alone(self) -> None:
        expired().when(consume(amount=2)).then("late", due=["hold_expired"], available=8)

    def test_nothing_is_a_settlement_too(self) -> None:
        story = expired().when(consume(amount=0)).then("late", due=["hold_expired"], available=10)
        assert story.work().state == "settled_late"

    def test_nothing_of_several_lines_is_one_as_well(self) -> None:
        story = expired(amount=None, lines=(line("image"), line("image"))).when(consume(amount=0))
        assert story.then("late", due=["hold_expired"], available=10).work().state == "settled_late"

    def test_it_happens_once(self) -> None:
        story = expired().when(consume(amount=2)).then("late", due=["hold_expired"])
        for again in (consume(), consume(amount=1), release(), extend()):
            story.when(again).then_refused("reservation_finalized", state="settled_late", charged=2)

    def test_it_can_be_refunded_by_the_reservations_id(self) -> None:
        story = expired().when(consume()).then("late", due=["hold_expired"])
        story.when(refund("r", amount=4)).then("consumption", available=8)
        assert story.state.account.usage["credits"].used == 2

    def test_partial_steps_before_are_not_charged_again(self) -> None:
        story = given(granted("g", 10), reserve(amount=6), consume(amount=2, final=False)).after(seconds=330)
        story.when(consume()).then("late", due=["hold_expired"], available=4)
        assert (story.data("late").actual, story.work().charged) == (4, 6)

    def test_what_an_extend_added_was_reserved_too(self) -> None:
        story = given(granted("g", 10), reserve(amount=6), extend(amount=3)).after(seconds=330)
        story.when(consume()).then("late", due=["hold_expired"], available=1)

    def test_a_slot_never_expires_and_is_never_late(self) -> None:
        story = given(reserve(amount=0, occupies={"slots": 1}, ttl_seconds=None)).after(days=400)
        story.when(consume()).then("settle", due=["renewed"])

    def test_no_capacity_is_occupied_by_it(self) -> None:
        story = given(opened("basic"), reserve(operation="video")).after(seconds=660).when(consume())
        assert story.then("late", due=["hold_expired"]).state.account.occupied == {}

    def test_it_is_charged_where_the_account_stands_now(self) -> None:
        """The credits that were held may have gone by now, or their grant may have ended."""
        story = given(granted("short", 6, expires_at="2026-11-01T09:34:00Z"), granted("long", 9), reserve(amount=6))
        story.after(seconds=330).when(consume()).then("late", due=["expired", "hold_expired", "expired"], available=3)
        assert story.drawn("late") == [("long", 6)]


class TestPartialSteps:
    def test_a_step_that_is_not_final_leaves_room_for_the_next(self) -> None:
        story = expired().when(consume(amount=2, final=False)).then("late", due=["hold_expired"], available=8)
        assert story.answered()["consumption"]["id"] == "r:1"
        assert story.answered()["reservation"]["state"] == "expired"
        story.when(consume(final=False)).then("late", available=4)
        assert story.data("late").actual == 4
        story.when(consume(amount=1)).then("late", available=3)
        assert (story.work().state, story.work().charged) == ("settled_late", 7)
        story.when(refund("r:2")).then("consumption", available=7)

    def test_a_step_of_nothing_is_final_or_refused(self) -> None:
        expired().when(consume(amount=6, final=False)).then("late", due=["hold_expired"]).when(
            consume(final=False)
        ).then_refused("invalid_request")

    def test_numbers_go_on_where_they_were(self) -> None:
        story = given(granted("g", 10), reserve(amount=6), consume(amount=2, final=False)).after(seconds=330)
        story.when(consume(amount=1, final=False)).then("late", due=["hold_expired"])
        assert story.answered()["consumption"]["id"] == "r:2"


class TestOverage:
    def test_draw_takes_what_there_is_then_debt_then_unfunded(self) -> None:
        story = expired(plan="credit", spent=7).when(consume(amount=30)).then("late", available=0, debt=20)
        data = story.data("late")
        assert (data.charged, data.debt_added, data.unfunded) == (23, 20, 7)
        assert story.state.account.usage["credits"].used == 37

    def test_draw_exceeds_the_reserved_amount(self) -> None:
        expired().when(consume(amount=9)).then("late", due=["hold_expired"], available=1)

    def test_cap_charges_up_to_the_reserved_amount(self) -> None:
        story = expired("cap", plan="credit").when(consume(amount=9)).then("late", due=["hold_expired"], available=4)
        assert (story.data("late").charged, story.data("late").unfunded) == (6, 3)

    def test_cap_makes_no_debt(self) -> None:
        story = expired("cap", plan="credit", spent=7).when(consume()).then("late", available=0, debt=0)
        assert (story.data("late").charged, story.data("late").unfunded) == (3, 3)

    def test_reject_refuses_above_the_reserved_amount_only(self) -> None:
        story = expired("reject", plan="credit", spent=7)
        story.when(consume(amount=7)).then_refused("exceeds_reservation", reserved=6, requested=7, shortfall=1)
        story.when(consume()).then("late", available=0, debt=3)
        assert story.data("late").unfunded == 0


class TestLines:
    def story(self, overage: str | None = None) -> Story:
        grants = granted("images", 5, operations=("image",)), granted("any", 10)
        lines = (line("image", 4), line("reel", 2))
        return given(*grants, reserve(lines=lines, overage=overage)).after(seconds=930)

    def test_each_line_is_drawn_for_its_own_operation(self) -> None:
        story = self.story().when(consume()).then("late", due=["hold_expired"], scoped=1, available=4)
        entries = [(entry.line, entry.grant_id, entry.amount) for entry in story.data("late").allocation]
        assert entries == [(0, "images", 4), (1, "any", 6)]
        assert [(each.line, each.amount, each.charged) for each in story.data("late").lines] == [(0, 4, 4), (1, 6, 6)]

    def test_lines_are_priced_by_the_rule_of_the_reserve(self) -> None:
        dearer = catalog('default_plan = "bare"\n[plans.bare]\n[operations.image]\neach = "9"')
        story = self.story().under(dearer).when(consume(lines=(part(0, quantity=2), part(1, 3))))
        story.then("late", due=["hold_expired"], scoped=3, available=7)

    def test_a_line_that_is_named_is_bounded_by_what_it_had(self) -> None:
        story = self.story("reject").when(consume(lines=(part(0, 5),)))
        story.then_refused("exceeds_reservation", shortfall=1)
        capped = self.story("cap").when(consume(lines=(part(0, 5), part(1, 1)))).then("late", due=["hold_expired"])
        assert [(each.line, each.amount, each.charged) for each in capped.data("late").lines] == [(0, 5, 4), (1, 1, 1)]

    def test_an_excess_that_names_no_line_is_drawn_from_general_credits(self) -> None:
        story = self.story().when(consume(amount=15)).then("late", due=["hold_expired"], scoped=1, available=0)
        assert (story.data("late").charged, story.data("late").unfunded) == (14, 1)

    def test_nothing_settles_several_lines_too(self) -> None:
        for nothing in (consume(amount=0), consume(lines=(part(0, 0),)), consume(lines=(part(1, 0), part(0, 0)))):
            story = self.story().when(nothing).then("late", due=["hold_expired"], scoped=5, available=10)
            assert (story.work().state, story.data("late").actual, story.data("late").lines) == ("settled_late", 0, [])

    def test_a_quantity_is_priced_by_the_rule_of_the_reserve(self) -> None:
        story = given(granted("g", 30), reserve(operation="reel", quantity=5)).after(seconds=930)
        story.when(consume(quantity=4)).then("late", due=["hold_expired"], available=18)


class TestTheWindow:
    def test_it_ends_three_days_after_the_grace(self) -> None:
        expired().after(seconds=WINDOW - 331).when(consume()).then("late", due=["hold_expired"])
        over = expired().after(seconds=WINDOW - 330).when(consume())
        over.then_refused(
            "reservation_expired",
            state="expired",
            expires_at="2026-11-01T09:35:00.000000Z",
            late_until="2026-11-04T09:35:30.000000Z",
        )

    @pytest.mark.parametrize(("hours", "seconds"), [(1, 3600), (0, 0)])
    def test_the_plan_sets_its_length(self, hours: int, seconds: int) -> None:
        shop = catalog(f"[plans.p]\nlate_window_hours = {hours}")
        story = given(opened("p"), granted("g", 10), reserve(amount=6), catalog=shop).after(seconds=330 + seconds)
        story.when(consume()).then_refused("reservation_expired")
        if hours:
            soon = given(opened("p"), granted("g", 10), reserve(amount=6), catalog=shop).after(seconds=329 + seconds)
            soon.when(consume()).then("late", due=["hold_expired"])

    def test_a_new_catalogs_window_acts_at_once(self) -> None:
        shops = [catalog(f"[plans.p]\nlate_window_hours = {hours}") for hours in (72, 1)]
        story = given(opened("p"), granted("g", 10), reserve(amount=6), catalog=shops[0]).after(seconds=330 + 3600)
        story.under(shops[1]).when(consume()).then_refused("reservation_expired")
        story.under(shops[0]).when(consume()).then("late", due=["hold_expired"])

    def test_a_release_is_refused_with_how_it_ended(self) -> None:
        expired().when(release()).then_refused("reservation_finalized", state="expired", charged=0)

    @pytest.mark.parametrize("now", ["frozen", "closed"])
    def test_an_account_that_is_frozen_or_closed_books_it_too(self, now: str) -> None:
        story = expired().when(status(now)).then("status", due=["hold_expired"])
        story.when(consume()).then("late", available=4)


def test_a_late_step_counts_in_the_period_in_which_it_is_booked() -> None:
    story = expired().when(consume()).then("late", due=["hold_expired"])
    assert story.data("late").period == story.state.account.period_start
