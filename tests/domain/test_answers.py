"""Laws of answers and views: built from the events alone, the same whenever they are asked for again."""

from __future__ import annotations

import json
from typing import Any

import orjson

from events.account import State
from events.commands import Reserve
from events.decide import decide
from events.quoting import quote
from events.recorded import Line
from projections.balance import account_balance, account_view, quota_view
from projections.history import filters_of
from projections.items import consumption_view, grant_view, reservation_view
from projections.outcome import answer, dry_answer, free_answer
from projections.quote import catalog_view, quote_view, verdict_view
from projections.transactions import transaction_view
from tests.domain.scenario import Story, given
from tests.domain.shop import (
    ACCOUNT,
    SHOP,
    START,
    Asked,
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


class TestTheAnswerToACommand:
    def test_it_has_the_events_of_the_command_without_the_due_ones(self) -> None:
        story = given(granted("g", 9, expires_at="2026-11-01T10:00:00Z"), granted("h", 9)).after(days=1)
        told = story.when(direct(amount=1)).then("direct", due=["expired"]).answered()
        assert [event["kind"] for event in told["events"]] == ["direct"]
        assert told["token"] == told["events"][-1]["id"] == f"3-{len(story.log)}"
        assert told["account"] == ACCOUNT
        assert told["replayed"] is False

    def test_an_event_in_it_is_the_line_as_stored_with_its_hash(self) -> None:
        story = given(granted("g", 9))
        (event,) = story.answered()["events"]
        written = story.log[-1]
        assert event == json.loads(written.line) | {"hash": written.hash}

    def test_it_shows_the_balance_of_its_unit_after_the_last_event(self) -> None:
        story = given(
            opened("basic"),
            granted("s", 2, operations=("image",)),
            granted("l", 3, effective_at="2027-01-01T00:00:00Z"),
        )
        told = story.when(reserve(amount=5)).then("hold").answered()
        assert told["balance"] == {
            "unit": "credits",
            "available": 115,
            "reserved": 5,
            "scoped": 2,
            "scheduled": 3,
            "bonus": 20,
            "debt": 0,
        }
        minutes = story.when(reserve("m", amount=5, unit="minutes")).then("hold").answered()
        assert (minutes["balance"]["unit"], minutes["balance"]["available"]) == ("minutes", 5)

    def test_a_replay_says_so_and_is_otherwise_the_first_outcome(self) -> None:
        story = given(granted("g", 9), reserve(amount=5))
        lines, first = story.answers[-1]
        story.when(consume(amount=2, final=False)).then("partial").when(release()).then("release")
        again = orjson.loads(orjson.dumps(answer(ACCOUNT, lines, story.state, replayed=True)))
        assert again == first | {"replayed": True}
        assert again["reservation"]["held"] == 5

    def test_steps_refunds_and_releases_show_what_they_are_about_as_it_stood_then(self) -> None:
        story = given(granted("g", 20), reserve(lines=(line("image", 4), line("reel", 2)), metadata={"a": "b"}))
        story.when(consume(lines=(part(1, 2),), final=False)).then("partial")
        partial = story.answered()
        story.when(refund("r:1", amount=1)).then("consumption")
        first = story.answered()
        story.when(refund("r:1", amount=1)).then("consumption")
        story.when(consume(amount=1)).then("settle", "release")
        lines = partial["reservation"]["lines"]
        assert [(each["held"], each["charged"]) for each in lines] == [(4, 0), (4, 2)]
        assert (partial["consumption"]["id"], partial["consumption"]["refunded"]) == ("r:1", 0)
        assert (first["consumption"]["refunded"], story.charge("r:1").refunded) == (1, 2)
        assert "reservation" not in first
        assert story.answered()["reservation"]["state"] == "settled"

    def test_an_answer_needs_only_the_items_that_its_events_name(self) -> None:
        story = given(granted("g", 9), reserve(amount=5), consume(amount=2))
        lines, first = story.answers[-1]
        needed = State(story.state.account, {("work", "r"): story.work()})
        assert orjson.loads(orjson.dumps(answer(ACCOUNT, lines, needed))) == first

    def test_a_free_operation_answers_that_it_is_free(self) -> None:
        assert free_answer() == {"free": True, "events": []}

    def test_a_dry_run_is_the_answer_without_ids(self) -> None:
        story = given(granted("g", 9))
        decision = decide(story.state, Reserve(account=ACCOUNT, amount=5), story.now, SHOP, "~")
        told: dict[str, Any] = orjson.loads(orjson.dumps(dry_answer(ACCOUNT, decision.facts, decision.state)))
        assert (told["dry_run"], told["replayed"], told["token"]) == (True, False, None)
        assert told["events"][0]["id"] is told["events"][0]["data"]["reservation_id"] is None
        assert told["reservation"]["id"] is None
        real = story.when(Reserve(account=ACCOUNT, amount=5)).then("hold").answered()
        assert told["balance"] == real["balance"]
        assert told["reservation"] == real["reservation"] | {"id": None}
        assert b"~" not in orjson.dumps(told)

    def test_a_dry_run_keeps_the_callers_words(self) -> None:
        story = given(granted("g", 9))
        decision = decide(story.state, reserve("mine", amount=5, reference="~7"), story.now, SHOP, "~")
        told: dict[str, Any] = orjson.loads(orjson.dumps(dry_answer(ACCOUNT, decision.facts, decision.state)))
        assert (told["events"][0]["data"]["reference"], told["reservation"]["reference"]) == ("~7", "~7")

    def test_a_dry_run_of_an_opening_hides_the_ids_of_all_its_grants(self) -> None:
        decision = decide(State.unknown(ACCOUNT), opened("pro"), START, SHOP, "~")
        told: dict[str, Any] = orjson.loads(orjson.dumps(dry_answer(ACCOUNT, decision.facts, decision.state)))
        assert [event["data"].get("grant_id") for event in told["events"]] == [None] * 4
        assert b"~" not in orjson.dumps(told)


class TestViews:
    def limits(self, story: Story) -> dict[str, int]:
        return story.state.account.capacity

    def test_the_balance_has_the_capacity_beside_it(self) -> None:
        story = given(opened("basic"), reserve(operation="video"))
        told = account_balance(story.state.account, "credits", self.limits(story), as_of=story.now, token="3-5")
        assert told["capacity"] == {"jobs": {"used": 1, "limit": 2}, "slots": {"used": 0, "limit": 5}}
        assert (told["available"], told["reserved"], told["plan"], told["token"]) == (113, 7, "basic", "3-5")

    def test_a_capacity_without_a_limit_is_shown_when_it_is_used(self) -> None:
        story = given(opened("pro"), reserve(amount=0, occupies={"slots": 3}))
        told = account_view(story.state.account, self.limits(story), as_of=story.now, token="3-5")
        assert told["capacity"] == {"slots": {"used": 3, "limit": None}}
        assert set(told["balances"]) == {"credits", "minutes"}  # type: ignore[call-overload]

    def quota(self, story: Story) -> dict[str, Any]:
        return quota_view(story.state.account, "credits", self.limits(story), as_of=story.now, token="3-5")

    def test_the_quota_counts_work_against_what_was_there_to_be_had(self) -> None:
        story = given(opened("twin"), granted("g", 30), direct(amount=30), reserve(amount=20))
        told = self.quota(story)
        assert (told["credits_used"], told["credits_limit"], told["credits_remaining"]) == (30, 150, 100)
        assert (told["percentage"], told["allowance"]) == (20, {"credits": 120})
        assert told["next_renewal_at"] == told["period_end"] == "2026-12-01T09:30:00.000000Z"

    def test_the_percentage_is_rounded_down_and_at_most_100(self) -> None:
        assert self.quota(given(opened("twin"), direct(amount=1)))["percentage"] == 0
        assert self.quota(given(opened("twin"), direct(amount=119)))["percentage"] == 99
        over = given(opened("twin"), reserve(amount=120), consume(amount=500))
        assert (self.quota(over)["credits_used"], self.quota(over)["percentage"]) == (500, 100)
        assert self.quota(over)["credits_limit"] == 120
        assert self.quota(given(opened("bare")))["percentage"] == 0

    def test_a_refund_lowers_use_and_leaves_the_limit(self) -> None:
        story = given(opened("twin"), direct(amount=60), refund(amount=30))
        assert (self.quota(story)["credits_used"], self.quota(story)["credits_limit"]) == (30, 120)

    def test_a_drained_grant_is_called_so(self) -> None:
        story = given(granted("g", 5), direct(amount=5))
        assert grant_view(story.bucket("g"))["state"] == "drained"
        held = given(granted("g", 5), reserve(amount=5))
        assert (grant_view(held.bucket("g"))["state"], grant_view(held.bucket("g"))["held"]) == ("active", 5)

    def test_the_views_of_items_are_those_of_the_answers(self) -> None:
        story = given(granted("g", 9), reserve(amount=5), consume(amount=2))
        assert orjson.loads(orjson.dumps(reservation_view(story.work()))) == story.answered()["reservation"]
        assert orjson.loads(orjson.dumps(consumption_view(story.charge("r")))) == story.answered()["consumption"]

    def test_a_check_is_shown_with_its_reasons(self) -> None:
        story = given(granted("g", 5))
        told = verdict_view(ACCOUNT, story.check(amount=6))
        assert told == {
            "account": ACCOUNT,
            "allowed": False,
            "unit": "credits",
            "cost": 6,
            "available": 5,
            "shortfall": 1,
            "max_affordable": 5,
            "reasons": ["insufficient_credits"],
            "earliest_affordable_at": None,
        }

    def test_a_quote_has_a_breakdown_for_each_line(self) -> None:
        asked = Asked(lines=(line("video", 2, quality="hd", tokens=1500), line("post")))
        priced = quote(SHOP, asked)
        told = quote_view(priced)
        assert (told["unit"], told["cost"]) == ("credits", 26)  # (2 + 5 x 2 + 0.75) x 2, rounded up
        video, post = told["lines"]  # type: ignore[misc]
        assert (video["cost"], video["occupies"], post["cost"], post["free"]) == (26, {"jobs": 1}, 0, True)
        assert video["breakdown"] == {
            "catalog": "1",
            "base": "2",
            "each": "5",
            "quantity": 2,
            "per_1k": {"tokens": {"price": "0.5", "count": 1500}},
            "multipliers": {"quality": {"value": "hd", "factor": "2"}},
        }

    def test_a_quote_is_what_a_reserve_holds(self) -> None:
        forms: list[dict[str, Any]] = [
            {"operation": "video", "quantity": 3},
            {"lines": (line("image", 4), line("reel"))},
        ]
        for asked in forms:
            priced = quote(SHOP, Asked(**asked))
            story = given(granted("g", 99)).when(reserve(**asked)).then("hold")
            assert priced.total == story.data("hold").amount

    def test_the_catalog_is_shown_whole(self) -> None:
        told = catalog_view(SHOP)
        assert set(told["plans"]) == {"bare", "basic", "twin", "pro", "credit", "paid"}  # type: ignore[call-overload]
        assert json.loads(json.dumps(told))["operations"]["video"]["occupies"] == {"jobs": 1}


class TestTransactions:
    def rows(self, story: Story) -> list[dict[str, Any]]:
        return [transaction_view(each) for each in story.log]

    def test_each_row_can_be_checked_alone(self) -> None:
        story = given(opened("basic"), reserve(operation="image", quantity=9), consume(amount=4), change_plan("pro"))
        before: dict[str, int] = {}
        for row in self.rows(story):
            for unit, figures in row["balance"].items():
                assert figures["available"] == before.get(unit, 0) + row["delta"][unit]["available"]
            before = {unit: figures["available"] for unit, figures in row["balance"].items()}

    def test_a_row_tells_amount_operation_reason_and_actor(self) -> None:
        story = given(granted("g", 20, reason="thanks"), reserve(operation="reel", quantity=2, reference="job"))
        story.when(consume(amount=5)).then("settle", "release")
        promo, hold, settle, released = self.rows(story)[1:]
        assert (promo["amount"], promo["reason"], promo["grant_id"]) == (20, "thanks", "g")
        assert (hold["amount"], hold["operation"], hold["reservation_id"]) == (6, "reel", "r")
        assert (settle["amount"], settle["operation"], settle["consumption_id"]) == (5, "reel", "r")
        assert (released["amount"], released["reference"]) == (1, "job")
        assert settle["actor"] == {"id": "tester", "via": "test"}
        assert [row["type"] for row in self.rows(story)][1:] == ["granted", "reserved", "consumed", "refunded"]

    def test_the_amount_of_a_step_is_what_it_charged(self) -> None:
        story = given(granted("g", 5), reserve(amount=5), consume(amount=9))
        assert self.rows(story)[-1]["amount"] == 5

    def test_a_reservation_is_not_another_whose_id_begins_like_it(self) -> None:
        story = given(
            granted("g", 9), reserve("a", amount=1), reserve("ab", amount=1), consume("ab", amount=1, final=False)
        )
        rows = [each for each in story.log if filters_of(reservation="a").pass_(each.event)]
        assert [each.event.kind for each in rows] == ["hold"]

    def test_filters_find_what_is_about_an_operation_a_reservation_or_a_reference(self) -> None:
        story = given(
            granted("g", 20, reference="ref"), reserve("a", lines=(line("image"), line("reel")), reference="ref")
        )
        story.when(consume("a", amount=1, final=False)).then("partial").when(release("a")).then("release")
        story.when(direct("b", operation="image")).then("direct").when(refund("a:1")).then("consumption")

        def found(**by: str) -> list[str]:
            return [each.event.kind for each in story.log if filters_of(**by).pass_(each.event)]

        assert found(reservation="a") == ["hold", "partial", "release", "consumption"]
        assert found(reservation="b") == ["direct"]
        assert found(reference="ref") == ["promo", "hold", "partial", "release", "consumption"]
        assert found(operation="image") == ["hold", "partial", "direct"]
        assert found(operation="reel", reservation="a") == ["hold"]
        assert found() == [each.event.kind for each in story.log]


def test_a_line_knows_its_event_and_its_hash() -> None:
    written: Line = given().log[0]
    assert json.loads(written.line)["id"] == written.event.id
