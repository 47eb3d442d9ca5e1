"""Laws of credits that an admin takes: a revoked grant, whatever comes back to it, and adjustments either way."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from events.commands import parse_command
from tests.domain.scenario import Story, given, new
from tests.domain.shop import (
    adjust,
    change_plan,
    consume,
    direct,
    granted,
    line,
    opened,
    refund,
    release,
    reserve,
    revoke,
    status,
)


def allowance(story: Story) -> str:
    """The id of the plan's grant of credits."""
    return next(grant.id for grant in story.state.account.grants.values() if grant.kind == "plan")


class TestRevoking:
    def test_what_is_left_is_gone_and_the_grant_has_ended(self) -> None:
        story = given(granted("g", 10, kind="purchase"), direct(amount=3)).when(revoke(reason="charged back"))
        story.then("revoked", available=0)
        told = story.answered()["grant"]
        assert {name: told[name] for name in ("id", "kind", "amount", "remaining", "held", "state")} == {
            "id": "g",
            "kind": "purchase",
            "amount": 10,
            "remaining": 0,
            "held": 0,
            "state": "revoked",
        }
        assert (story.data("revoked").amount, story.data("revoked").reason) == (-7, "charged back")

    def test_what_a_hold_has_stays_with_it_and_is_revoked_as_it_comes_back(self) -> None:
        story = given(granted("g", 10), reserve(amount=6)).when(revoke()).then("revoked", available=0, reserved=6)
        assert story.answered()["grant"]["held"] == 6
        story.when(consume(amount=2)).then("settle", "release", "revoked", available=0, reserved=0)
        assert (story.bucket("g").revoked, story.bucket("g").consumed) == (8, 2)

    def test_also_when_the_hold_expires(self) -> None:
        story = given(granted("g", 10), reserve(amount=6), revoke()).after(seconds=330).balance(available=0)
        story.when(granted("h", 1)).then("promo", due=["hold_expired", "revoked"], available=1, reserved=0)

    def test_the_hold_can_be_charged_whole(self) -> None:
        story = given(granted("g", 10), reserve(amount=6), revoke()).when(consume()).then("settle", available=0)
        story.when(refund("r")).then("consumption", "revoked", available=0)

    def test_what_a_refund_returns_is_revoked_in_the_same_batch(self) -> None:
        story = given(granted("g", 10), direct(amount=6), revoke())
        story.when(refund(amount=4)).then("consumption", "revoked", available=0)
        assert (story.data("consumption").regranted, story.data("revoked").amount) == (0, -4)
        assert story.answered()["consumption"]["refunded"] == 4
        assert "grant" not in story.answered()
        assert story.state.account.usage["credits"].used == 2

    def test_a_refund_returns_each_part_the_way_of_its_own_grant(self) -> None:
        grants = [granted(name, 2, priority=n) for n, name in enumerate(("alive", "gone", "over"))]
        story = given(*grants[:2], granted("over", 2, priority=2, expires_at="2026-11-01T10:00:00Z"), direct(amount=6))
        story.when(revoke("gone")).then("revoked")
        story.after(days=1).when(refund()).then("consumption", "revoked", "refund_regrant", available=4)

    def test_debt_is_not_repaid_from_it(self) -> None:
        story = given(opened("credit"), granted("g", 10), reserve(amount=6), direct(amount=4), revoke())
        story.when(reserve("s", amount=0, occupies={"slots": 1})).then("hold")
        story.when(consume("s", amount=5)).then("settle", debt=5)
        story.when(release()).then("release", "revoked", debt=5, available=0)
        story.when(refund()).then("consumption", "revoked", debt=5)

    def test_a_drained_grant_gives_nothing_and_is_revoked_from_then_on(self) -> None:
        story = given(granted("g", 4), direct(amount=4)).when(revoke()).then("revoked", available=0)
        assert story.data("revoked").amount == 0
        assert story.answered()["grant"]["state"] == "revoked"
        story.when(refund()).then("consumption", "revoked", available=0)

    def test_so_does_one_that_has_ended(self) -> None:
        story = given(granted("g", 4, expires_at="2026-11-02T00:00:00Z"), direct(amount=3)).after(days=2)
        story.when(revoke()).then("revoked", due=["expired"])
        story.when(revoke()).then("revoked")
        assert story.data("revoked").amount == 0
        story.when(refund()).then("consumption", "revoked", available=0)

    def test_a_scheduled_grant_never_starts(self) -> None:
        story = given(granted("g", 4, effective_at="2026-11-02T00:00:00Z")).balance(scheduled=4)
        story.when(revoke()).then("revoked", scheduled=0)
        story.after(days=2).when(adjust(1)).then("adjustment", available=1)

    def test_a_scoped_grant_too(self) -> None:
        given(granted("g", 4, operations=("image",))).when(revoke()).then("revoked", scoped=0)

    def test_a_grant_that_is_not_there_is_not_found(self) -> None:
        given().when(revoke("x")).then_refused("grant_not_found", grant_id="x")
        new().when(revoke("x")).then_refused("account_not_found")

    def test_a_revoked_grant_makes_room_among_the_live_ones(self) -> None:
        story = given(*(granted(f"g{n}", 1) for n in range(256)))
        story.when(granted("g", 1)).then_refused("too_many_grants", limit=256, used=256)
        story.when(revoke("g7")).then("revoked").when(granted("g", 1)).then("promo", available=256)


class TestTakingBackAnAllowance:
    def test_it_lowers_what_the_period_allowed(self) -> None:
        story = given(opened("basic"), direct(amount=30))
        story.when(revoke(allowance(story))).then("revoked")
        assert story.data("revoked").take_back == "change"
        assert (story.data("revoked").amount, story.state.account.usage["credits"].allowed) == (-70, 30)

    def test_so_an_upgrade_grants_it_again_once(self) -> None:
        story = given(opened("basic"), reserve(amount=40))
        story.when(revoke(allowance(story))).then("revoked", available=20, reserved=40)
        story.when(change_plan("pro")).then("changed", "plan", available=280)

    def test_what_a_hold_returns_to_it_is_taken_back_as_well(self) -> None:
        story = given(opened("basic"), reserve(amount=40))
        story.when(revoke(allowance(story))).then("revoked")
        story.when(release()).then("release", "revoked", available=20)
        assert story.state.account.usage["credits"].allowed == 0

    def test_what_a_refund_returns_to_it_is_not(self) -> None:
        """G is net of refunds' effect: what was used of the allowance was allowed."""
        story = given(opened("basic"), direct(amount=40))
        story.when(revoke(allowance(story))).then("revoked")
        story.when(refund()).then("consumption", "revoked", available=20)
        assert story.state.account.usage["credits"].allowed == 40

    def test_other_grants_are_no_allowance(self) -> None:
        story = given(opened("basic"), granted("g", 5)).when(revoke()).then("revoked")
        assert story.data("revoked").take_back is None
        assert story.state.account.usage["credits"].allowed == 100


class TestAdding:
    def test_a_positive_amount_is_a_general_grant_without_an_end(self) -> None:
        story = given().when(adjust(5, reference="ticket 7")).then("adjustment", available=5, bonus=5)
        told = story.answered()["grant"]
        assert (told["kind"], told["amount"], told["priority"], told["expires_at"]) == ("adjustment", 5, 40, None)
        assert (story.data("adjustment").reason, story.data("adjustment").reference) == ("counted again", "ticket 7")

    def test_it_repays_debt_first(self) -> None:
        story = given(adjust(-7, insufficient="debt")).balance(debt=7)
        story.when(adjust(5)).then("adjustment", debt=2, available=0)
        assert story.answered()["grant"]["state"] == "drained"
        story.when(adjust(5)).then("adjustment", debt=0, available=3)

    def test_it_is_drawn_after_promos_and_before_what_was_bought(self) -> None:
        story = given(granted("bought", 5, kind="purchase"), adjust(5), granted("gift", 5))
        story.when(direct(amount=11)).then("direct", available=4)
        assert [grant_id for grant_id, _ in story.drawn("direct")][::2] == ["gift", "bought"]

    def test_of_any_unit_that_the_catalog_has(self) -> None:
        given().when(adjust(5, unit="minutes")).then("adjustment").balance("minutes", available=5)
        given().when(adjust(5, unit="minuts")).then_refused("invalid_request")


class TestTaking:
    def test_general_grants_give_in_the_order_of_drawing(self) -> None:
        story = given(granted("bought", 5, kind="purchase"), granted("gift", 5)).when(adjust(-7))
        story.then("adjustment", available=3)
        assert story.drawn("adjustment") == [("gift", 5), ("bought", 2)]
        assert (story.data("adjustment").grant_id, story.data("adjustment").amount) == (None, -7)
        assert (story.bucket("gift").adjusted, story.bucket("bought").adjusted) == (5, 2)
        assert "grant" not in story.answered()

    def test_holds_and_scoped_and_scheduled_credits_are_safe(self) -> None:
        story = given(
            granted("g", 10),
            reserve(amount=6),
            granted("images", 5, operations=("image",)),
            granted("soon", 5, effective_at="2026-11-02T00:00:00Z"),
        )
        story.when(adjust(-5)).then_refused("insufficient_credits", cost=5, available=4, shortfall=1, max_affordable=4)
        story.when(adjust(-4)).then("adjustment", available=0, reserved=6, scoped=5, scheduled=5)

    def test_reject_is_the_default(self) -> None:
        story = given(granted("g", 3)).when(adjust(-4)).then_refused("insufficient_credits", shortfall=1)
        story.when(adjust(-4, insufficient="reject")).then_refused("insufficient_credits").balance(available=3)

    def test_clamp_takes_what_there_is(self) -> None:
        story = given(granted("g", 3)).when(adjust(-4, insufficient="clamp")).then("adjustment", available=0, debt=0)
        assert story.data("adjustment").amount == -3
        story.when(adjust(-4, insufficient="clamp")).then("adjustment", available=0, debt=0)
        assert story.data("adjustment").amount == 0

    def test_debt_is_not_limited(self) -> None:
        story = (
            given(granted("g", 3)).when(adjust(-1000, insufficient="debt")).then("adjustment", available=0, debt=997)
        )
        assert (story.data("adjustment").amount, story.data("adjustment").debt_added) == (-1000, 997)
        story.when(adjust(-5, insufficient="debt")).then("adjustment", debt=1002)
        story.when(granted("h", 1003)).then("promo", available=1, debt=0)

    def test_but_for_the_largest_figure(self) -> None:
        most = 2**53 - 1
        story = given(adjust(-most, insufficient="debt")).balance(debt=most)
        story.when(adjust(-1, insufficient="debt")).then_refused("invalid_request")

    def test_usage_is_not_touched(self) -> None:
        story = given(opened("basic"), adjust(-50))
        usage = story.state.account.usage["credits"]
        assert (usage.used, usage.charged, usage.allowed) == (0, 0, 100)

    def test_what_was_taken_is_not_what_a_refund_returns(self) -> None:
        story = given(granted("g", 10), direct(amount=4), adjust(-6)).when(refund()).then("consumption", available=4)
        assert story.bucket("g").returned == 4

    def test_an_unknown_account_is_not_opened(self) -> None:
        new().when(adjust(5)).then_refused("account_not_found")


@pytest.mark.parametrize(
    "wrong",
    [{"amount": 0}, {"amount": 2**53}, {"amount": -(2**53)}, {"amount": 1.0}, {"amount": None}, {"reason": ""}],
    ids=str,
)
def test_what_an_adjustment_may_say_has_bounds(wrong: dict[str, Any]) -> None:
    body = {"account": "acme", "amount": -3, "reason": "counted again"}
    assert parse_command("adjust", orjson.dumps(body), on_reservation=False) == adjust(-3)
    with pytest.raises(ValueError, match="validation error"):
        parse_command("adjust", orjson.dumps(body | wrong), on_reservation=False)


@pytest.mark.parametrize("now", ["frozen", "closed"])
def test_an_admin_may_take_while_an_account_is_frozen_and_not_once_it_is_closed(now: str) -> None:
    story = given(granted("g", 5), reserve(lines=(line("image"), line("image"))), status(now))
    for command, kind in ((revoke(), "revoked"), (adjust(2), "adjustment"), (adjust(-1), "adjustment")):
        if now == "closed":
            story.when(command).then_refused("account_closed")
        else:
            story.when(command).then(kind)
