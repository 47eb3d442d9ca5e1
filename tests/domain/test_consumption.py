"""Laws of charging: the steps of a hold, its lines, the price that was pinned, and consumption without a hold."""

from __future__ import annotations

from typing import Any

import pytest

from events.commands import ConsumeDirect
from tests.domain.scenario import Story, given
from tests.domain.shop import catalog, consume, direct, granted, line, opened, part, refund, release, reserve


class TestAFinalStep:
    def test_it_charges_what_is_held_unless_it_says_otherwise(self) -> None:
        story = given(granted("g", 10), reserve(amount=6, reference="job 7")).when(consume())
        story.then("settle", available=4, reserved=0)
        told = story.answered()
        assert told["reservation"]["state"] == "settled"
        assert (told["reservation"]["held"], told["reservation"]["charged"]) == (0, 6)
        assert told["consumption"]["id"] == "r"
        assert (told["consumption"]["amount"], told["consumption"]["charged"]) == (6, 6)
        assert told["consumption"]["reference"] == "job 7"

    def test_it_releases_the_rest_in_the_same_batch(self) -> None:
        story = given(granted("g", 10), reserve(amount=6)).when(consume(amount=2))
        story.then("settle", "release", available=8, reserved=0)
        assert story.answered()["reservation"]["held"] == 0
        assert story.data("release").amount == 4

    def test_nothing_is_a_release_that_counts_as_settled(self) -> None:
        story = (
            given(granted("g", 10), reserve(amount=6)).when(consume(amount=0)).then("settle", "release", available=10)
        )
        assert story.work().state == "settled"
        assert story.charge("r").charged == 0

    def test_usage_counts_it(self) -> None:
        story = given(granted("g", 10), reserve(amount=6), consume(amount=2))
        assert story.state.account.usage["credits"].used == 2

    def test_first_drawn_is_first_charged(self) -> None:
        story = given(granted("a", 5), granted("b", 5), reserve(amount=8)).when(consume(amount=6))
        story.then("settle", "release")
        assert story.drawn("settle") == [("a", 5), ("b", 1)]
        assert story.drawn("release") == [("b", 2)]


class TestAPartialStep:
    def test_it_keeps_the_hold_open(self) -> None:
        story = given(granted("g", 10), reserve(amount=6)).when(consume(amount=2, final=False))
        story.then("partial", available=4, reserved=4)
        assert (story.work().state, story.work().held, story.work().charged) == ("open", 4, 2)

    def test_at_zero_too(self) -> None:
        story = given(granted("g", 10), reserve(amount=6)).when(consume(final=False)).then("partial", reserved=0)
        assert (story.work().state, story.work().held) == ("open", 0)
        story.when(consume(amount=3)).then("settle", available=1)

    def test_its_amount_is_above_zero(self) -> None:
        story = given(granted("g", 10), reserve(amount=6), consume(final=False))
        story.when(consume(final=False)).then_refused("invalid_request")
        story.when(consume(lines=(part(0, 0),), final=False)).then_refused("invalid_request")

    def test_the_nth_has_an_id_that_says_so(self) -> None:
        story = given(granted("g", 10), reserve(amount=6))
        for n in (1, 2, 3):
            story.when(consume(amount=1, final=False)).then("partial")
            assert story.answered()["consumption"]["id"] == f"r:{n}"
        story.when(consume()).then("settle")
        assert story.answered()["consumption"]["id"] == "r"
        assert story.answered()["reservation"]["charged"] == 6

    def test_an_id_that_a_caller_took_is_passed_over(self) -> None:
        story = given(granted("g", 10), direct("r:1", amount=1), reserve(amount=6))
        story.when(consume(amount=1, final=False)).then("partial")
        assert story.answered()["consumption"]["id"] == "r:2"
        assert story.charge("r:1").charged == 1

    def test_steps_go_on_where_the_last_one_ended(self) -> None:
        story = given(granted("a", 2), granted("b", 2), granted("d", 2), reserve(amount=6))
        drawn: list[tuple[str, int]] = []
        for _ in range(2):
            story.when(consume(amount=3, final=False)).then("partial")
            drawn += story.drawn("partial")
        assert drawn == [("a", 2), ("b", 1), ("b", 1), ("d", 2)]


class TestPinnedPrices:
    def test_a_quantity_is_priced_by_the_rule_of_the_hold(self) -> None:
        text = "[plans.p]\n[operations.snap]\neach = "
        story = given(
            opened("p"), granted("g", 50), reserve(operation="snap", quantity=9), catalog=catalog(text + '"2"')
        )
        story.under(catalog(text + '"5"')).when(consume(quantity=4)).then("settle", "release", available=42)
        assert story.data("settle").quantity == 4
        story.when(reserve("r2", operation="snap", quantity=4)).then("hold", reserved=20)

    def test_params_are_those_of_the_hold_unless_the_step_has_its_own(self) -> None:
        held = reserve(operation="video", quantity=2, params={"quality": "hd"})
        given(granted("g", 50), held).when(consume(quantity=1)).then("settle", "release", available=36)
        own = consume(quantity=1, params={"quality": "standard"})
        given(granted("g", 50), held).when(own).then("settle", "release", available=43)

    def test_it_works_when_the_operation_left_the_catalog(self) -> None:
        shop = catalog('[plans.p]\n[operations.snap]\neach = "2"')
        story = given(opened("p"), granted("g", 50), reserve(operation="snap", quantity=9), catalog=shop)
        story.under(catalog("[plans.q]")).when(consume(quantity=1)).then("settle", "release", available=48)

    def test_a_hold_by_amount_has_no_price(self) -> None:
        given(granted("g", 9), reserve(amount=5)).when(consume(quantity=2)).then_refused("invalid_request")

    def test_a_param_that_the_pinned_rule_does_not_know_is_refused(self) -> None:
        story = given(granted("g", 50), reserve(operation="video"))
        story.when(consume(quantity=1, params={"qualty": "hd"})).then_refused("invalid_request")


class TestLines:
    def held(self, *grants: Any) -> Story:
        return given(*(grants or (granted("g", 20),)), reserve(lines=(line("image", 4), line("reel", 2))))

    def test_a_step_may_name_lines(self) -> None:
        story = (
            self.held().when(consume(lines=(part(1, quantity=1), part(0, 2)))).then("settle", "release", available=15)
        )
        lines = story.answered()["reservation"]["lines"]
        assert [(each["held"], each["charged"]) for each in lines] == [(0, 2), (0, 3)]

    def test_else_the_lines_are_charged_in_order(self) -> None:
        story = self.held().when(consume(amount=5, final=False)).then("partial")
        lines = story.answered()["reservation"]["lines"]
        assert [(each["held"], each["charged"]) for each in lines] == [(0, 4), (5, 1)]

    def test_each_line_pays_from_its_own_allocation(self) -> None:
        scoped = granted("images", 4, operations=("image",)), granted("reels", 6, operations=("reel",))
        story = self.held(*scoped).when(consume(lines=(part(1, 5),), final=False)).then("partial", scoped=0, reserved=5)
        assert story.drawn("partial") == [("reels", 5)]
        story.when(release()).then("release", scoped=5)

    def test_a_line_that_is_not_there_is_refused(self) -> None:
        self.held().when(consume(lines=(part(2, 1),))).then_refused("invalid_request")

    def test_a_quantity_without_a_line_is_refused_when_there_are_several(self) -> None:
        self.held().when(consume(quantity=1)).then_refused("invalid_request")

    def test_what_exceeds_a_line_leaves_the_other_lines_credits_alone(self) -> None:
        story = self.held(granted("g", 11)).when(consume(lines=(part(0, 6),), final=False))
        story.then("partial", available=0, reserved=6)
        assert (story.data("partial").charged, story.data("partial").unfunded) == (5, 1)
        assert [each.held for each in story.work().lines] == [0, 6]

    @pytest.mark.parametrize("named", [True, False], ids=["named", "in-order"])
    @pytest.mark.parametrize("plan", ["bare", "credit"], ids=["unfunded", "debt"])
    def test_the_lines_of_a_step_add_up_to_it(self, plan: str, named: bool) -> None:
        story = given(opened(plan), granted("g", 11), reserve(lines=(line("image", 4), line("reel", 2))))
        step: dict[str, Any] = {"lines": (part(0, 9), part(1, 7))} if named else {"amount": 16}
        story.when(consume(**step)).then("settle", available=0)
        data = story.data("settle")
        assert sum(each.amount for each in data.lines) == data.actual == 16
        assert sum(each.charged for each in data.lines) == data.charged == (16 if plan == "credit" else 11)


class TestDirectConsumption:
    def test_it_checks_and_charges_in_one_step(self) -> None:
        story = given(granted("g", 10)).when(
            direct(operation="reel", quantity=2, reference="post 4", metadata={"a": "b"})
        )
        story.then("direct", available=4, reserved=0)
        assert story.answered()["consumption"] == {
            "id": "c",
            "reservation_id": None,
            "operation": "reel",
            "quantity": 2,
            "unit": "credits",
            "amount": 6,
            "charged": 6,
            "unfunded": 0,
            "debt_added": 0,
            "refunded": 0,
            "reference": "post 4",
            "metadata": {"a": "b"},
            "created_at": "2026-11-01T09:30:00.000000Z",
        }
        assert story.state.account.usage["credits"].used == 6

    def test_it_never_makes_debt(self) -> None:
        story = given(opened("credit"), granted("g", 10))
        story.when(direct(amount=11)).then_refused("insufficient_credits", cost=11, shortfall=1)
        story.when(direct(amount=10)).then("direct", available=0, debt=0)

    def test_it_occupies_nothing_and_is_refused_when_there_is_no_room(self) -> None:
        story = given(opened("basic"), reserve("a", operation="video")).when(direct(operation="video")).then("direct")
        assert story.state.account.occupied == {"jobs": 1}
        story.when(reserve("b", operation="video")).then("hold")
        story.when(direct("c2", operation="video")).then_refused("capacity_exceeded", used=2, limit=2)
        story.when(direct("c2", operation="image")).then("direct")

    def test_it_does_not_count_as_a_hold(self) -> None:
        story = given(opened("credit"), granted("g", 9), *(reserve(f"r{n}", amount=1) for n in range(3)))
        story.when(direct(amount=1)).then("direct")

    def test_it_draws_scoped_credits_for_its_operation(self) -> None:
        story = given(granted("images", 5, operations=("image",)), granted("any", 5))
        story.when(direct(operation="image", quantity=7)).then("direct", scoped=0, available=3)

    def test_several_lines_are_charged_as_one(self) -> None:
        story = (
            given(granted("g", 20)).when(direct(lines=(line("image", 4), line("reel", 2)))).then("direct", available=10)
        )
        assert [(each.operation, each.charged) for each in story.data("direct").lines] == [("image", 4), ("reel", 6)]

    def test_it_has_its_own_id_or_gets_one(self) -> None:
        story = given(granted("g", 9)).when(ConsumeDirect(account="acme", amount=1)).then("direct")
        told = story.answered()["consumption"]["id"]
        story.when(refund(told)).then("consumption", available=9)
