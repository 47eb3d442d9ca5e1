"""Laws of `reset_usage`: what a period consumed comes back to who paid, once."""

from __future__ import annotations

import pytest

from events import evolve_work, spending
from tests.domain.scenario import Story, given, new
from tests.domain.shop import (
    catalog,
    change_plan,
    consume,
    direct,
    granted,
    opened,
    refund,
    reserve,
    reset_usage,
)

SHOP = catalog(
    """
    [units.minutes]
    [plans.a]
    rank = 0
    allowance = { credits = 40, minutes = 5 }
    overdraft_limit = 20
    [plans.b]
    rank = 1
    allowance.credits = 90
    [operations.image]
    each = "1"
    [operations.export]
    unit = "minutes"
    each = "1"
    """
)
END = "2026-12-01T09:30:00.000000Z"


def on(plan: str = "a") -> Story:
    return given(opened(plan), catalog=SHOP)


def test_what_was_consumed_comes_back_and_the_usage_is_zero() -> None:
    story = on().when(granted("g", 10)).when(direct(amount=45)).when(direct("d", operation="export", quantity=2))
    story.when(reset_usage("our fault")).then("usage_reset", "usage_reset", available=50)
    story.balance("minutes", available=5)
    assert story.drawn("usage_reset") == [("new1:1", 40), ("g", 5)]
    assert story.data("usage_reset").reason == "our fault"
    assert [usage.used for usage in story.state.account.usage.values()] == [0, 0]


def test_one_unit_may_be_named() -> None:
    story = on().when(direct(amount=45 - 5)).when(direct("d", operation="export", quantity=2))
    story.when(reset_usage(unit="minutes")).then("usage_reset", available=0).balance("minutes", available=5)
    story.when(reset_usage(unit="gold")).then_refused("invalid_request")


def test_many_small_consumptions_come_back_as_one_part_for_each_grant() -> None:
    story = on()
    for index in range(8):
        story.when(direct(f"c{index}", amount=5)).then("direct")
    story.when(refund("c3")).when(reset_usage()).then("usage_reset", available=40)
    assert story.drawn("usage_reset") == [("new1:1", 35)]


def test_what_was_given_back_has_nothing_left_to_refund() -> None:
    story = on().when(direct(amount=10)).when(reset_usage()).then("usage_reset", available=40)
    story.when(refund()).then_refused("refund_exceeds_consumption", refundable=0)
    story.when(direct("d", amount=7)).when(refund("d")).then("consumption", available=40)
    story.at(END).when(refund()).then_refused("refund_exceeds_consumption")


def test_twice_gives_back_only_what_came_between() -> None:
    story = on().when(direct(amount=10)).when(reset_usage()).when(direct("d", amount=3)).when(reset_usage())
    story.then("usage_reset", available=40)
    assert story.data("usage_reset").amount == 3
    story.when(reset_usage()).then("usage_reset", available=40)
    assert story.data("usage_reset").amount == 0
    story.when(refund("d")).then_refused("refund_exceeds_consumption")


def test_an_earlier_period_is_left_alone() -> None:
    story = on().when(direct(amount=10)).at(END).when(direct("d", amount=5))
    story.when(reset_usage()).then("usage_reset", available=40)
    story.when(refund()).then("consumption", "refund_regrant", available=50)


def test_debt_that_the_work_made_falls_first() -> None:
    story = on().when(reserve(amount=40)).when(consume(amount=55)).then("settle", debt=15, available=0)
    story.when(reset_usage()).then("usage_reset", debt=0, available=40)
    assert (story.data("usage_reset").debt_refunded, story.data("usage_reset").amount) == (15, 55)


def test_what_an_expired_grant_paid_is_granted_anew_and_nothing_of_the_unfunded_part() -> None:
    story = on().when(granted("g", 5, priority=1, expires_at="2026-11-01T12:00:00Z")).when(reserve(amount=45))
    story.when(consume(amount=99)).then("settle", debt=20).after(hours=6)
    story.when(reset_usage()).then("usage_reset", "refund_regrant", due=[], available=45)
    assert story.data("refund_regrant").source_grant_id == "g"
    assert story.data("usage_reset").usage == 99


def test_what_was_reclaimed_does_not_come_back() -> None:
    story = on("b").when(direct(amount=90)).when(change_plan("a", when="now")).then("changed", "plan")
    story.when(reset_usage()).then("usage_reset", "revoked", available=40)
    assert story.state.account.reclaim == {}


def test_held_credits_stay_held() -> None:
    story = on().when(reserve(amount=10)).when(direct(amount=10)).when(reset_usage())
    story.then("usage_reset", available=30, reserved=10)


def test_an_unknown_account_has_nothing_to_reset() -> None:
    new(SHOP).when(reset_usage()).then_refused("account_not_found")


def test_however_many_grants_paid_the_snapshot_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolve_work, "PAYERS_MAX", 3)
    assert evolve_work.PAYERS_MAX == 3 < spending.PAYERS_MAX
    story = on()
    for index in range(17):
        story.when(granted(f"g{index}", 2, priority=1)).when(direct(f"c{index}", amount=2)).then("direct")
        assert len(story.state.account.usage["credits"].payers) <= 3
    story.when(refund("c2")).then("consumption")
    story.when(reset_usage()).then("usage_reset", available=40 + 34)
    assert len(story.drawn("usage_reset")) == 16
    assert story.state.account.usage["credits"].payers == {}
