"""Laws of grants: what they are, when they can be used, and the one order in which they are drawn."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from events.commands import Cost, Grant
from tests.domain.scenario import Story, given
from tests.domain.shop import START, change_plan, consume, direct, granted, opened, release, reserve

SOON = "2026-11-01T10:00:00.000000Z"
LATER = "2026-12-01T00:00:00.000000Z"
MUCH_LATER = "2027-12-01T00:00:00.000000Z"


class TestGranting:
    def test_credits_granted_are_available_at_once_and_count_as_bonus_unless_they_were_paid(self) -> None:
        given().when(granted("g", 5)).then("promo", available=5, bonus=5)
        given().when(granted("g", 5, kind="trial")).then("trial", available=5, bonus=5)
        given().when(granted("g", 5, kind="purchase")).then("purchase", available=5, bonus=0)

    def test_the_allowance_is_no_bonus(self) -> None:
        given(opened("twin")).balance(available=120, bonus=0)

    def test_scoped_credits_stand_apart(self) -> None:
        given().when(granted("g", 5, operations=("image",))).then("promo", available=0, scoped=5, bonus=0)

    def test_another_unit_has_a_balance_of_its_own(self) -> None:
        story = given().when(granted("g", 5, unit="minutes")).then("promo", available=0)
        story.balance("minutes", available=5, bonus=5)
        story.when(reserve(amount=1)).then_refused("insufficient_credits", unit="credits")
        story.when(reserve(amount=5, unit="minutes")).then("hold", available=0, reserved=0)
        story.balance("minutes", reserved=5)

    def test_the_answer_shows_the_grant(self) -> None:
        cost: dict[str, Any] = {"amount": 900, "currency": "usd"}
        story = given()
        story.when(granted("g", 5, kind="purchase", cost_basis=Cost(**cost), expires_at=LATER, operations=("image",)))
        told = story.then("purchase").answered()["grant"]
        assert told == {
            "id": "g",
            "kind": "purchase",
            "unit": "credits",
            "amount": 5,
            "remaining": 5,
            "held": 0,
            "state": "active",
            "priority": 50,
            "starts_at": START,
            "expires_at": LATER,
            "operations": ["image"],
            "cost_basis": cost,
            "source_grant_id": None,
        }

    def test_a_grant_without_an_id_gets_one(self) -> None:
        story = given().when(granted("g", 5))
        story.when(Grant(account="acme", amount=5)).then("promo", available=10)
        assert len(story.state.account.grants) == 2

    def test_an_id_is_taken_once_even_after_the_grant_ended(self) -> None:
        given(granted("g", 5)).when(granted("g", 5)).then_refused("already_exists", grant_id="g")
        drained = given(granted("g", 5), direct(amount=5))
        drained.when(granted("g", 5)).then_refused("already_exists")
        expired = given(granted("g", 5, expires_at=SOON)).at(LATER)
        expired.when(granted("h", 1)).then("promo", due=["expired"])
        expired.when(granted("g", 5)).then_refused("already_exists")

    def test_a_scope_may_only_name_operations_of_the_catalog(self) -> None:
        given().when(granted("g", 5, operations=("image", "imgae"))).then_refused(
            "operation_not_found", operation="imgae"
        )

    def test_a_unit_must_be_of_the_catalog(self) -> None:
        given().when(granted("g", 5, unit="minuts")).then_refused("invalid_request")

    def test_the_default_priorities_follow_the_kind(self) -> None:
        story = given(opened("basic"), granted("promo", 1), granted("bought", 1, kind="purchase"))
        story.when(granted("mine", 1, priority=0))
        by_kind = {grant.kind: grant.priority for grant in story.state.account.grants.values() if grant.id != "mine"}
        assert by_kind == {"plan": 20, "trial": 30, "promo": 30, "purchase": 50}
        assert story.bucket("mine").priority == 0


class TestTheNumberOfLiveGrants:
    def full(self, **of_first: Any) -> Story:
        story = given(granted("g0", 1, **of_first))
        story.thorough = False
        for number in range(1, 256):
            story.when(granted(f"g{number}", 1))
        return story.then("promo")

    def test_an_account_has_at_most_256_live_grants(self) -> None:
        story = self.full(effective_at=LATER)
        story.when(granted("more", 1)).then_refused("too_many_grants", limit=256)
        story.check_history()

    def test_a_drained_one_makes_room(self) -> None:
        story = self.full().when(direct(amount=1)).then("direct")
        story.when(granted("more", 1)).then("promo", available=256)
        story.when(granted("another", 1)).then_refused("too_many_grants")

    def test_an_expired_one_makes_room(self) -> None:
        story = self.full(expires_at=SOON).at(SOON)
        story.when(granted("more", 1)).then("promo", due=["expired"], available=256)


class TestScheduledGrants:
    def test_credits_wait_in_scheduled_until_their_instant(self) -> None:
        story = given().when(granted("g", 5, effective_at=SOON)).then("promo", available=0, scheduled=5, bonus=0)
        assert story.answered()["grant"]["state"] == "scheduled"
        story.at("2026-11-01T09:59:59.999999Z").balance(available=0, scheduled=5)
        story.when(reserve(amount=1)).then_refused("insufficient_credits")
        story.at(SOON).balance(available=5, scheduled=0, bonus=5)
        story.when(reserve(amount=5)).then("hold", due=["activated"], available=0, reserved=5)
        assert story.log[-2].event.effective_at == SOON

    def test_a_scoped_one_is_scheduled_and_then_scoped(self) -> None:
        story = given(granted("g", 5, effective_at=SOON, operations=("image",))).balance(scheduled=5, scoped=0)
        story.at(SOON).balance(scheduled=0, scoped=5, available=0)

    def test_an_instant_that_has_passed_is_now(self) -> None:
        story = given().at(LATER).when(granted("g", 5, effective_at=SOON)).then("promo", available=5, scheduled=0)
        assert story.data("promo").starts_at == LATER
        story.when(granted("h", 5, effective_at=LATER)).then("promo", available=10, scheduled=0)

    def test_a_grant_ends_after_it_starts_and_after_now(self) -> None:
        story = given().at(LATER)
        for effective_at, expires_at in ((None, LATER), (SOON, LATER), (MUCH_LATER, MUCH_LATER), (None, SOON)):
            story.when(granted("g", 5, effective_at=effective_at, expires_at=expires_at))
            story.then_refused("invalid_request")
        story.when(granted("g", 5, expires_at="2026-12-01T00:00:00.000001Z")).then("promo", available=5)

    def test_one_that_starts_and_ends_unseen_does_both(self) -> None:
        story = given(granted("g", 5, effective_at=SOON, expires_at=LATER)).at(MUCH_LATER)
        story.when(granted("h", 1)).then("promo", due=["activated", "expired", "renewed"], available=1, scheduled=0)
        assert [line.event.effective_at for line in story.log[-4:-2]] == [SOON, LATER]


class TestExpiry:
    def test_expires_at_is_exclusive(self) -> None:
        story = given(granted("g", 5, expires_at=SOON))
        story.at("2026-11-01T09:59:59.999999Z").when(reserve("r1", amount=1)).then("hold", available=4)
        story.at(SOON).balance(available=0, reserved=1)
        story.when(reserve("r2", amount=1)).then_refused("insufficient_credits", available=0)

    def test_expiry_takes_the_part_that_is_not_held(self) -> None:
        story = given(granted("g", 5, expires_at=SOON), reserve(amount=2, ttl_seconds=7200)).at(SOON)
        story.when(granted("h", 1)).then("promo", due=["expired"], available=1, reserved=2)
        assert (story.data("expired").amount, story.data("expired").allocation[0].amount) == (-3, 3)
        assert story.log[-2].event.effective_at == SOON
        assert (story.bucket("g").state, story.bucket("g").held) == ("expired", 2)

    def test_what_is_held_of_an_expired_grant_can_still_be_charged(self) -> None:
        story = given(granted("g", 5, expires_at=SOON), reserve(amount=4, ttl_seconds=7200)).at(SOON)
        story.when(consume(amount=3, final=False)).then("partial", due=["expired"], available=0, reserved=1)
        story.when(consume(amount=1)).then("settle", available=0, reserved=0)

    @pytest.mark.parametrize(
        ("command", "kinds"),
        [(release(), ["release", "expired"]), (consume(amount=1), ["settle", "release", "expired"])],
        ids=["release", "settle"],
    )
    def test_what_a_hold_returns_to_an_expired_grant_expires_in_the_same_batch(self, command: Any, kinds: Any) -> None:
        story = given(granted("g", 5, expires_at=SOON), reserve(amount=3, ttl_seconds=7200)).at(SOON)
        story.when(command).then(*kinds, due=["expired"], available=0, reserved=0)
        assert story.bucket("g").expired == 5 - story.bucket("g").consumed

    def test_so_does_what_an_expiring_hold_returns(self) -> None:
        story = given(granted("g", 5, expires_at=SOON), reserve(amount=3, ttl_seconds=7200)).at(LATER)
        story.when(granted("h", 1)).then("promo", due=["expired", "hold_expired", "expired"], available=1, reserved=0)
        assert [fact.system_id for fact in story.decision.due] == ["expired:g", "hold_expired:r", "expired:g"]  # type: ignore[union-attr]
        assert [line.event.effective_at for line in story.log[-3:-1]] == ["2026-11-01T11:30:30.000000Z"] * 2

    def test_a_drained_grant_does_not_expire(self) -> None:
        story = given(granted("g", 5, expires_at=SOON), direct(amount=5)).at(LATER)
        story.when(granted("h", 1)).then("promo", due=[], available=1)

    def test_a_grant_without_an_end_never_expires(self) -> None:
        given(granted("g", 5)).at("2126-11-01T00:00:00.000000Z").balance(available=5)

    def test_the_allowance_ends_with_the_period(self) -> None:
        story = given(opened("twin")).at("2026-12-01T09:29:59.999999Z").balance(available=120)
        story.at("2026-12-01T09:30:00.000000Z").when(direct(amount=1))
        story.then("direct", due=["renewed", "expired", "plan"], available=119)


class TestTheDrawOrder:
    """`a` stands before `b` for one reason each; what comes later in the order is against it."""

    PAIRS = (
        ("priority first", {"priority": 1}, {"priority": 2, "expires_at": SOON, "operations": ("image",)}),
        ("then the earlier end", {"expires_at": SOON}, {"expires_at": LATER, "operations": ("image",)}),
        ("which never comes last", {"expires_at": MUCH_LATER}, {"operations": ("image",)}),
        ("then scoped", {"operations": ("image",), "kind": "purchase", "priority": 9}, {"priority": 9}),
        ("then unpaid", {"priority": 9}, {"kind": "purchase", "priority": 9}),
    )

    @pytest.mark.parametrize(("a", "b"), [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS])
    @pytest.mark.parametrize("turned", [False, True], ids=["granted-in-order", "granted-in-reverse"])
    def test_grants_are_drawn(self, a: dict[str, Any], b: dict[str, Any], turned: bool) -> None:
        grants = [granted("a", 5, **a), granted("b", 5, **b)]
        story = given(*(reversed(grants) if turned else grants))
        story.when(reserve("r1", operation="image", quantity=7)).then("hold")
        assert story.drawn("hold") == [("a", 5), ("b", 2)]
        story.when(release("r1")).then("release")
        story.when(direct(operation="image", quantity=7)).then("direct")
        assert story.drawn("direct") == [("a", 5), ("b", 2)]

    def test_position_comes_last(self) -> None:
        story = given(granted("b", 5), granted("a", 5)).when(direct(amount=7)).then("direct")
        assert story.drawn("direct") == [("b", 5), ("a", 2)]

    def test_activation_comes_before_position(self) -> None:
        story = given(granted("late", 5, effective_at=LATER), granted("soon", 5, effective_at=SOON)).at(MUCH_LATER)
        story.when(direct(amount=6)).then("direct", due=["activated", "activated", "renewed"])
        assert story.drawn("direct") == [("soon", 5), ("late", 1)]

    def test_unpaid_comes_before_an_earlier_activation(self) -> None:
        story = given(granted("paid", 5, kind="purchase", priority=9)).at(SOON).when(granted("gift", 5, priority=9))
        story.when(direct(amount=6)).then("direct")
        assert story.drawn("direct") == [("gift", 5), ("paid", 1)]

    def test_the_allowance_is_drawn_before_gifts_and_gifts_before_what_was_bought(self) -> None:
        story = given(opened("twin"), granted("bought", 5, kind="purchase"), granted("gift", 5))
        story.when(direct(amount=126)).then("direct")
        assert [grant_id for grant_id, _ in story.drawn("direct")] == ["new1:1", "gift", "bought"]

    def test_only_operations_of_the_scope_draw_scoped_credits(self) -> None:
        story = given(granted("image", 5, operations=("image",)), granted("any", 5))
        story.when(reserve("r1", operation="reel")).then("hold", available=2, scoped=5)
        story.when(reserve("r2", operation="image", quantity=6)).then("hold", available=1, scoped=0)
        assert story.drawn("hold") == [("image", 5), ("any", 1)]

    def test_a_bare_amount_draws_general_credits_only(self) -> None:
        story = given(granted("image", 5, operations=("image",)), granted("any", 5))
        story.when(reserve(amount=6)).then_refused("insufficient_credits", available=5, shortfall=1)
        story.when(reserve(amount=5)).then("hold", available=0, scoped=5)
        story.when(direct(amount=1)).then_refused("insufficient_credits", available=0)

    def test_a_grant_that_was_drained_and_filled_again_keeps_its_place(self) -> None:
        story = given(granted("a", 5, priority=1), granted("b", 5, priority=2), reserve(amount=5))
        assert list(story.state.account.grants) == ["a", "b"]
        story.when(direct(amount=1)).then("direct")
        assert story.drawn("direct") == [("b", 1)]
        story.when(release()).then("release")
        story.when(direct("c2", amount=6)).then("direct")
        assert story.drawn("direct") == [("a", 5), ("b", 1)]

    @examples(st.data())
    def test_the_order_does_not_depend_on_how_the_grants_came(self, data: st.DataObject) -> None:
        """Whatever grants there are: drawing all of them drains them in the order of the specification."""
        fields = st.fixed_dictionaries(
            {
                "priority": st.sampled_from([None, 0, 30, 1000]),
                "expires_at": st.sampled_from([None, SOON, LATER]),
                "operations": st.sampled_from([None, ("image",), ("image", "reel")]),
                "kind": st.sampled_from(["promo", "purchase", "trial"]),
            }
        )
        grants = data.draw(st.lists(fields, min_size=2, max_size=6))
        story = given(*(granted(f"g{n}", 1, **each) for n, each in enumerate(grants)))
        story.when(reserve(operation="image", quantity=len(grants))).then("hold", available=0, scoped=0)

        def place(entry: tuple[str, int]) -> tuple[object, ...]:
            number = int(entry[0][1:])
            each = grants[number]
            priority = each["priority"]
            if priority is None:
                priority = 50 if each["kind"] == "purchase" else 30
            never = each["expires_at"] is None
            return (
                priority,
                never,
                each["expires_at"] or "",
                0 if each["operations"] else 1,
                1 if each["kind"] == "purchase" else 0,
                number,
            )

        drawn = story.drawn("hold")
        assert drawn == sorted(drawn, key=place)
        assert len(drawn) == len(grants)

    def test_an_upgrade_in_between_changes_nothing_of_the_order(self) -> None:
        for order in permutations([granted("gift", 5), granted("bought", 5, kind="purchase"), change_plan("twin")]):
            story = given(*order).when(direct(amount=130)).then("direct", available=0)
            assert [grant_id for grant_id, _ in story.drawn("direct")][1:] == ["gift", "bought"]
