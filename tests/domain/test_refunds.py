"""Laws of refunds: in parts, never more than was charged, last drawn first, and never into a grant that has ended."""

from __future__ import annotations

import pytest

from events.commands import Cost
from tests.domain.scenario import Story, given
from tests.domain.shop import (
    catalog,
    change_plan,
    consume,
    direct,
    granted,
    line,
    opened,
    part,
    refund,
    release,
    reserve,
)

AT_10 = "2026-11-01T10:00:00.000000Z"
AT_11 = "2026-11-01T11:00:00.000000Z"
A_WEEK_AFTER_11 = "2026-11-08T11:00:00.000000Z"


class TestHowMuch:
    def test_what_is_left_unless_an_amount_is_said(self) -> None:
        story = given(granted("g", 10), direct(amount=6)).when(refund()).then("consumption", available=10)
        assert story.answered()["consumption"]["refunded"] == 6
        partly = given(granted("g", 10), direct(amount=6), refund(amount=2))
        partly.when(refund()).then("consumption", available=10)
        assert partly.data("consumption").amount == 4

    def test_in_parts_until_all_is_returned(self) -> None:
        story = given(granted("g", 10), direct(amount=6, reference="job 7"))
        for n in (1, 2, 3):
            story.when(refund(amount=2, reason="bad")).then("consumption", available=4 + 2 * n)
            assert story.answered()["consumption"]["refunded"] == 2 * n
        assert (story.data("consumption").reference, story.data("consumption").reason) == ("job 7", "bad")
        story.when(refund(amount=1)).then_refused("refund_exceeds_consumption", charged=6, refunded=6, refundable=0)

    def test_never_more_than_is_left(self) -> None:
        story = given(granted("g", 10), direct(amount=6), refund(amount=4))
        story.when(refund(amount=3)).then_refused("refund_exceeds_consumption", refundable=2)
        story.balance(available=8)
        story.when(refund(amount=2)).then("consumption", available=10)

    def test_nothing_left_is_refused_even_without_an_amount(self) -> None:
        story = given(granted("g", 10), direct(amount=6), refund())
        story.when(refund()).then_refused("refund_exceeds_consumption")
        story.when(refund(amount=0)).then_refused("refund_exceeds_consumption")

    def test_nothing_is_no_refund_while_something_is_left(self) -> None:
        given(granted("g", 10), direct(amount=6)).when(refund(amount=0)).then_refused("invalid_request")

    def test_a_consumption_that_is_not_there_is_not_found(self) -> None:
        story = given(granted("g", 10), reserve(amount=6))
        for missing in ("x", "r", "r:1"):
            story.when(refund(missing)).then_refused("consumption_not_found")
        story.when(release()).then("release")
        story.when(refund("r")).then_refused("consumption_not_found")

    def test_every_step_of_a_hold_can_be_refunded_by_its_own_id(self) -> None:
        story = given(
            granted("g", 10), reserve(amount=6), consume(amount=1, final=False), consume(amount=2, final=False)
        )
        story.when(consume()).then("settle", available=4)
        story.when(refund("r")).then("consumption", available=7)
        story.when(refund("r:1")).then("consumption", available=8)
        story.when(refund("r:2", amount=1)).then("consumption", available=9)
        story.when(refund("r:2", amount=2)).then_refused("refund_exceeds_consumption", refundable=1)

    def test_a_partial_step_can_be_refunded_while_its_hold_is_open(self) -> None:
        story = given(granted("g", 10), reserve(amount=6), consume(amount=2, final=False))
        story.when(refund("r:1")).then("consumption", available=6, reserved=4)
        assert (story.work().held, story.work().charged) == (4, 2)

    def test_a_refund_of_any_age_finds_its_way(self) -> None:
        story = given(granted("g", 10), direct(amount=6)).at("2036-11-01T00:00:00.000000Z")
        story.when(refund()).then("consumption", due=["renewed"], available=10)


class TestTheWayBack:
    def test_last_drawn_is_first_returned(self) -> None:
        story = given(granted("a", 5), granted("b", 5), granted("d", 5), direct(amount=13))
        story.when(refund(amount=4)).then("consumption", available=6)
        assert story.drawn("consumption") == [("d", 3), ("b", 1)]
        story.when(refund(amount=5)).then("consumption")
        assert story.drawn("consumption") == [("b", 4), ("a", 1)]
        story.when(refund()).then("consumption", available=15)
        assert story.drawn("consumption") == [("a", 4)]

    def test_that_holds_across_lines_and_for_what_exceeded_the_hold(self) -> None:
        scoped = granted("images", 4, operations=("image",)), granted("reels", 6, operations=("reel",))
        story = given(*scoped, granted("any", 9), reserve(lines=(line("image", 4), line("reel", 2))))
        story.when(consume(lines=(part(1, 7), part(0, 6)))).then("settle", available=6)
        assert story.drawn("settle") == [("reels", 6), ("images", 4), ("any", 1), ("any", 2)]
        story.when(refund("r", amount=5)).then("consumption", available=9, scoped=2)
        story.when(refund("r")).then("consumption", available=9, scoped=10)

    def test_a_drained_grant_lives_again(self) -> None:
        story = (
            given(granted("a", 5), direct(amount=5)).when(refund(amount=3)).then("consumption", available=3, bonus=3)
        )
        assert (story.bucket("a").returned, story.bucket("a").consumed) == (3, 5)
        story.when(direct("c2", amount=3)).then("direct")
        assert story.drawn("direct") == [("a", 3)]


class TestEndedGrants:
    def expired(self, amount: int = 6, **fields: object) -> Story:
        """6 of a grant of 10 were consumed before it ended."""
        story = given(granted("g", 10, expires_at=AT_10, **fields), direct(operation="image", quantity=amount))
        return story.at(AT_11)

    def test_an_expired_grant_is_not_revived_its_credits_are_granted_anew(self) -> None:
        story = self.expired().when(refund())
        story.then("consumption", "refund_regrant", due=["expired"], available=6, bonus=6)
        assert story.data("consumption").regranted == 6
        assert story.drawn("consumption") == []
        regrant = story.data("refund_regrant")
        assert (regrant.source_grant_id, regrant.priority, regrant.expires_at) == ("g", 10, A_WEEK_AFTER_11)
        assert story.bucket("g").state == "expired"

    def test_a_grant_that_was_drained_before_it_ended_has_ended_all_the_same(self) -> None:
        story = self.expired(amount=10).when(refund())
        story.then("consumption", "refund_regrant", due=[], available=10)

    def test_the_very_instant_of_the_end_is_after_it(self) -> None:
        story = given(granted("g", 10, expires_at=AT_10), direct(amount=10)).at(AT_10)
        story.when(refund(amount=1)).then("consumption", "refund_regrant")
        alive = given(granted("g", 10, expires_at=AT_10), direct(amount=10)).at("2026-11-01T09:59:59.999999Z")
        alive.when(refund(amount=1)).then("consumption")

    def test_scope_and_cost_basis_go_over(self) -> None:
        cost = Cost(amount=900, currency="usd")
        story = self.expired(operations=("image", "reel"), cost_basis=cost, kind="purchase").when(refund(amount=2))
        story.then("consumption", "refund_regrant", due=["expired"], available=0, scoped=2)
        regrant = story.data("refund_regrant")
        assert regrant.operations == ["image", "reel"]
        assert (regrant.cost_basis.amount, regrant.cost_basis.currency) == (900, "usd")

    def test_each_ended_grant_gets_a_regrant_and_what_lives_gets_its_own_back(self) -> None:
        story = given(
            granted("a", 5, expires_at=AT_10), granted("b", 5, expires_at=AT_11), granted("d", 5), direct(amount=12)
        )
        story.at(AT_11).when(refund())
        story.then("consumption", "refund_regrant", "refund_regrant", available=15)
        assert story.drawn("consumption") == [("d", 2)]
        first, second = story.data("refund_regrant"), story.data("refund_regrant", 1)
        assert [(each.source_grant_id, each.amount) for each in (first, second)] == [("b", 5), ("a", 5)]
        assert first.grant_id != second.grant_id

    def test_a_regrant_ends_after_a_week_like_any_grant_and_can_be_regranted(self) -> None:
        story = self.expired().when(refund()).then("consumption", "refund_regrant", due=["expired"])
        regrant = story.data("refund_regrant").grant_id
        story.when(direct("c2", amount=4)).then("direct", available=2)
        story.at(A_WEEK_AFTER_11).balance(available=0)
        story.when(refund("c2")).then("consumption", "refund_regrant", due=["expired"], available=4)
        assert story.data("refund_regrant").source_grant_id == regrant

    def test_a_regrant_lasts_as_long_as_its_grant_would_have_when_that_is_longer(self) -> None:
        """A renewal may end a grant before its time (`clear_bonus`)."""
        clears = catalog("[plans.p]\nclear_bonus = true")
        for expires_at in ("2027-06-01T00:00:00.000000Z", None):
            story = given(opened("p"), granted("g", 5, expires_at=expires_at), direct(amount=3), catalog=clears)
            story.at("2026-12-02T00:00:00.000000Z").when(refund())
            story.then("consumption", "refund_regrant", due=["renewed", "expired"], available=3)
            assert story.data("refund_regrant").expires_at == expires_at

    def test_credits_of_an_allowance_come_back_after_the_period(self) -> None:
        story = given(opened("twin"), direct(amount=50)).at("2026-12-24T00:00:00.000000Z")
        story.when(refund()).then("consumption", "refund_regrant", due=["renewed", "expired", "plan"], available=170)
        assert story.data("refund_regrant").expires_at == "2026-12-31T00:00:00.000000Z"


class TestDebtAndUnfunded:
    def overdrawn(self, actual: int) -> Story:
        """An account with 10 credits and a limit of 20 debt settles `actual`."""
        story = given(opened("credit"), granted("g", 10), reserve(amount=10))
        return story.when(consume(amount=actual)).then("settle", available=0)

    def test_the_part_that_made_debt_comes_first_and_lowers_it(self) -> None:
        story = self.overdrawn(25).balance(debt=15)
        story.when(refund("r", amount=10)).then("consumption", debt=5, available=0)
        assert (story.data("consumption").debt_refunded, story.drawn("consumption")) == (10, [])
        story.when(refund("r", amount=10)).then("consumption", debt=0, available=5)
        assert (story.data("consumption").debt_refunded, story.drawn("consumption")) == (5, [("g", 5)])
        story.when(refund("r")).then("consumption", available=10)

    def test_what_exceeds_todays_debt_is_granted_anew(self) -> None:
        story = self.overdrawn(25).when(granted("pay", 12)).then("promo", debt=3)
        story.when(refund("r", amount=10)).then("consumption", "refund_regrant", debt=0, available=7)
        data = story.data("consumption")
        assert (data.debt_refunded, data.regranted) == (3, 7)
        regrant = story.data("refund_regrant")
        assert (regrant.source_grant_id, regrant.expires_at, regrant.operations) == (None, None, None)

    def test_what_returns_to_a_grant_repays_debt_that_came_later(self) -> None:
        story = given(opened("credit"), granted("g", 10), direct(amount=10), reserve(amount=0, occupies={"jobs": 1}))
        story.when(consume(amount=4)).then("settle", debt=4)
        story.when(refund("c", amount=6)).then("consumption", debt=0, available=2)
        assert story.data("consumption").debt_repaid == 4

    def test_a_regrant_repays_debt_too(self) -> None:
        story = given(opened("credit"), granted("g", 10, expires_at=AT_10), direct(amount=10)).at(AT_10)
        story.when(reserve(amount=0, occupies={"jobs": 1})).then("hold")
        story.when(consume(amount=4)).then("settle", debt=4)
        story.when(refund("c")).then("consumption", "refund_regrant", debt=0, available=6)
        assert story.data("refund_regrant").debt_repaid == 4

    def test_the_refund_that_completes_the_charge_takes_the_unfunded_part_off_the_usage(self) -> None:
        story = self.overdrawn(35).balance(debt=20)
        assert story.charge("r").unfunded == 5
        assert story.state.account.usage["credits"].used == 35
        story.when(refund("r", amount=29)).then("consumption")
        assert story.state.account.usage["credits"].used == 6
        story.when(refund("r", amount=1)).then("consumption", available=10)
        assert story.state.account.usage["credits"].used == 0
        assert story.data("consumption").usage == 6

    def test_work_that_nobody_paid_can_be_refunded_once_with_nothing(self) -> None:
        story = given(reserve(amount=0, occupies={"jobs": 1})).when(consume(amount=4)).then("settle")
        assert story.state.account.usage["credits"].used == 4
        story.when(refund("r", amount=1)).then_refused("refund_exceeds_consumption", refundable=0)
        story.when(refund("r")).then("consumption", available=0)
        assert story.state.account.usage["credits"].used == 0
        for command in (refund("r"), refund("r", amount=0)):
            story.when(command).then_refused("refund_exceeds_consumption")

    def test_a_settled_nothing_has_nothing_to_refund(self) -> None:
        story = given(granted("g", 5), reserve(amount=5), consume(amount=0))
        story.when(refund("r")).then_refused("refund_exceeds_consumption")


class TestUsage:
    def test_it_falls_by_what_is_refunded(self) -> None:
        story = given(granted("g", 10), direct(amount=6), refund(amount=2))
        usage = story.state.account.usage["credits"]
        assert (usage.used, usage.charged) == (4, 4)

    def test_a_refund_does_not_open_the_allowance_again(self) -> None:
        """G, what was allowed in this period, is net of the effect of refunds."""
        story = given(opened("basic"), direct(amount=100), refund()).when(change_plan("twin"))
        story.then("changed", "plan", available=140)
        assert story.data("plan").amount == 20


@pytest.mark.parametrize("amounts", [(1, 1, 1, 1, 1, 1, 1, 1, 1), (4, 5), (9,), (2, 3, 4)])
def test_in_how_many_parts_a_refund_comes_makes_no_difference(amounts: tuple[int, ...]) -> None:
    story = given(opened("credit"), granted("a", 3), granted("b", 2), reserve(amount=5)).when(consume(amount=9))
    story.then("settle", debt=4)
    for amount in amounts:
        story.when(refund("r", amount=amount)).then("consumption")
    story.balance(available=5, debt=0)
    assert (story.bucket("a").remaining, story.bucket("b").remaining) == (3, 2)
