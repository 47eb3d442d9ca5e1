"""Laws of what is refused before it can do harm: figures above the largest one, deadlines that passed, ill-formed bodies."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from events.commands import COMMANDS, parse_command
from events.errors import Refusal
from tests.domain.scenario import given, new
from tests.domain.shop import (
    adjust,
    catalog,
    change_plan,
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
    revoke,
    status,
)

MOST = 2**53 - 1
AT_10 = "2026-11-01T10:00:00.000000Z"
ROOMY = catalog(
    f"""
    [units.minutes]
    [capacities.slots]
    [plans.p]
    overdraft_limit = {MOST}
    [plans.rich]
    rank = 1
    allowance.credits = {MOST}
    [plans.richer]
    rank = 2
    allowance.credits = {MOST}
    trial.credits = 1
    [operations.gold]
    each = "1000000000"
    [operations.crowd]
    occupies_each.slots = {MOST}
    """.replace("[plans.p]", "[plans.p]\nrank = 0")
)


class TestTheLargestFigure:
    def test_it_can_be_granted_held_and_charged(self) -> None:
        story = given(granted("g", MOST)).balance(available=MOST)
        story.when(reserve(amount=MOST)).then("hold", available=0, reserved=MOST)
        story.when(consume()).then("settle", available=0)
        story.when(refund("r")).then("consumption", available=MOST)

    def test_a_grant_that_would_bring_the_balance_above_it_is_refused(self) -> None:
        given(granted("g", MOST - 1)).when(granted("h", 2)).then_refused("invalid_request")
        given(granted("g", MOST - 1)).when(granted("h", 1)).then("promo", available=MOST)

    def test_another_unit_has_a_bound_of_its_own(self) -> None:
        given(granted("g", MOST)).when(granted("h", MOST, unit="minutes")).then("promo", available=MOST)

    @pytest.mark.parametrize(
        "first",
        [
            granted("g", MOST, effective_at=AT_10),
            granted("g", MOST, operations=("image",)),
            granted("g", MOST),
        ],
        ids=["scheduled", "scoped", "available"],
    )
    @pytest.mark.parametrize(
        "second",
        [
            granted("h", 1, effective_at=AT_10),
            granted("h", 1, operations=("image",)),
            granted("h", 1),
        ],
        ids=["scheduled", "scoped", "available"],
    )
    def test_time_alone_never_brings_a_figure_above_it(self, first: Any, second: Any) -> None:
        """What could become available later counts now: a due fact cannot be refused, the account would be stuck."""
        story = given(first)
        refusal = story.attempt(second)
        assert refusal is None or refusal.code == "invalid_request"
        story.at(AT_10).read()
        story.attempt(direct(operation="image"))

    def test_nor_does_the_end_of_a_hold(self) -> None:
        story = given(granted("g", MOST), reserve(amount=MOST, ttl_seconds=60))
        story.when(granted("h", 1)).then_refused("invalid_request")
        story.after(hours=1).balance(available=MOST, reserved=0)

    def test_an_opening_that_would_is_refused(self) -> None:
        story = new(ROOMY).when(change_plan("richer")).then_refused("invalid_request")
        assert not story.state.exists

    def test_an_upgrade_that_would_is_refused(self) -> None:
        story = given(opened("p"), granted("g", 1), catalog=ROOMY)
        story.when(change_plan("rich")).then_refused("invalid_request")
        story.balance(available=1)

    def test_a_refund_that_would_is_refused(self) -> None:
        story = given(granted("g", 5), direct(amount=5), granted("h", MOST - 4))
        story.when(refund()).then_refused("invalid_request")
        story.when(refund(amount=4)).then("consumption", available=MOST)

    def test_debt_stays_below_it(self) -> None:
        story = given(opened("p"), reserve(amount=0, occupies={"slots": 1}), catalog=ROOMY)
        story.when(consume(amount=MOST)).then("settle", debt=MOST)

    @pytest.mark.parametrize("overage", ["draw", "cap"])
    def test_usage_and_what_a_hold_came_to_stay_below_it(self, overage: str) -> None:
        story = given(reserve(amount=0, occupies={"slots": 1}, overage=overage))
        story.when(consume(amount=MOST - 1, final=False)).then("partial")
        story.when(consume(amount=2, final=False)).then_refused("invalid_request")
        story.when(consume(amount=1, final=False)).then("partial")
        assert story.work().unfunded == MOST
        story.when(consume(amount=1)).then_refused("invalid_request")
        story.when(consume(amount=0)).then("settle")

    def test_the_sum_of_a_steps_lines_stays_below_it(self) -> None:
        story = given(granted("g", 5), reserve(lines=(line("image"), line("image"))))
        story.when(consume(lines=(part(0, MOST), part(1, 1)))).then_refused("invalid_request")

    def test_a_price_stays_below_it(self) -> None:
        story = given(opened("p"), granted("g", 5), catalog=ROOMY)
        story.when(reserve(operation="gold", quantity=9_007_200)).then_refused("invalid_request")
        story.when(reserve(operation="gold", quantity=9_007_199)).then_refused("insufficient_credits")
        story.when(reserve(lines=(line("gold", 9_007_199), line("gold")))).then_refused("invalid_request")

    def test_what_is_occupied_stays_below_it(self) -> None:
        story = given(opened("p"), catalog=ROOMY)
        story.when(reserve("a", amount=0, occupies={"slots": MOST})).then("hold")
        story.when(reserve("b", amount=0, occupies={"slots": 1})).then_refused("invalid_request")
        story.when(release("a")).then("release")
        story.when(reserve("c", operation="crowd", occupies={"slots": 1})).then_refused("invalid_request")
        story.when(reserve("c", operation="crowd", quantity=2)).then_refused("invalid_request")
        story.when(reserve("c", operation="crowd")).then("hold")


class TestRefusals:
    """The statuses and codes of CONTRACT.md, for what the domain refuses."""

    CONTRACT: ClassVar = {
        400: "idempotency_key_required",
        402: "insufficient_credits",
        404: "not_found account_not_found reservation_not_found consumption_not_found grant_not_found operation_not_found "
        "plan_not_found command_not_found",
        409: "idempotency_mismatch reservation_finalized exceeds_reservation refund_exceeds_consumption already_exists "
        "account_frozen account_closed period_passed batch_aborted",
        410: "reservation_expired command_expired",
        422: "invalid_request",
        429: "capacity_exceeded too_many_holds too_many_grants",
    }

    def test_each_code_has_its_status_and_a_title(self) -> None:
        told = {
            (refusal.status, refusal.code)
            for refusal in Refusal.__subclasses__()
            if refusal.__module__ == "events.errors"
        }
        assert told == {(status, code) for status, codes in self.CONTRACT.items() for code in codes.split()}
        assert all(refusal.title != Refusal.title for refusal in Refusal.__subclasses__())

    def test_an_invalid_request_says_where_and_what(self) -> None:
        story = given().when(reserve(amount=1, unit="minuts"))
        story.then_refused("invalid_request", errors=[{"loc": ["unit"], "msg": "the catalog has no unit minuts"}])


class TestDeadlines:
    @pytest.mark.parametrize(
        "command",
        [
            reserve("r2", amount=1, deadline=AT_10),
            consume("r", deadline=AT_10),
            release("r", deadline=AT_10),
            direct("c2", amount=1, deadline=AT_10),
            refund("c", deadline=AT_10),
            granted("h", 1, deadline=AT_10),
            extend("r", deadline=AT_10),
            revoke("g", deadline=AT_10),
            adjust(1, deadline=AT_10),
            status("frozen", deadline=AT_10),
            change_plan("twin", deadline=AT_10),
            reserve("p", operation="post", deadline=AT_10),
        ],
        ids=lambda command: type(command).__name__,
    )
    def test_past_it_a_command_is_refused_and_at_it_it_passes(self, command: Any) -> None:
        held = reserve("r", amount=1, ttl_seconds=3600)
        story = given(granted("g", 9), held, direct("c", amount=1))
        story.at("2026-11-01T10:00:00.000001Z").when(command).then_refused("command_expired", deadline=AT_10)
        in_time = given(granted("g", 9), held, direct("c", amount=1)).at(AT_10)
        assert in_time.attempt(command) is None


class TestBodies:
    """A body is read straight into its command, strictly."""

    def read(self, name: str, **fields: Any) -> Any:
        body = json.dumps({"account": "acme", **fields}).encode()
        return parse_command(name, body, on_reservation="reservation_id" in fields and name == "consume")

    @pytest.mark.parametrize(
        ("name", "fields"),
        [
            ("reserve", {"amount": 5.0}),
            ("reserve", {"amount": "5"}),
            ("reserve", {"amount": True}),
            ("reserve", {"amount": -1}),
            ("reserve", {"amount": MOST + 1}),
            ("reserve", {"amount": 0}),
            ("reserve", {"amount": 1, "operation": "image"}),
            ("reserve", {"amount": 1, "quantity": 2}),
            ("reserve", {"operation": "image", "unit": "credits"}),
            ("reserve", {}),
            ("reserve", {"lines": []}),
            ("reserve", {"lines": [{"operation": "image"}], "quantity": 2}),
            ("reserve", {"lines": [{"operation": "image", "amount": 2}]}),
            ("reserve", {"operation": "image", "quantity": 0}),
            ("reserve", {"operation": "image", "quantity": 10**9 + 1}),
            ("reserve", {"amount": 1, "ttl_seconds": 0}),
            ("reserve", {"amount": 1, "ttl_seconds": 86_401}),
            ("reserve", {"amount": 1, "overage": "maybe"}),
            ("reserve", {"amount": 1, "surprise": 1}),
            ("reserve", {"amount": 1, "occupies": {"jobs": -1}}),
            ("reserve", {"amount": 1, "metadata": {"schlüssel": "x"}}),
            ("reserve", {"amount": 1, "metadata": {str(n): "x" for n in range(21)}}),
            ("reserve", {"amount": 1, "metadata": {"k": "x" * 4096}}),
            ("reserve", {"amount": 1, "deadline": "2026-11-01T10:00:00"}),
            ("reserve", {"amount": 1, "reference": ""}),
            ("reserve", {"amount": 1, "reference": "x" * 201}),
            *(("reserve", {"amount": 1, "reservation_id": bad}) for bad in ("", "a.b", "a b", "a\n", "ä", "x" * 129)),
            ("consume", {"reservation_id": "r", "amount": 1, "quantity": 1}),
            ("consume", {"reservation_id": "r", "amount": 0, "final": False}),
            ("consume", {"reservation_id": "r", "params": {"a": 1}}),
            ("consume", {"reservation_id": "r", "lines": [{"line": 0, "amount": 1}, {"line": 0, "amount": 1}]}),
            ("consume", {"reservation_id": "r", "lines": [{"line": 0}]}),
            ("consume", {"reservation_id": "r", "final": "yes"}),
            ("consume", {"amount": 0}),
            ("consume", {"amount": 1, "final": True}),
            ("grant", {"amount": 0}),
            ("grant", {"amount": 1, "kind": "plan"}),
            ("grant", {"amount": 1, "priority": 1001}),
            ("grant", {"amount": 1, "operations": []}),
            ("grant", {"amount": 1, "cost_basis": {"amount": 1}}),
            ("grant", {"amount": 1, "reason": "x" * 501}),
            ("refund", {"consumption_id": "c", "amount": -1}),
            ("change_plan", {}),
            ("adjust", {"amount": 1}),
            ("revoke", {"grant_id": "g"}),
            ("set_status", {"status": "frozen"}),
            ("set_status", {"status": "asleep", "reason": "tired"}),
            ("reset_usage", {}),
            ("renew", {}),
        ],
    )
    def test_what_has_not_the_form_is_refused_never_converted(self, name: str, fields: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            self.read(name, **fields)

    def test_the_largest_and_the_longest_pass(self) -> None:
        command = self.read("reserve", amount=MOST, reservation_id="x" * 128, ttl_seconds=86_400, reference="r" * 200)
        assert command.amount == MOST

    def test_an_instant_is_brought_into_its_one_form(self) -> None:
        assert self.read("grant", amount=1, expires_at="2026-11-01T11:00:00+01:00").expires_at == AT_10

    def test_a_ttl_of_null_is_another_thing_than_none(self) -> None:
        occupied = {"amount": 0, "occupies": {"slots": 1}}
        assert self.read("reserve", **occupied, ttl_seconds=None).ttl_seconds is None
        assert self.read("reserve", **occupied).ttl_seconds is not None

    def test_consume_has_two_forms(self) -> None:
        first, second = COMMANDS["consume"]
        assert isinstance(self.read("consume", reservation_id="r", amount=1), first)
        assert isinstance(self.read("consume", amount=1), second)

    def test_an_unknown_command_is_none(self) -> None:
        with pytest.raises(KeyError):
            self.read("mint", amount=1)
