"""Laws of what exceeds a hold: drawn, owed, or recorded as work that nobody paid for; and how debt is repaid."""

from __future__ import annotations

from typing import Any

from tests.domain.scenario import Story, given
from tests.domain.shop import consume, direct, granted, line, opened, part, release, reserve


class TestOverage:
    """A hold of 6 among 10 credits; a step of 12 is 6 above it, of which 4 are available."""

    def held(self, overage: str | None = None, plan: str = "bare", **fields: Any) -> Story:
        return given(opened(plan), granted("g", 10), reserve("r", **({"amount": 6} | fields), overage=overage))

    def test_draw_is_the_default(self) -> None:
        assert given(granted("g", 10), reserve(amount=6)).data("hold").overage == "draw"

    def test_draw_takes_the_excess_from_what_is_available(self) -> None:
        story = self.held().when(consume(amount=9)).then("settle", available=1, reserved=0, debt=0)
        data = story.data("settle")
        assert (data.reserved, data.actual, data.charged, data.unfunded) == (6, 9, 9, 0)
        assert [(entry.amount, entry.excess) for entry in data.allocation] == [(6, False), (3, True)]

    def test_what_nothing_covers_is_recorded_as_unfunded(self) -> None:
        story = self.held().when(consume(amount=12)).then("settle", available=0, debt=0)
        assert (story.data("settle").charged, story.data("settle").unfunded) == (10, 2)
        assert story.state.account.usage["credits"].used == 12
        assert story.state.account.usage["credits"].charged == 10
        assert story.answered()["reservation"]["unfunded"] == 2

    def test_debt_comes_before_unfunded_up_to_the_plans_limit(self) -> None:
        story = self.held(plan="credit").when(consume(amount=12)).then("settle", available=0, debt=2)
        data = story.data("settle")
        assert (data.charged, data.debt_added, data.unfunded) == (12, 2, 0)
        story.when(reserve("r2", amount=0, occupies={"slots": 1})).then("hold")
        story.when(consume("r2", amount=30)).then("settle", debt=20)
        assert (story.data("settle").debt_added, story.data("settle").unfunded) == (18, 12)

    def test_the_limit_is_for_all_debt_together(self) -> None:
        story = self.held(plan="credit").when(consume(amount=30, final=False)).then("partial", debt=20)
        story.when(consume(amount=5)).then("settle", debt=20)
        assert (story.data("settle").debt_added, story.data("settle").unfunded) == (0, 5)

    def test_other_holds_are_safe(self) -> None:
        story = self.held(plan="credit").when(reserve("other", amount=3)).then("hold", available=1)
        story.when(consume(amount=12)).then("settle", available=0, reserved=3, debt=5)

    def test_the_excess_of_a_hold_by_amount_is_drawn_from_general_credits(self) -> None:
        story = self.held().when(granted("images", 50, operations=("image",))).then("promo")
        story.when(consume(amount=12)).then("settle", available=0, scoped=50)
        assert story.data("settle").unfunded == 2

    def test_the_excess_of_a_line_is_drawn_from_what_its_operation_may_use(self) -> None:
        story = self.held(amount=None, operation="image", quantity=6)
        story.when(granted("images", 50, operations=("image",))).then("promo")
        story.when(consume(lines=(part(0, 12),), final=False)).then("partial", scoped=44, available=4)
        story.when(consume(amount=5)).then("settle", scoped=44, available=0)
        assert story.data("settle").unfunded == 1

    def test_what_was_drawn_beyond_the_hold_says_for_which_line(self) -> None:
        story = given(granted("g", 20), reserve(lines=(line("image", 2), line("image", 2))))
        story.when(consume(lines=(part(1, 5), part(0, 3)))).then("settle", available=12)
        entries = [(entry.line, entry.amount, entry.excess) for entry in story.data("settle").allocation]
        assert entries == [(1, 2, False), (0, 2, False), (1, 3, True), (0, 1, True)]

    def test_reject_refuses_the_step_and_the_hold_stays_open(self) -> None:
        story = self.held("reject").when(consume(amount=7)).then_refused("exceeds_reservation", held=6, shortfall=1)
        story.balance(available=4, reserved=6)
        story.when(consume(amount=6)).then("settle", available=4)

    def test_cap_charges_what_is_held_and_the_rest_is_unfunded(self) -> None:
        story = self.held("cap", plan="credit").when(consume(amount=12)).then("settle", available=4, debt=0)
        assert (story.data("settle").charged, story.data("settle").unfunded) == (6, 6)
        assert story.state.account.usage["credits"].used == 12

    def test_it_is_fixed_when_reserving(self) -> None:
        assert [given(granted("g", 1), reserve(amount=1, overage=each)).work().overage for each in ("draw", "cap")] == [
            "draw",
            "cap",
        ]

    def test_steps_of_a_hold_share_what_is_held(self) -> None:
        story = self.held("reject").when(consume(amount=4, final=False)).then("partial")
        story.when(consume(amount=3, final=False)).then_refused("exceeds_reservation", held=2)
        story.when(consume(amount=2, final=False)).then("partial")


class TestDebt:
    """An account that owes 5 of at most 20."""

    def owing(self) -> Story:
        story = given(
            opened("credit"), granted("g", 10), reserve(amount=10), reserve("idle", amount=0, occupies={"jobs": 1})
        )
        return story.when(consume(amount=15)).then("settle", debt=5, available=0)

    def test_with_debt_nothing_can_be_reserved(self) -> None:
        self.owing().when(reserve("x", amount=1)).then_refused("insufficient_credits", available=0, shortfall=1)

    def test_a_grant_repays_it_first(self) -> None:
        story = self.owing().when(granted("h", 3)).then("promo", debt=2, available=0)
        assert (story.data("promo").debt_repaid, story.bucket("h").repaid) == (3, 3)
        assert story.answered()["grant"]["state"] == "drained"
        story.when(granted("i", 3, kind="purchase")).then("purchase", debt=0, available=1)
        assert story.data("purchase").debt_repaid == 2
        assert story.answered()["grant"]["remaining"] == 1
        story.when(granted("j", 3)).then("promo", debt=0, available=4)

    def test_an_activation_repays_it_at_its_instant(self) -> None:
        story = self.owing().when(granted("h", 8, effective_at="2026-11-01T10:00:00Z"))
        story.then("promo", debt=5, scheduled=8, available=0)
        story.at("2026-11-01T10:00:00.000000Z").balance(debt=0, scheduled=0, available=3)
        story.when(direct(amount=3)).then("direct", due=["hold_expired", "activated"], debt=0, available=0)
        assert story.data("activated").debt_repaid == 5

    def test_an_activation_that_is_all_repaid_leaves_a_drained_grant(self) -> None:
        story = self.owing().when(
            granted("h", 4, effective_at="2026-11-01T10:00:00Z", expires_at="2026-11-01T11:00:00Z")
        )
        story.at("2026-11-01T12:00:00.000000Z").when(granted("i", 1))
        story.then("promo", due=["hold_expired", "activated"], debt=0, available=0)

    def test_scoped_credits_repay_nothing(self) -> None:
        story = self.owing().when(granted("h", 8, operations=("image",))).then("promo", debt=5, scoped=8)
        story.when(granted("i", 8, operations=("image",), effective_at="2026-11-01T10:00:00Z")).then("promo")
        story.at("2026-11-01T10:00:00.000000Z").balance(debt=5, scoped=16)
        story.when(direct(operation="image", quantity=2)).then("direct", due=["hold_expired", "activated"], scoped=14)

    def test_another_units_credits_repay_nothing(self) -> None:
        self.owing().when(granted("h", 8, unit="minutes")).then("promo", debt=5).balance("minutes", available=8)

    def with_a_hold(self, ttl_seconds: int = 3600) -> Story:
        """It holds 4 of `a` and 4 of `b`, and owes 5."""
        held = reserve("held", amount=8, ttl_seconds=ttl_seconds)
        story = given(opened("credit"), granted("a", 4), granted("b", 4), held)
        story.when(reserve("spent", amount=0, occupies={"jobs": 1})).then("hold")
        return story.when(consume("spent", amount=5)).then("settle", debt=5, reserved=8)

    def test_a_release_repays_it_in_draw_order(self) -> None:
        story = self.with_a_hold().when(release("held")).then("release", debt=0, available=3)
        assert story.data("release").debt_repaid == 5
        assert [(entry.grant_id, entry.amount) for entry in story.data("release").repaid] == [("a", 4), ("b", 1)]

    def test_so_does_what_a_final_step_releases(self) -> None:
        story = self.with_a_hold().when(consume("held", amount=2)).then("settle", "release", debt=0, available=1)
        assert story.data("release").debt_repaid == 5

    def test_so_does_a_hold_that_expires(self) -> None:
        story = self.with_a_hold(60).after(seconds=90).balance(debt=0, available=3)
        story.when(direct(amount=3)).then("direct", due=["hold_expired"], available=0)

    def test_what_returns_to_an_expired_grant_repays_nothing(self) -> None:
        story = given(opened("credit"), granted("a", 4, expires_at="2026-11-01T10:00:00Z"))
        story.when(reserve("held", amount=4, ttl_seconds=7200)).then("hold")
        story.at("2026-11-01T10:00:00.000000Z").when(reserve(amount=0, occupies={"jobs": 1})).then(
            "hold", due=["expired"]
        )
        story.when(consume(amount=5)).then("settle", debt=5)
        story.when(release("held")).then("release", "expired", debt=5, available=0, reserved=0)

    def test_what_returns_to_a_scoped_grant_repays_nothing(self) -> None:
        story = given(
            opened("credit"), granted("a", 4, operations=("image",)), reserve("held", operation="image", quantity=4)
        )
        story.when(reserve(amount=0, occupies={"jobs": 1})).then("hold")
        story.when(consume(amount=5)).then("settle", debt=5)
        story.when(release("held")).then("release", debt=5, scoped=4)
