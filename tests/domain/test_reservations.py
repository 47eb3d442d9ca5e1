"""Laws of reservations: all or nothing, in what order the gates stand, how long a hold lives, and what its end frees."""

from __future__ import annotations

from typing import Any

import pytest

from events.commands import Reserve
from tests.domain.scenario import given
from tests.domain.shop import START, catalog, change_plan, consume, direct, granted, line, opened, release, reserve

IN_5_MINUTES = "2026-11-01T09:35:00.000000Z"


class TestHolding:
    def test_a_hold_sets_credits_aside(self) -> None:
        story = given(granted("g", 10)).when(reserve(amount=4, reference="job 7", metadata={"team": "red"}))
        story.then("hold", available=6, reserved=4, bonus=6)
        assert story.answered()["reservation"] == {
            "id": "r",
            "state": "open",
            "unit": "credits",
            "amount": 4,
            "held": 4,
            "charged": 0,
            "unfunded": 0,
            "occupies": {},
            "expires_at": IN_5_MINUTES,
            "overage": "draw",
            "reference": "job 7",
            "metadata": {"team": "red"},
            "lines": [{"line": 0, "operation": None, "quantity": None, "amount": 4, "held": 4, "charged": 0}],
            "created_at": START,
        }

    def test_an_operation_is_held_at_its_price(self) -> None:
        story = given(granted("g", 50))
        story.when(reserve(operation="video", quantity=3, params={"quality": "hd", "tokens": 1500}))
        story.then("hold", available=14, reserved=36)  # (2 + 5 x 3 + 0.75) x 2, rounded up
        assert story.data("hold").price.multipliers == {"quality": {"standard": "1", "hd": "2"}}
        assert story.data("hold").lines[0].params == {"quality": "hd", "tokens": 1500}

    def test_the_whole_balance_can_be_held_and_not_one_credit_more(self) -> None:
        story = given(granted("g", 10))
        story.when(reserve(amount=11)).then_refused("insufficient_credits", cost=11, available=10, shortfall=1)
        story.when(reserve(amount=10)).then("hold", available=0, reserved=10)
        story.when(reserve("r2", amount=1)).then_refused("insufficient_credits", available=0)

    def test_a_hold_without_an_id_gets_one(self) -> None:
        story = given(granted("g", 10)).when(Reserve(account="acme", amount=1)).then("hold")
        assert story.answered()["reservation"]["id"] == story.data("hold").reservation_id

    def test_an_id_is_taken_by_a_hold_and_by_a_consumption_for_ever(self) -> None:
        story = given(granted("g", 10), reserve("a", amount=1), direct("b", amount=1), reserve("d", amount=2))
        story.when(release("a")).then("release")
        story.when(consume("d", amount=1, final=False)).then("partial")
        for taken in ("a", "b", "d", "d:1"):
            story.when(reserve(taken, amount=1)).then_refused("already_exists", id=taken)
            story.when(direct(taken, amount=1)).then_refused("already_exists", id=taken)

    def test_an_operation_that_costs_nothing_may_be_held(self) -> None:
        given(opened("basic")).when(reserve(operation="connect")).then("hold", available=120, reserved=0)

    def test_a_param_that_the_operation_does_not_know_is_refused(self) -> None:
        story = given(granted("g", 50))
        for params in ({"qualty": "hd"}, {"quality": "hdr"}, {"tokens": "many"}):
            story.when(reserve(operation="video", params=params)).then_refused("invalid_request")

    def test_an_unknown_unit_or_capacity_is_refused(self) -> None:
        story = given(granted("g", 50))
        story.when(reserve(amount=1, unit="minuts")).then_refused("invalid_request")
        story.when(reserve(amount=1, occupies={"job": 1})).then_refused("invalid_request")


class TestTheOrderOfTheGates:
    """Status, too many holds, capacity, credits."""

    def test_too_many_holds_comes_before_capacity_and_credits(self) -> None:
        shop = catalog("[plans.p]\nmax_open_holds = 1\ncapacity.jobs = 0\n[capacities.jobs]")
        story = given(opened("p"), granted("g", 1), reserve("r0", amount=1), catalog=shop)
        story.when(reserve(amount=9, occupies={"jobs": 1})).then_refused("too_many_holds", used=1, limit=1)
        story.when(release("r0")).then("release")
        story.when(reserve(amount=9, occupies={"jobs": 1})).then_refused("capacity_exceeded")
        story.when(reserve(amount=9)).then_refused("insufficient_credits")

    def test_an_id_that_is_taken_is_said_before_what_would_be_missing(self) -> None:
        given(granted("g", 1), reserve(amount=1)).when(reserve(amount=9)).then_refused("already_exists")


class TestLines:
    def test_several_operations_are_held_as_one(self) -> None:
        story = given(granted("g", 50)).when(reserve(lines=(line("image", 4), line("reel", 2), line("image"))))
        story.then("hold", available=39, reserved=11)
        told = story.answered()["reservation"]["lines"]
        assert [(each["operation"], each["quantity"], each["amount"]) for each in told] == [
            ("image", 4, 4),
            ("reel", 2, 6),
            ("image", 1, 1),
        ]
        assert story.answered()["reservation"]["amount"] == 11

    def test_all_or_nothing(self) -> None:
        story = given(granted("g", 10)).when(reserve(lines=(line("image", 4), line("reel", 3))))
        story.then_refused("insufficient_credits", cost=13, available=10, shortfall=3)
        story.balance(available=10, reserved=0)

    def test_each_line_draws_for_its_own_operation(self) -> None:
        grants = granted("images", 5, operations=("image",)), granted("reels", 5, operations=("reel",))
        story = given(*grants, granted("any", 5)).when(reserve(lines=(line("reel", 2), line("image", 6))))
        story.then("hold", available=3, scoped=0)
        entries = [(entry.line, entry.grant_id, entry.amount) for entry in story.data("hold").allocation]
        assert entries == [(0, "reels", 5), (0, "any", 1), (1, "images", 5), (1, "any", 1)]

    def test_no_credit_is_held_by_two_lines(self) -> None:
        story = given(granted("images", 5, operations=("image",)), granted("any", 3))
        story.when(reserve(lines=(line("image", 4), line("image", 5)))).then_refused(
            "insufficient_credits", available=8, shortfall=1
        )
        story.when(reserve(lines=(line("image", 4), line("image", 4)))).then("hold", available=0, scoped=0, reserved=8)

    def test_nor_by_three(self) -> None:
        story = given(granted("g", 9)).when(reserve(lines=(line("image", 4), line("image", 4), line("image", 2))))
        story.then_refused("insufficient_credits", available=9, shortfall=1)
        story.when(reserve(lines=(line("image", 4), line("image", 4), line("image", 1)))).then("hold", available=0)

    def test_all_lines_are_of_one_unit(self) -> None:
        story = given(opened("basic"))
        story.when(reserve(lines=(line("image"), line("export")))).then_refused("invalid_request")
        story.when(reserve(lines=(line("export", 2), line("export", 3)))).then("hold").balance("minutes", reserved=5)

    def test_each_line_is_rounded_up_by_itself(self) -> None:
        shop = catalog('default_plan = "p"\n[plans.p]\n[operations.sync]\neach = "0.2"')
        story = given(opened("p"), granted("g", 9), catalog=shop)
        story.when(reserve(lines=(line("sync"), line("sync", 6)))).then("hold", reserved=3)

    def test_every_line_occupies_what_its_operation_does(self) -> None:
        story = given(opened("basic")).when(reserve(lines=(line("video"), line("image"), line("video"))))
        story.then("hold")
        assert story.data("hold").occupies == {"jobs": 2}

    def test_one_unknown_operation_refuses_them_all(self) -> None:
        given(granted("g", 50)).when(reserve(lines=(line("image"), line("imgae")))).then_refused("operation_not_found")


class TestCapacity:
    def test_a_hold_occupies_and_its_end_frees(self) -> None:
        story = given(opened("basic"), reserve("a", operation="video"), reserve("b", operation="video"))
        refused = {"capacity": "jobs", "used": 2, "limit": 2}
        story.when(reserve("c", operation="video")).then_refused("capacity_exceeded", **refused)
        story.when(release("a")).then("release")
        story.when(reserve("c", operation="video")).then("hold")
        story.when(reserve("d", operation="video")).then_refused("capacity_exceeded", **refused)
        story.when(consume("b")).then("settle")
        story.when(reserve("d", operation="video")).then("hold")
        story.after(days=1).when(reserve("e", operation="video")).then("hold", due=["hold_expired", "hold_expired"])
        assert story.state.account.occupied == {"jobs": 1}

    def test_a_partial_step_frees_nothing(self) -> None:
        story = given(opened("basic"), reserve("a", operation="video")).when(consume("a", final=False)).then("partial")
        assert (story.work("a").held, story.state.account.occupied) == (0, {"jobs": 1})

    def test_capacity_goes_by_quantity_where_the_catalog_says_so(self) -> None:
        story = given(opened("basic")).when(reserve(operation="upload", quantity=2)).then("hold")
        assert story.state.account.occupied == {"slots": 4}
        story.when(reserve("r2", operation="upload")).then_refused("capacity_exceeded", used=4, limit=5)

    def test_what_the_body_occupies_is_added(self) -> None:
        story = given(opened("basic")).when(reserve(operation="video", occupies={"jobs": 1, "slots": 5})).then("hold")
        assert story.data("hold").occupies == {"jobs": 2, "slots": 5}
        story.when(reserve("r2", amount=0, occupies={"slots": 1})).then_refused("capacity_exceeded")

    def test_a_capacity_that_the_plan_does_not_name_is_unlimited(self) -> None:
        story = given(opened("twin")).when(reserve("a", amount=0, occupies={"slots": 10**9})).then("hold")
        story.when(reserve("b", amount=0, occupies={"jobs": 2})).then_refused("capacity_exceeded", used=0, limit=1)

    def test_a_limit_of_zero_lets_nothing_in(self) -> None:
        shop = catalog("[plans.p]\ncapacity.jobs = 0\n[capacities.jobs]")
        story = given(opened("p"), catalog=shop)
        story.when(reserve(amount=0, occupies={"jobs": 1})).then_refused("capacity_exceeded", used=0, limit=0)

    def test_limits_act_on_new_holds_and_what_is_open_lives_on(self) -> None:
        story = given(opened("basic"), reserve("a", operation="video"), reserve("b", operation="video"))
        story.when(change_plan("twin")).then("changed", "plan")
        assert story.state.account.occupied == {"jobs": 2}
        story.when(release("a")).then("release")
        story.when(reserve("c", operation="video")).then_refused("capacity_exceeded", used=1, limit=1)
        story.when(change_plan("pro")).then("changed", "plan")
        story.when(reserve("c", operation="video")).then("hold")

    def test_a_new_catalogs_limits_act_at_once(self) -> None:
        before, after = (catalog(f"[plans.p]\ncapacity.jobs = {limit}\n[capacities.jobs]") for limit in (1, 2))
        job = {"amount": 0, "occupies": {"jobs": 1}}
        story = given(opened("p"), reserve("a", **job), catalog=before)
        story.when(reserve("b", **job)).then_refused("capacity_exceeded", used=1, limit=1)
        story.under(after).when(reserve("b", **job)).then("hold")
        story.under(before).when(reserve("c", **job)).then_refused("capacity_exceeded", used=2, limit=1)

    def test_a_plan_that_left_the_catalog_keeps_its_limits(self) -> None:
        with_plan = catalog("[plans.p]\ncapacity.jobs = 1\nmax_open_holds = 2\n[capacities.jobs]")
        story = given(opened("p"), granted("g", 5), reserve("a", amount=1, occupies={"jobs": 1}), catalog=with_plan)
        story.under(catalog("[capacities.jobs]"))
        story.when(reserve("b", amount=1, occupies={"jobs": 1})).then_refused("capacity_exceeded", used=1, limit=1)
        story.when(reserve("b", amount=1)).then("hold")
        story.when(reserve("c", amount=1)).then_refused("too_many_holds", used=2, limit=2)


class TestTheNumberOfOpenHolds:
    def test_a_plan_limits_how_many_are_open_at_once(self) -> None:
        story = given(opened("credit"), granted("g", 9), *(reserve(f"r{n}", amount=1) for n in range(3)))
        story.when(reserve("r3", amount=1)).then_refused("too_many_holds", used=3, limit=3)
        story.when(consume("r0", final=False)).then("partial")
        story.when(reserve("r3", amount=1)).then_refused("too_many_holds")
        story.when(consume("r0", amount=0)).then("settle")
        story.when(reserve("r3", amount=1)).then("hold")

    def test_holds_without_an_end_neither_count_nor_are_refused(self) -> None:
        slot = {"amount": 0, "occupies": {"slots": 1}, "ttl_seconds": None}
        story = given(opened("credit"), granted("g", 9), *(reserve(f"s{n}", **slot) for n in range(5)))
        for n in range(3):
            story.when(reserve(f"r{n}", amount=1)).then("hold")
        story.when(reserve("r3", amount=1)).then_refused("too_many_holds", used=3, limit=3)
        story.when(reserve("s5", **slot)).then("hold")
        story.when(release("s0")).then("release")
        story.when(reserve("r3", amount=1)).then_refused("too_many_holds")

    def test_an_expired_hold_makes_room(self) -> None:
        story = given(opened("credit"), granted("g", 9), *(reserve(f"r{n}", amount=1) for n in range(3)))
        story.after(seconds=329).when(reserve("r3", amount=1)).then_refused("too_many_holds")
        story.after(seconds=1).when(reserve("r3", amount=1)).then("hold", due=["hold_expired"] * 3)


class TestTimeToLive:
    @pytest.mark.parametrize(
        ("fields", "seconds"),
        [
            ({"amount": 1}, 300),
            ({"operation": "image"}, 300),
            ({"operation": "reel"}, 900),
            ({"lines": (line("video"), line("reel"), line("image"))}, 900),
            ({"operation": "reel", "ttl_seconds": 60}, 60),
            ({"operation": "reel", "ttl_seconds": 1}, 1),
            ({"amount": 1, "ttl_seconds": 86_400}, 86_400),
        ],
        ids=["default", "operation-without", "operation", "longest-line", "body", "shortest", "longest"],
    )
    def test_it_comes_from_the_body_else_the_operation_else_300_seconds(
        self, fields: dict[str, Any], seconds: int
    ) -> None:
        story = given(granted("g", 50)).when(reserve(**fields)).then("hold")
        end = given().after(seconds=seconds).now
        assert story.answered()["reservation"]["expires_at"] == end

    def test_only_a_hold_of_no_credits_may_be_without_an_end(self) -> None:
        story = given(opened("basic"))
        story.when(reserve(amount=1, ttl_seconds=None)).then_refused("invalid_request")
        story.when(reserve(operation="image", ttl_seconds=None)).then_refused("invalid_request")
        story.when(reserve(operation="connect", ttl_seconds=None)).then("hold")
        assert story.answered()["reservation"]["expires_at"] is None
        story.at("2056-11-01T00:00:00.000000Z")
        assert story.read().account.occupied == {"slots": 1}
        story.when(release()).then("release", due=["expired", "expired", "expired", "renewed", "plan", "plan"])
        assert story.state.account.occupied == {}

    @pytest.mark.parametrize(("operation", "grace"), [("image", 30), ("video", 60)], ids=["default", "of-the-catalog"])
    def test_until_the_grace_is_over_the_hold_is_open(self, operation: str, grace: int) -> None:
        for command, kind in ((consume(), "settle"), (release(), "release"), (consume(final=False), "partial")):
            held = reserve(operation=operation, ttl_seconds=100)
            story = given(opened("basic"), held).after(seconds=100 + grace - 1)
            story.when(command).then(kind)
            over = given(opened("basic"), held).after(seconds=100 + grace).when(command)
            if kind == "release":
                over.then_refused("reservation_finalized", state="expired")
            else:
                over.then("late", due=["hold_expired"])

    def test_a_grace_of_zero_is_none_at_all(self) -> None:
        shop = catalog('[plans.p]\n[operations.snap]\neach = "1"\ngrace_seconds = 0')
        story = given(opened("p"), granted("g", 5), reserve(operation="snap", ttl_seconds=10), catalog=shop)
        story.after(seconds=10).when(consume()).then("late", due=["hold_expired"])

    def test_the_longest_grace_of_the_lines_counts(self) -> None:
        story = given(opened("basic")).when(reserve(lines=(line("image"), line("video")), ttl_seconds=10)).then("hold")
        assert story.data("hold").grace_seconds == 60

    def test_grace_is_fixed_when_reserving(self) -> None:
        text = '[plans.p]\n[operations.snap]\neach = "1"\ngrace_seconds = '
        held = reserve(operation="snap", ttl_seconds=10)
        story = given(opened("p"), granted("g", 5), held, catalog=catalog(text + "60")).under(catalog(text + "0"))
        story.after(seconds=69).when(consume()).then("settle")


class TestExpiredHolds:
    def test_credits_return_and_capacity_is_freed_at_the_end_of_the_grace(self) -> None:
        story = given(opened("basic"), reserve(operation="video")).balance(reserved=7, available=113)
        story.after(seconds=659).balance(reserved=7)
        story.after(seconds=1).balance(reserved=0, available=120)
        story.after(hours=1).when(granted("g", 1)).then("promo", due=["hold_expired"], available=121)
        assert story.log[-2].event.effective_at == "2026-11-01T09:41:00.000000Z"
        assert story.data("hold_expired").amount == 7
        assert story.state.account.occupied == {}
        assert story.work().state == "expired"

    def test_what_was_charged_stays_charged(self) -> None:
        story = given(granted("g", 10), reserve(amount=6), consume(amount=2, final=False)).after(seconds=330)
        story.when(granted("h", 1)).then("promo", due=["hold_expired"], available=9, reserved=0)
        assert (story.data("hold_expired").amount, story.work().charged) == (4, 2)

    def test_a_hold_that_holds_nothing_any_more_expires_too(self) -> None:
        story = given(granted("g", 10), reserve(amount=6), consume(final=False)).after(seconds=330)
        story.when(granted("h", 1)).then("promo", due=["hold_expired"], available=5)

    def test_due_facts_belong_to_the_system(self) -> None:
        story = (
            given(granted("g", 10), reserve(amount=6))
            .after(seconds=330)
            .when(direct(amount=1))
            .then("direct", due=["hold_expired"])
        )
        command = story.log[-2].event.command
        assert (command.name, command.id, command.idempotency_key) == ("system", "hold_expired:r", None)
        assert story.log[-2].event.actor.id == "system"


class TestTheEndOfAReservation:
    @pytest.mark.parametrize(
        ("end", "state"), [(consume(), "settled"), (release(), "released")], ids=["settled", "released"]
    )
    def test_a_terminal_reservation_answers_with_its_final_state(self, end: Any, state: str) -> None:
        story = given(granted("g", 10), reserve(amount=6), end)
        for command in (consume(), consume(amount=1, final=False), release()):
            story.when(command).then_refused("reservation_finalized", state=state)

    def test_a_reservation_that_is_not_there_is_not_found(self) -> None:
        story = given(granted("g", 10), direct("c", amount=1))
        for command in (consume("x"), release("x"), consume("c"), release("c")):
            story.when(command).then_refused("reservation_not_found")

    def test_a_release_charges_nothing(self) -> None:
        story = given(granted("g", 10), reserve(amount=6)).when(release(reason="no luck")).then("release", available=10)
        assert story.data("release").reason == "no luck"
        assert story.answered()["reservation"]["state"] == "released"

    def test_a_release_after_partial_steps_returns_the_rest(self) -> None:
        story = given(granted("g", 10), reserve(amount=6), consume(amount=4, final=False))
        story.when(release()).then("release", available=6, reserved=0)

    def test_credits_go_back_to_the_grants_that_they_came_from(self) -> None:
        story = given(granted("a", 5), granted("b", 5), reserve(amount=8), release())
        assert (story.bucket("a").remaining, story.bucket("b").remaining) == (5, 5)
