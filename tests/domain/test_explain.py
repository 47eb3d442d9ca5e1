"""Laws of explanations: what an event saw, in which order, and how its amount came to be."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from events.account import State
from events.evolve import replay
from events.recorded import Line
from projections.explain import explain
from tests.domain.scenario import Story, given
from tests.domain.shop import ACCOUNT, adjust, consume, direct, granted, line, opened, refund, reserve, revoke
from tests.domain.test_replay import eventful


def explained(story: Story, kind: str) -> dict[str, Any]:
    """The explanation of the last event of this kind."""
    index = max(n for n, line in enumerate(story.log) if line.event.kind == kind)
    return of(story.log, index)


def of(log: list[Line], index: int) -> dict[str, Any]:
    state = replay(ACCOUNT, [line.event for line in log[:index]])
    return orjson.loads(orjson.dumps(explain(state, log[index])))


def told(explanation: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Which grants were seen, in their order, why, and what they gave."""
    return [(grant["grant_id"], grant["reason"], grant["gave"]) for grant in explanation["grants"]]


def test_every_event_can_be_explained_and_explaining_changes_nothing() -> None:
    log = eventful().log
    state = State.unknown(ACCOUNT)
    for index, written in enumerate(log):
        before = orjson.dumps(explain(state, written))
        assert orjson.dumps(explain(state, written)) == before
        view = of(log, index)
        assert view == orjson.loads(before)
        assert view["because"]
        assert (view["due"] is not None) == (written.event.command.name == "system")
        for unit, delta in view["event"]["delta"].items():
            balance = view["balance"][unit]
            was = balance["before"] or dict.fromkeys(delta, 0)
            assert {name: balance["after"][name] - was[name] for name in delta} == delta
        state = replay(ACCOUNT, [line.event for line in log[: index + 1]])


def test_what_the_grants_lost_and_got_is_what_moved() -> None:
    for index, written in enumerate(log := eventful().log):
        view = of(log, index)
        for unit, delta in view["event"]["delta"].items():
            changes = [grant["changes"] for grant in view["grants"] if grant["unit"] == unit]
            assert sum(change.get("held", 0) for change in changes) == delta["reserved"], written.event.kind


def test_each_grant_says_what_it_gave_or_why_it_was_passed_over() -> None:
    story = given(
        granted("used", 3, priority=1),
        granted("first", 5, priority=2),
        granted("images", 4, priority=3, operations=("image",)),
        granted("reels", 4, priority=4, operations=("reel",)),
        granted("tomorrow", 9, priority=5, effective_at="2026-11-02T00:00:00Z"),
        granted("gone", 9, priority=6),
        granted("minutes", 9, unit="minutes"),
        granted("pack", 9, kind="purchase"),
        granted("spare", 9, priority=99),
        revoke("gone"),
        direct("warm", amount=3),
        reserve("job", operation="image", quantity=12),
    )
    assert told(explained(story, "hold")) == [
        ("used", "empty", 0),
        ("first", "gave", 5),
        ("images", "gave", 4),
        ("reels", "scope", 0),
        ("tomorrow", "scheduled", 0),
        ("gone", "revoked", 0),
        ("pack", "gave", 3),
        ("spare", "later", 0),
    ]
    assert [grant["order"] for grant in explained(story, "hold")["grants"]] == [*range(1, 9)]
    first = explained(story, "hold")["grants"][1]
    assert (first["remaining"], first["changes"]) == (5, {"remaining": -5, "held": 5})
    assert first["draw_key"]["priority"] == 2


def test_an_adjustment_shows_what_it_took_from_whom() -> None:
    story = given(granted("a", 5, priority=1), granted("b", 5), adjust(-7))
    assert told(explained(story, "adjustment")) == [("a", "gave", 5), ("b", "gave", 2)]


def test_a_price_is_broken_down_by_the_rule_that_was_recorded() -> None:
    story = given(
        granted("g", 1000),
        direct("c", operation="video", quantity=3, params={"quality": "hd", "tokens": "1500"}),
    )
    (price,) = explained(story, "direct")["price"]
    assert price == {
        "line": 0,
        "operation": "video",
        "quantity": 3,
        "catalog": "1",
        "base": "2",
        "each": "5",
        "each_total": "15",
        "per_1k": {"tokens": {"price": "0.5", "count": "1500", "amount": "0.75"}},
        "sum": "17.75",
        "multipliers": {"quality": {"value": "hd", "factor": "2"}},
        "factor": "2",
        "exact": "35.5",
        "price": 36,
        "amount": 36,
        "by_rule": True,
    }


@pytest.mark.parametrize("kind", ["hold", "direct"])
def test_every_line_has_its_own_price(kind: str) -> None:
    lines = (line("image", 5), line("video", 2, quality="hd"))
    command = reserve("r", lines=lines) if kind == "hold" else direct("c", lines=lines)
    prices = explained(given(granted("g", 1000), command), kind)["price"]
    assert [(price["operation"], price["price"], price["by_rule"]) for price in prices] == [
        ("image", 5, True),
        ("video", 24, True),
    ]


def test_a_step_says_what_the_hold_had_and_what_was_beyond_it() -> None:
    story = given(opened("pro"), reserve("job", operation="image", quantity=330), consume("job", amount=380))
    step = explained(story, "settle")
    assert (step["reservation"]["held"], step["price"][0]["by_rule"]) == (330, False)
    assert told(step)[-1][1:] == ("gave", 20)
    assert "20 of the charge became debt" in step["because"]
    assert "10 nobody paid for" in step["because"]


def test_a_step_that_is_priced_by_what_it_names_says_so() -> None:
    story = given(granted("g", 100), reserve("job", operation="video", quantity=5))
    story.when(consume("job", quantity=2, params={"quality": "hd"})).then("settle", "release")
    (price,) = explained(story, "settle")["price"]
    assert (price["multipliers"]["quality"]["value"], price["price"], price["by_rule"]) == ("hd", 24, True)


def test_what_the_ledger_does_by_itself_says_when_it_was_due() -> None:
    story = given(granted("g", 9, expires_at="2026-11-01T12:00:00Z"), reserve("job", amount=5)).after(hours=3)
    story.when(granted("other", 1)).then("promo", due=["hold_expired", "expired"])
    expired = explained(story, "hold_expired")
    assert expired["due"] == {
        "id": "hold_expired:job",
        "due_at": "2026-11-01T09:35:30.000000Z",
        "recorded_at": "2026-11-01T12:30:00.000000Z",
        "expires_at": "2026-11-01T09:35:00.000000Z",
        "grace_seconds": 30,
    }
    lapsed = explained(story, "expired")
    assert lapsed["due"]["due_at"] == "2026-11-01T12:00:00.000000Z"
    assert "9 credits of grant g were not used before" in lapsed["because"]


def test_a_refund_shows_where_the_credits_went() -> None:
    story = given(
        granted("short", 5, priority=1, expires_at="2026-11-01T12:00:00Z"), granted("long", 5), direct("c", amount=8)
    ).after(hours=3)
    story.when(refund("c")).then("consumption", "refund_regrant")
    view = explained(story, "consumption")
    assert [(grant["grant_id"], grant["changes"]) for grant in view["grants"]] == [
        ("long", {"remaining": 3, "returned": 3})
    ]
    assert "5 are granted anew" in view["because"]
    new = explained(story, "refund_regrant")["grants"][-1]
    assert new["changes"] == {"remaining": 5, "granted": 5}
