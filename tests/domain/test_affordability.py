"""Laws of a denial that helps: what is missing, how much would pass, when it would, and a check that never disagrees."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from tests.domain.scenario import Story, given, new
from tests.domain.shop import SHOP, catalog, consume, granted, line, opened, reserve

AT_10 = "2026-11-01T10:00:00.000000Z"
AT_11 = "2026-11-01T11:00:00.000000Z"
NEXT_PERIOD = "2026-12-01T09:30:00.000000Z"


class TestTheRefusal:
    def test_it_says_what_is_missing_in_the_catalogs_words(self) -> None:
        story = given(granted("g", 5)).when(reserve(operation="reel", quantity=3))
        story.then_refused(
            "insufficient_credits",
            unit="credits",
            cost=9,
            available=5,
            shortfall=4,
            max_affordable=1,
            upgrade="Not enough credits. Upgrade your plan for more.",
        )
        assert story.refusal is not None and story.refusal.status == 402

    def test_the_catalog_may_call_it_a_quota(self) -> None:
        shop = catalog(
            'insufficient_credits_status = 429\ninsufficient_credits_code = "QUOTA_EXCEEDED"\n'
            'insufficient_credits_message = "Upgrade!"\n[plans.p]'
        )
        story = (
            given(opened("p"), catalog=shop).when(reserve(amount=1)).then_refused("QUOTA_EXCEEDED", upgrade="Upgrade!")
        )
        assert story.refusal is not None and story.refusal.status == 429
        assert story.check(amount=1).reasons == ("QUOTA_EXCEEDED",)
        given().when(reserve(amount=1)).then_refused("insufficient_credits")

    def test_available_is_what_this_command_could_draw(self) -> None:
        story = given(granted("images", 5, operations=("image",)), granted("any", 3), granted("m", 9, unit="minutes"))
        story.when(reserve(operation="image", quantity=9)).then_refused(
            "insufficient_credits", available=8, shortfall=1
        )
        story.when(reserve(operation="reel", quantity=3)).then_refused("insufficient_credits", available=3, shortfall=6)
        story.when(reserve(amount=9)).then_refused("insufficient_credits", available=3, shortfall=6)
        story.when(reserve(lines=(line("image", 6), line("reel")))).then_refused(
            "insufficient_credits", available=8, shortfall=1
        )


class TestMaxAffordable:
    @pytest.mark.parametrize(
        ("asked", "most"),
        [
            ({"amount": 99}, 12),
            ({"operation": "image", "quantity": 99}, 12),
            ({"operation": "reel", "quantity": 99}, 4),
            ({"operation": "video", "quantity": 99}, 2),
            ({"operation": "video", "quantity": 99, "params": {"quality": "hd"}}, 0),
            ({"lines": (line("image", 2), line("reel", 99))}, 0),
            ({"lines": (line("image", 99), line("image", 1))}, 0),
            ({"lines": (line("image", 2), line("reel")), "capacity": {"jobs": 1}}, 2),
            ({"lines": (line("image", 5),)}, 2),
        ],
    )
    def test_it_is_a_quantity_credits_or_whole_sets(self, asked: dict[str, Any], most: int) -> None:
        story = given(granted("g", 12))
        assert story.check(**asked).max_affordable == most

    def test_it_is_null_at_cost_zero(self) -> None:
        story = given(opened("basic"))
        assert story.check(operation="connect").max_affordable is None
        assert story.check(lines=(line("connect"), line("connect"))).max_affordable is None
        assert story.check(operation="post").max_affordable is None
        assert story.check(lines=(line("connect"),)).max_affordable is None
        assert story.check(amount=0, capacity={"jobs": 1}).max_affordable is None

    @examples(
        general=st.integers(0, 40),
        scoped=st.integers(0, 40),
        operation=st.sampled_from(["image", "reel", "video"]),
        params=st.sampled_from([None, {"tokens": 1500}]),
    )
    def test_that_much_passes_and_one_more_does_not(
        self, general: int, scoped: int, operation: str, params: dict[str, int] | None
    ) -> None:
        grants = [granted("any", general)] if general else []
        grants += [granted("some", scoped, operations=("image", "video"))] if scoped else []
        asked: dict[str, Any] = {"operation": operation, "params": params if operation == "video" else None}
        story = given(*grants)
        most = story.check(**asked).max_affordable
        assert most is not None
        story.when(reserve(**asked, quantity=most + 1)).then_refused("insufficient_credits", max_affordable=most)
        if most:
            story.when(reserve(**asked, quantity=most)).then("hold")

    @examples(
        grants=st.lists(
            st.tuples(
                st.integers(1, 20),
                st.sampled_from([None, ("image",), ("reel",), ("image", "reel")]),
                st.sampled_from([1, 2]),
            ),
            max_size=4,
        ),
        images=st.integers(1, 5),
        reels=st.integers(1, 3),
    )
    def test_that_many_whole_sets_pass_and_one_more_does_not(
        self, grants: list[tuple[int, Any, int]], images: int, reels: int
    ) -> None:
        story = given(*(granted(f"g{n}", a, operations=ops, priority=p) for n, (a, ops, p) in enumerate(grants)))
        most = story.check(lines=(line("image", images), line("reel", reels))).max_affordable
        assert most is not None

        def sets(number: int) -> Any:
            return reserve(lines=(line("image", images * number), line("reel", reels * number)))

        story.when(sets(most + 1)).then_refused("insufficient_credits")
        if most:
            story.when(sets(most)).then("hold")


class TestEarliestAffordableAt:
    """The clock of these laws stops before the next period, whose allowance is another matter."""

    def when_for(self, story: Story, **asked: Any) -> str | None:
        told = story.check(**asked).earliest_affordable_at
        story.when(reserve("asked", **asked))
        if story.refusal is None:
            assert told == story.now
        else:
            story.then_refused("insufficient_credits", earliest_affordable_at=told)
        return told

    def paid(self, *commands: Any) -> Story:
        return given(opened("paid"), *commands)

    def test_it_is_now_when_it_is_affordable(self) -> None:
        story = self.paid(granted("g", 5))
        assert self.when_for(story, amount=5) == story.now

    def test_it_is_the_start_of_the_grant_that_makes_it_so(self) -> None:
        story = self.paid(granted("a", 5, effective_at=AT_10), granted("b", 5, effective_at=AT_11), granted("c", 2))
        assert self.when_for(story, amount=7) == AT_10
        assert self.when_for(story, amount=8) == AT_11
        assert self.when_for(story, amount=12) == AT_11
        assert self.when_for(story, amount=13) is None

    def test_it_is_the_first_such_start_whatever_the_grants_are_called(self) -> None:
        story = self.paid(granted("a", 5, effective_at=AT_11), granted("b", 5, effective_at=AT_10))
        assert self.when_for(story, amount=5) == AT_10

    def test_what_has_ended_by_then_does_not_count(self) -> None:
        story = self.paid(granted("a", 5, expires_at=AT_10), granted("b", 5, effective_at=AT_10))
        assert self.when_for(story, amount=6) is None
        longer = self.paid(granted("a", 5, expires_at=AT_11), granted("b", 5, effective_at=AT_10))
        assert self.when_for(longer, amount=6) == AT_10

    def test_only_what_the_operation_may_use_counts(self) -> None:
        story = self.paid(granted("a", 5, operations=("image",), effective_at=AT_10), granted("b", 5, unit="minutes"))
        assert self.when_for(story, operation="image", quantity=5) == AT_10
        assert self.when_for(story, operation="reel") is None
        assert self.when_for(story, amount=1) is None

    def test_the_next_allowance_counts_for_a_plan_that_renews_itself(self) -> None:
        story = given(opened("twin"), reserve(amount=100))
        assert self.when_for(story, amount=30) == NEXT_PERIOD
        assert self.when_for(story, amount=120) == NEXT_PERIOD
        assert self.when_for(story, amount=121) is None
        assert self.when_for(story, amount=1, unit="minutes") is None

    def test_this_periods_allowance_does_not_last_into_the_next(self) -> None:
        story = given(opened("twin"), granted("g", 10))
        assert self.when_for(story, amount=131) is None

    def test_a_plan_that_waits_for_a_payment_promises_nothing(self) -> None:
        shop = catalog('[plans.p]\nrenewal = "external"\nallowance.credits = 10')
        assert self.when_for(given(opened("p"), reserve(amount=10), catalog=shop), amount=1) is None

    def in_debt(self, *commands: Any) -> Story:
        """It owes 5, and its plan waits for a payment."""
        shop = catalog(
            """
            [capacities.jobs]
            [plans.p]
            renewal = "external"
            overdraft_limit = 5
            [operations.image]
            each = "1"
            """
        )
        story = given(opened("p"), reserve(amount=0, occupies={"jobs": 1}), catalog=shop)
        story.when(consume(amount=5)).then("settle", debt=5)
        for command in commands:
            story.when(command).then("promo")
        return story

    def test_debt_is_repaid_first(self) -> None:
        story = self.in_debt(granted("a", 5, effective_at=AT_10), granted("b", 5, effective_at=AT_11))
        assert self.when_for(story, amount=1) == AT_11
        assert self.when_for(story, amount=6) is None

    def test_scoped_credits_are_not_taken_for_debt(self) -> None:
        story = self.in_debt(granted("a", 3, operations=("image",), effective_at=AT_10))
        assert self.when_for(story, operation="image", quantity=3) == AT_10
        assert self.when_for(story, operation="image", quantity=4) is None

    def test_several_lines_must_all_be_covered(self) -> None:
        story = self.paid(
            granted("a", 9, operations=("image",), effective_at=AT_10), granted("b", 3, effective_at=AT_11)
        )
        assert self.when_for(story, lines=(line("image"), line("reel"))) == AT_11

    @examples(
        grants=st.lists(
            st.tuples(
                st.integers(1, 9),
                st.sampled_from([None, ("image",), ("reel",)]),
                st.sampled_from([None, AT_10, AT_11]),
                st.sampled_from([None, "2026-11-01T10:30:00.000000Z", "2026-11-02T00:00:00.000000Z"]),
            ),
            max_size=5,
        ),
        asked=st.sampled_from(
            [
                {"amount": 8},
                {"operation": "image", "quantity": 8},
                {"lines": (line("image", 3), line("reel", 2))},
            ]
        ),
        debt=st.booleans(),
    )
    def test_at_that_instant_it_passes_and_before_it_does_not(
        self, grants: list[tuple[int, Any, Any, Any]], asked: dict[str, Any], debt: bool
    ) -> None:
        story = given(opened("paid"), reserve("owing", amount=0, occupies={"slots": 1}))
        if debt:
            owing = catalog(
                '[units.minutes]\n[capacities.slots]\n[plans.paid]\noverdraft_limit = 4\nrenewal = "external"'
            )
            story.under(owing).when(consume("owing", amount=4)).then("settle", debt=4).under(SHOP)
        else:
            story.when(consume("owing", amount=0)).then("settle")
        for number, (amount, operations, start, end) in enumerate(grants):
            if start is None or end is None or start < end:
                command = granted(f"g{number}", amount, operations=operations, effective_at=start, expires_at=end)
                story.when(command).then("promo")
        told = story.check(**asked).earliest_affordable_at
        for instant in (story.now, AT_10, AT_11):
            story.at(instant).when(reserve("asked", **asked))
            if story.refusal is None:
                assert told == instant
                return
            assert told is None or told > instant
            story.then_refused("insufficient_credits")
        assert told is None


class TestCheck:
    def test_it_writes_nothing(self) -> None:
        story = given(granted("g", 5, expires_at=AT_10)).at(AT_11)
        before = story.state.account.events
        story.check(amount=1)
        assert story.state.account.events == before

    def test_an_unknown_account_is_answered_as_if_it_were_opened(self) -> None:
        shop = catalog(
            'default_plan = "p"\n[plans.p]\nallowance.credits = 10\ntrial.credits = 5\n[operations.post]\nfree = true'
        )
        story = new(shop)
        verdict = story.check(amount=16)
        assert (verdict.allowed, verdict.available, verdict.shortfall) == (False, 15, 1)
        assert story.check(amount=15).allowed
        assert story.check(operation="post").available == 15
        assert not story.state.exists

    def test_a_free_operation_is_allowed_even_where_no_account_could_be_opened(self) -> None:
        shop = catalog("[operations.post]\nfree = true")
        verdict = new(shop).check(operation="post", quantity=5)
        assert (verdict.allowed, verdict.cost, verdict.reasons) == (True, 0, ())

    def test_it_gives_all_the_reasons_in_the_order_of_the_gates(self) -> None:
        shop = catalog("[plans.p]\nmax_open_holds = 0\ncapacity.jobs = 0\n[capacities.jobs]")
        verdict = given(opened("p"), catalog=shop).check(amount=1, capacity={"jobs": 1})
        assert verdict.reasons == ("too_many_holds", "capacity_exceeded", "insufficient_credits")
        assert not verdict.allowed

    @examples(
        grants=st.lists(st.tuples(st.integers(1, 9), st.sampled_from([None, ("image",), ("reel",)])), max_size=3),
        holds=st.integers(0, 3),
        asked=st.sampled_from(
            [
                {"amount": 5},
                {"amount": 3, "unit": "minutes"},
                {"operation": "image", "quantity": 6},
                {"operation": "post"},
                {"operation": "connect"},
                {"operation": "upload", "quantity": 3},
                {"operation": "video"},
                {"lines": (line("image", 2), line("reel"))},
                {"lines": (line("video"), line("video"), line("video"))},
            ]
        ),
        capacity=st.sampled_from([None, {"jobs": 1}, {"slots": 5}]),
        plan=st.sampled_from(["basic", "credit", "twin"]),
    )
    def test_it_agrees_with_reserve(
        self, grants: list[tuple[int, Any]], holds: int, asked: dict[str, Any], capacity: Any, plan: str
    ) -> None:
        story = given(opened(plan), *(granted(f"g{n}", a, operations=ops) for n, (a, ops) in enumerate(grants)))
        for number in range(holds):
            story.attempt(reserve(f"r{number}", amount=0, occupies={"jobs": 1, "slots": 2}))
        verdict = story.check(**asked, capacity=capacity)
        refusal = story.attempt(reserve("asked", **asked, occupies=capacity))
        assert verdict.allowed == (refusal is None)
        if refusal is not None:
            assert verdict.reasons[0] == refusal.code
        if refusal is not None and refusal.code == "insufficient_credits":
            told = {name: getattr(verdict, name) for name in ("cost", "available", "shortfall", "max_affordable")}
            assert {name: refusal.fields[name] for name in told} == told
            assert refusal.fields["earliest_affordable_at"] == verdict.earliest_affordable_at
