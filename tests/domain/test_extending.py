"""Laws of extending a hold: more time, never less; more credits as if reserved; other room in place of the old."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from events.commands import parse_command
from tests.domain.scenario import Story, given
from tests.domain.shop import (
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


def held(**fields: Any) -> Story:
    """A hold of 4 among 10 credits, for 300 seconds."""
    return given(granted("g", 10), reserve("r", **({"amount": 4} | fields)))


class TestTime:
    def test_nothing_said_is_five_minutes_from_now(self) -> None:
        story = held().after(seconds=100).when(extend()).then("extend", available=6, reserved=4)
        assert story.answered()["reservation"]["expires_at"] == "2026-11-01T09:36:40.000000Z"

    def test_the_later_end_counts(self) -> None:
        story = held().when(extend(ttl_seconds=10)).then("extend")
        assert story.work().expires_at == "2026-11-01T09:35:00.000000Z"
        story.when(extend(ttl_seconds=3600)).then("extend")
        assert story.work().expires_at == "2026-11-01T10:30:00.000000Z"

    def test_the_hold_lives_until_its_new_end_and_grace(self) -> None:
        story = held().after(seconds=299).when(extend(ttl_seconds=600)).then("extend")
        story.after(seconds=629).balance(reserved=4).when(consume()).then("settle")

    def test_then_it_expires(self) -> None:
        story = held().when(extend(ttl_seconds=600)).then("extend").after(seconds=630)
        story.balance(available=10, reserved=0).when(release()).then_refused("reservation_finalized", state="expired")

    def test_a_day_from_the_beginning_is_the_most(self) -> None:
        story = held(ttl_seconds=86_000).after(seconds=80_000).when(extend(ttl_seconds=6400)).then("extend")
        latest = "2026-11-02T09:30:00.000000Z"
        assert story.work().expires_at == latest
        story.when(extend(ttl_seconds=6401)).then_refused("invalid_request", latest_expires_at=latest)
        story.after(seconds=6200).when(extend()).then_refused("invalid_request", latest_expires_at=latest)

    def test_who_asks_for_credits_or_room_gets_the_time_that_is_left(self) -> None:
        asked: tuple[dict[str, Any], ...] = ({"amount": 1}, {"occupies": {"slots": 1}})
        for fields in asked:
            story = held(ttl_seconds=86_300).after(seconds=86_200).when(extend(**fields)).then("extend")
            assert story.work().expires_at == "2026-11-02T09:30:00.000000Z"

    def test_in_the_grace_and_after_it_is_too_late(self) -> None:
        story = held().after(seconds=300)
        story.when(extend()).then_refused("reservation_expired", state="open", reservation_id="r")
        story.after(seconds=30).when(extend()).then_refused("reservation_expired", state="expired")
        story.when(consume()).then("late", due=["hold_expired"])
        story.when(extend()).then_refused("reservation_finalized", state="settled_late")

    def test_what_has_ended_is_not_extended(self) -> None:
        story = held().when(release()).then("release")
        story.when(extend()).then_refused("reservation_finalized", state="released")
        story.when(extend("x")).then_refused("reservation_not_found")

    def test_a_slot_stays_without_an_end(self) -> None:
        story = given(reserve(amount=0, occupies={"slots": 1}, ttl_seconds=None))
        story.when(extend(ttl_seconds=60, occupies={"slots": 3})).then("extend")
        assert (story.work().expires_at, story.state.account.open_holds) == (None, 0)
        story.when(extend(amount=1)).then_refused("invalid_request")
        story.after(days=400).when(extend(occupies={"slots": 0})).then("extend", due=["renewed"])
        assert story.state.account.occupied == {}


class TestCredits:
    def test_more_is_held_and_charged_like_the_rest(self) -> None:
        story = held().when(extend(amount=3)).then("extend", available=3, reserved=7)
        told = story.answered()["reservation"]
        assert (told["amount"], told["held"], told["lines"][0]["amount"]) == (7, 7, 7)
        story.when(consume(amount=6)).then("settle", "release", available=4, reserved=0)

    def test_more_than_there_is_is_refused_with_what_helps(self) -> None:
        story = held().when(granted("soon", 5, effective_at="2026-11-02T00:00:00Z")).then("promo")
        story.when(extend(amount=9)).then_refused(
            "insufficient_credits",
            cost=9,
            available=6,
            shortfall=3,
            max_affordable=6,
            earliest_affordable_at="2026-11-02T00:00:00.000000Z",
        )
        assert story.balance(available=6, reserved=4).work().expires_at == "2026-11-01T09:35:00.000000Z"

    def test_a_hold_by_amount_grows_from_general_credits(self) -> None:
        story = held().when(granted("images", 50, operations=("image",))).then("promo")
        story.when(extend(amount=7)).then_refused("insufficient_credits", available=6, shortfall=1)

    def test_a_hold_of_an_operation_grows_from_what_the_operation_may_use(self) -> None:
        story = given(granted("g", 10), granted("images", 5, operations=("image",)), reserve(operation="image"))
        story.when(extend(amount=14)).then("extend", available=0, scoped=0, reserved=15)

    def test_of_several_lines_the_first_that_may_use_a_grant_gets_what_it_gives(self) -> None:
        reels = granted("reels", 8, operations=("reel",))
        images = granted("images", 9, operations=("image",), priority=5)
        story = given(reels, images, granted("any", 20), reserve(lines=(line("image", 2), line("reel", 2))))
        assert story.drawn("hold") == [("images", 2), ("reels", 6)]
        story.when(extend(amount=12)).then("extend", scoped=0, available=17, reserved=20)
        entries = [(entry.line, entry.grant_id, entry.amount) for entry in story.data("extend").allocation]
        assert entries == [(0, "images", 7), (1, "reels", 2), (0, "any", 3)]
        told = story.answered()["reservation"]["lines"]
        assert [(each["amount"], each["held"]) for each in told] == [(12, 12), (8, 8)]
        story.when(consume(lines=(part(1, 8),))).then("settle", "release", scoped=9, available=20)

    def test_the_answer_to_the_reserve_stays_what_it_was(self) -> None:
        story = given(granted("g", 30), reserve(lines=(line("image", 2), line("reel", 2))))
        first = story.answered()
        story.when(extend(amount=5)).then("extend")
        story.check_history()
        assert first["reservation"]["lines"][0]["amount"] == 2

    def test_a_partial_step_may_be_followed_by_more(self) -> None:
        story = held().when(consume(final=False)).then("partial", reserved=0)
        story.when(extend(amount=2)).then("extend", reserved=2, available=4)
        assert (story.work().amount, story.work().charged) == (6, 4)
        story.when(consume()).then("settle", available=4)
        story.when(refund("r")).then("consumption", available=6)

    def test_an_amount_of_nothing_is_only_time(self) -> None:
        held().when(extend(amount=0)).then("extend", available=6, reserved=4)


class TestRoom:
    def test_what_is_named_is_replaced_and_the_rest_stays(self) -> None:
        story = given(opened("basic"), reserve(amount=1, occupies={"jobs": 1, "slots": 2}))
        story.when(extend(occupies={"slots": 5})).then("extend")
        assert story.answered()["reservation"]["occupies"] == {"jobs": 1, "slots": 5}
        assert story.state.account.occupied == {"jobs": 1, "slots": 5}

    def test_less_frees_and_zero_frees_all(self) -> None:
        story = given(opened("basic"), reserve(amount=1, occupies={"jobs": 2, "slots": 2}))
        story.when(extend(occupies={"jobs": 0, "slots": 1})).then("extend")
        assert story.state.account.occupied == {"slots": 1}
        story.when(release()).then("release")
        assert story.state.account.occupied == {}

    def test_more_needs_room(self) -> None:
        story = given(opened("basic"), reserve("other", amount=1, occupies={"slots": 3}))
        story.when(reserve(amount=1, occupies={"slots": 1})).then("hold")
        story.when(extend(occupies={"slots": 3})).then_refused(
            "capacity_exceeded", capacity="slots", used=4, limit=5, requested=2
        )
        story.when(extend(occupies={"slots": 2})).then("extend")

    def test_less_is_never_refused_though_the_limit_is_passed(self) -> None:
        story = given(opened("basic"), reserve(amount=1, occupies={"jobs": 2}))
        story.when(opened("twin")).then("changed", "plan")
        story.when(reserve("s", amount=1, occupies={"slots": 9})).then("hold")
        story.when(extend(occupies={"jobs": 2, "slots": 1})).then("extend")
        story.when(extend(occupies={"jobs": 3})).then_refused("capacity_exceeded", used=2, limit=1)

    def test_room_comes_before_credits(self) -> None:
        story = given(opened("basic"), reserve(amount=1))
        story.when(extend(amount=999, occupies={"jobs": 3})).then_refused("capacity_exceeded")
        story.when(extend(occupies={"job": 1})).then_refused("invalid_request")


class TestStatus:
    def test_a_frozen_account_holds_no_more_but_may_have_time_and_room(self) -> None:
        story = held().when(status("frozen")).then("status")
        story.when(extend(amount=1)).then_refused("account_frozen", account="acme")
        story.when(extend(ttl_seconds=900, occupies={"slots": 1})).then("extend")
        story.when(extend(amount=0)).then("extend")

    def test_a_closed_account_extends_nothing(self) -> None:
        held().when(status("closed")).then("status").when(extend()).then_refused("account_closed")


def test_extends_that_one_grant_pays_for_keep_the_hold_small() -> None:
    story = given(granted("a", 600), granted("b", 600), reserve(amount=1))
    for _ in range(3):
        story.when(extend(amount=100)).then("extend")
    assert story.work().lines[0].allocation == (("a", 301),)


@pytest.mark.parametrize(
    "wrong", [{"ttl_seconds": 0}, {"ttl_seconds": 86_401}, {"amount": -1}, {"occupies": {"a": -1}}]
)
def test_what_an_extend_may_ask_for_has_bounds(wrong: dict[str, object]) -> None:
    body = {"account": "acme", "reservation_id": "r"}
    assert parse_command("extend", orjson.dumps(body), on_reservation=False) == extend()
    with pytest.raises(ValueError, match="validation error"):
        parse_command("extend", orjson.dumps(body | wrong), on_reservation=False)


def test_a_settled_hold_frees_what_it_occupied_last() -> None:
    story = given(opened("basic"), reserve(amount=1, occupies={"slots": 1}), extend(occupies={"slots": 4}))
    story.when(consume()).then("settle")
    assert story.state.account.occupied == {}
    story.when(direct("d", operation="upload")).then("direct")
