"""Laws of the record: events say everything themselves, a replay is the state, and a state survives being stored."""

from __future__ import annotations

import json

import msgspec
import pytest

from events.account import Missing, State
from events.commands import Command
from events.decide import decide
from events.errors import Refusal
from events.evolve import evolve, replay
from events.recorded import decode
from tests.domain.scenario import Story, given, new
from tests.domain.shop import (
    ACCOUNT,
    adjust,
    catalog,
    change_plan,
    consume,
    direct,
    extend,
    granted,
    limits,
    line,
    opened,
    part,
    refund,
    release,
    reserve,
    reset_usage,
    revoke,
    status,
)


def eventful() -> Story:
    """A story in which every kind of event happens."""
    story = given(opened("basic"), granted("early", 9, effective_at="2026-11-02T00:00:00Z"), change_plan("pro"))
    story.when(change_plan("pro")).then("unchanged")
    story.when(granted("bought", 50, kind="purchase")).then("purchase")
    story.when(granted("short", 5, priority=1, expires_at="2026-11-01T12:00:00Z")).then("promo")
    story.when(reserve("job", lines=(line("image", 5), line("reel", 20)), ttl_seconds=21_600, metadata={"k": "v"}))
    story.when(consume("job", lines=(part(0, quantity=2), part(1, 90)), final=False)).then("partial")
    story.when(reserve("forgotten", amount=100)).then("hold")
    story.after(days=1).when(direct("d", operation="video", quantity=9, params={"quality": "hd"}))
    story.then("direct", due=["hold_expired", "expired", "hold_expired", "expired", "activated"])
    story.when(reserve("big", operation="image", quantity=10)).then("hold")
    story.when(consume("big", amount=999)).then("settle", debt=20)
    story.when(refund("job:1")).then("consumption", "refund_regrant")
    story.when(reserve("no", amount=1)).then("hold")
    story.when(release("no")).then("release")
    story.after(days=40).when(refund("big"))
    renewed = ["renewed", "expired", "expired", "plan", "plan"]
    story.then("consumption", *["refund_regrant"] * 3, due=["expired", *renewed])
    story.when(granted("g", 20, priority=1)).then("promo").when(reserve("late", amount=5)).then("hold")
    story.when(extend("late", amount=1, ttl_seconds=3600, occupies={"slots": 1})).then("extend")
    story.after(days=1).when(consume("late", amount=4)).then("late", due=["hold_expired"])
    story.when(adjust(2)).then("adjustment").when(adjust(-1)).then("adjustment").when(reserve("last", amount=1))
    story.then("hold").when(revoke("g")).then("revoked").when(release("last")).then("release", "revoked")
    story.when(status("frozen")).then("status").when(status("active")).then("status")
    story.when(limits(allowance={"minutes": 4})).then("limits", "revoked")
    story.when(change_plan("basic")).then("scheduled")
    story.when(change_plan("pro")).then("cancelled")
    return story.when(reset_usage()).then("usage_reset", "revoked")


KINDS = {
    *("opened", "changed", "scheduled", "cancelled", "renewed", "limits", "unchanged", "status"),
    *("plan", "trial", "promo", "purchase", "refund_regrant", "adjustment", "activated", "expired", "revoked"),
    *("hold", "extend", "settle", "partial", "direct", "late", "release", "hold_expired", "consumption", "usage_reset"),
}


def test_the_story_of_these_laws_has_every_kind() -> None:
    assert {line.event.kind for line in eventful().log} == KINDS


def test_a_replay_needs_nothing_but_the_lines() -> None:
    story = eventful()
    replayed = replay(ACCOUNT, (decode(line.line) for line in story.log))
    assert replayed.account.figures == story.state.account.figures
    assert replayed.known == story.state.known


def test_the_past_is_the_fold_of_its_lines() -> None:
    """The fold of a part of the log is the state as it was then: every event says the balance that it leads to."""
    story = eventful()
    for count in range(1, len(story.log) + 1):
        state = replay(ACCOUNT, (decode(line.line) for line in story.log[:count]))
        assert state.account.figures == story.log[count - 1].event.balance
        assert state.account.position == count


def test_a_fold_may_be_cut_anywhere() -> None:
    story = eventful()
    for cut in range(len(story.log)):
        state = replay(ACCOUNT, (decode(line.line) for line in story.log[:cut]))
        for each in story.log[cut:]:
            evolve(state, decode(each.line))
            state.settle()
        assert state.account.figures == story.state.account.figures
        assert state.known == story.state.known


def test_deciding_leaves_the_state_alone_until_the_decision_is_taken_over() -> None:
    story = given(granted("g", 9), reserve(amount=5))
    figures, grants, holds = story.state.account.figures, dict(story.state.account.grants), dict(story.state.known)
    decision = decide(story.state, consume(amount=2), story.now, story.catalog, "n")
    assert (story.state.account.figures, story.state.account.grants, story.state.known) == (figures, grants, holds)
    assert decision.state.account.figures["credits"].reserved == 0


def test_a_decision_stands_on_the_one_before_it_though_neither_is_written() -> None:
    story = given(granted("g", 9))
    first = decide(story.state, reserve("a", amount=5), story.now, story.catalog, "n1")
    second = decide(first.state, reserve("b", amount=4), story.now, story.catalog, "n2")
    third = decide(second.state, consume("a"), story.now, story.catalog, "n3")
    assert third.state.account.figures["credits"].reserved == 4
    with pytest.raises(Refusal):
        decide(third.state, reserve("c", amount=1), story.now, story.catalog, "n4")


def test_the_same_decision_always_has_the_same_facts() -> None:
    story = given(opened("basic"))
    one, other = (decide(story.state, change_plan("pro"), story.now, story.catalog, "n") for _ in range(2))
    assert one.facts == other.facts


@pytest.mark.parametrize(
    ("command", "created"),
    [
        (reserve("new", amount=1), {"new"}),
        (direct("new", amount=1), {"new"}),
        (consume("r", amount=1, final=False), {"r:1"}),
        (consume("r", amount=1), set[str]()),
        (release("r"), set[str]()),
        (refund("c"), set[str]()),
    ],
    ids=["reserve", "direct", "partial", "settle", "release", "refund"],
)
def test_a_decision_names_the_work_that_it_creates(command: Command, created: set[str]) -> None:
    """By these names the append finds an id that was taken by what nobody had in memory."""
    story = given(granted("g", 9), reserve(amount=5), direct("c", amount=1))
    decision = decide(story.state, command, story.now, story.catalog, "n")
    assert decision.state.created == {("work", each) for each in created}
    assert decision.state.created <= set(decision.state.changed)


class TestWhatIsNotInMemory:
    def cold(self, story: Story) -> State:
        return State(story.state.account)

    def test_an_item_that_is_needed_is_named(self) -> None:
        story = given(granted("g", 9), reserve(amount=5), direct("c", amount=1))
        for command, key in (
            (consume(), ("work", "r")),
            (release(), ("work", "r")),
            (refund("c"), ("work", "c")),
            (granted("new", 1), ("grant", "new")),
        ):
            with pytest.raises(Missing) as missing:
                decide(self.cold(story), command, story.now, story.catalog, "n")
            assert missing.value.keys == (key,)

    def test_an_ended_grant_that_a_refund_reaches_is_named(self) -> None:
        story = given(granted("g", 5), direct("c", amount=5))
        cold = self.cold(story)
        cold.known["work", "c"] = story.charge("c")
        with pytest.raises(Missing) as missing:
            decide(cold, refund("c"), story.now, story.catalog, "n")
        assert missing.value.keys == (("grant", "g"),)

    def test_the_holds_that_ended_are_asked_for_by_the_instant(self) -> None:
        story = given(granted("g", 5), reserve(amount=5)).after(days=1)
        with pytest.raises(Missing) as missing:
            decide(self.cold(story), direct(amount=1), story.now, story.catalog, "n")
        assert missing.value.due == story.now

    def test_they_are_not_asked_for_before_anything_can_be_due(self) -> None:
        story = given(granted("g", 5), reserve(amount=4)).after(seconds=329)
        assert decide(self.cold(story), direct(amount=1), story.now, story.catalog, "n").facts

    def test_they_are_asked_for_again_when_time_went_on(self) -> None:
        story = given(granted("g", 5), reserve("a", amount=1), reserve("b", amount=1, ttl_seconds=600)).after(
            seconds=330
        )
        cold = self.cold(story)
        cold.known["work", "a"] = story.work("a")
        cold.holds_due = (story.now, story.work("b").due_at)
        decision = decide(cold, direct("c1", amount=1), story.now, story.catalog, "n")
        assert [fact.kind for fact in decision.due] == ["hold_expired"]
        decision.state.settle()
        assert decision.state.account.due_at == story.work("b").due_at
        story.after(seconds=300)
        with pytest.raises(Missing) as missing:
            decide(decision.state, direct("c2", amount=1), story.now, story.catalog, "n")
        assert missing.value.due == story.now

    def test_an_account_that_was_never_opened_lacks_nothing(self) -> None:
        story = new()
        for command in (consume(), release(), refund(), granted("g", 1)):
            story.when(command).then_refused("account_not_found")


class TestStoredLines:
    def test_a_line_that_is_no_event_is_refused(self) -> None:
        line = json.loads(eventful().log[0].line)
        for change in ({"type": "minted"}, {"kind": "minted"}, {"surprise": 1}, {"position": "1"}, {"data": {}}):
            with pytest.raises(msgspec.ValidationError):
                decode(json.dumps(line | change).encode())

    def test_a_kind_belongs_to_its_type(self) -> None:
        line = json.loads(eventful().log[0].line)
        assert line["type"] == "plan_changed"
        with pytest.raises(msgspec.ValidationError):
            decode(json.dumps(line | {"kind": "promo"}).encode())

    def test_every_line_has_the_fields_of_the_contract(self) -> None:
        envelope = {
            *("id", "partition", "position", "type", "kind", "version", "account", "recorded_at", "effective_at"),
            *("actor", "command", "delta", "balance", "data", "prev_hash"),
        }
        of_data = {
            "granted": "grant_id unit amount priority starts_at expires_at operations cost_basis source_grant_id "
            "debt_repaid allocation",
            "reserved": "reservation_id unit amount allocation occupies expires_at grace_seconds overage lines price",
            "consumed": "reservation_id consumption_id unit reserved actual charged debt_added unfunded allocation "
            "operation quantity price period",
            "refunded": "amount regranted usage allocation debt_refunded debt_repaid",
            "plan_changed": "from to period_start period_end anchor allowance capacity policies catalog rolled_over "
            "reclaim previous_value new_value",
        }
        for written in eventful().log:
            line = json.loads(written.line)
            assert set(line) == envelope
            assert set(of_data[line["type"]].split()) <= set(line["data"])
            for figures in (*line["delta"].values(), *line["balance"].values()):
                assert {"available", "reserved", "debt", "scheduled"} <= set(figures)


def test_an_event_that_names_what_does_not_exist_is_no_history() -> None:
    story = given(granted("g", 9), reserve(amount=5), consume(), refund("r"))
    events = [decode(line.line) for line in story.log]
    for lost in (1, 2, 3):
        with pytest.raises(LookupError):
            replay(ACCOUNT, [*events[:lost], *events[lost + 1 :]])


def test_a_plan_that_left_the_catalog_lives_on() -> None:
    shop = catalog('[plans.p]\noverdraft_limit = 5\nallowance.credits = 3\n[operations.image]\neach = "1"')
    story = given(opened("p"), reserve(operation="image", quantity=3), catalog=shop).under(catalog(""))
    story.when(consume(amount=9)).then("settle", debt=5)
    assert story.data("settle").unfunded == 1
