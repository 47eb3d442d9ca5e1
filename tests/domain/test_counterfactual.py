"""Laws of counterfactual replay: the same catalog changes nothing, another one changes what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from events.catalog import Catalog, parse_catalog
from events.history import Activation, History
from events.instants import Instant
from projections.counterfactual import Counterfactual, Told
from tests.domain.scenario import Story, given, new
from tests.domain.shop import (
    ACCOUNT,
    SHOP,
    START,
    adjust,
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
    renew,
    reserve,
    reset_usage,
    revoke,
    status,
)
from tests.domain.test_replay import eventful

NEVER = Instant("2999-01-01T00:00:00.000000Z")
HISTORY = History([Activation(START, SHOP)])
DEARER = parse_catalog(
    """
    version = "2"
    default_plan = "basic"
    [capacities.jobs]
    [plans.bare]
    rank = 0
    [plans.basic]
    rank = 1
    allowance = { credits = 50 }
    [operations.image]
    each = "4"
    [operations.reel]
    free = true
    [operations.video]
    each = "1"
    occupies.jobs = 1
    """
)


def supposed(story: Story, catalog: Catalog, start: Instant = START, end: Instant | None = None) -> Told:
    counterfactual = Counterfactual(ACCOUNT, catalog, HISTORY, start, end or story.now)
    for written in story.log:
        counterfactual.enter(written.event)
    return counterfactual.end()


def verdicts(told: Told) -> dict[str, int]:
    return {verdict: count for verdict, count in told.verdicts.items() if count}


def net(told: Told, operation: str) -> tuple[int, int]:
    both = told.operations["credits", operation]
    return both.was.net, both.would_be.net


def everything() -> Story:
    """A story with a command of each kind and form."""
    story = given(opened("basic"), granted("g", 500, kind="purchase"), granted("s", 40, operations=("image",)))
    for command in (
        reserve("a", operation="video", quantity=2, params={"quality": "hd", "tokens": 700}, occupies={"slots": 1}),
        consume("a", quantity=1, params={"quality": "standard"}, final=False),
        extend("a", ttl_seconds=900, amount=4, occupies={"jobs": 2, "slots": 0}),
        consume("a", amount=3),
        reserve("b", lines=(line("image", 4), line("reel", 2)), ttl_seconds=50),
        consume("b", lines=(part(0, 2), part(1, 9))),
        reserve("d", amount=7, occupies={"slots": 2}),
        release("d", reason="cancelled"),
        reserve("slot", amount=0, occupies={"slots": 1}, ttl_seconds=None),
        direct("c", lines=(line("image", 3), line("reel"))),
        refund("c", amount=2),
        refund("c"),
        adjust(9),
        adjust(-5),
        limits(allowance={"credits": 150}, capacity={"jobs": 9}),
        limits(allowance={"credits": None}),
        revoke("s"),
        reset_usage(),
        status("frozen"),
        status("active"),
        renew("paid"),
        opened("pro"),
        opened("basic"),
        reserve("late", amount=6, ttl_seconds=10),
    ):
        story.when(command)
    return story.after(hours=2).when(consume("late")).after(days=40).when(direct("e", operation="image", quantity=3))


@pytest.mark.parametrize("story", [everything(), eventful()], ids=["one of each", "eventful"])
def test_under_the_catalog_that_was_in_force_everything_comes_out_as_it_did(story: Story) -> None:
    told = supposed(story, SHOP)
    assert told.was is not None and told.would_be is not None
    assert not told.refused and not told.verdicts["falls"] and not told.verdicts["refused"]
    assert told.would_be.account.figures == told.was.account.figures
    assert told.would_be.account.usage == told.was.account.usage
    assert all(both.was == both.would_be for both in told.operations.values())
    assert told.commands == sum(told.verdicts.values()) > 10


def test_a_dearer_operation_costs_more_and_is_refused_when_the_credits_are_gone() -> None:
    story = given(opened("basic"), *(direct(f"c{n}", operation="image", quantity=10) for n in range(5)))
    told = supposed(story, DEARER)
    assert net(told, "image") == (50, 40)  # 50 credits and 4 an image: the first is paid, the others find 10
    assert verdicts(told) == {"accepted": 2, "refused": 4}
    assert told.codes == {"insufficient_credits": 4}
    assert [(each.event, each.operation) for each in told.refused][:1] == [("3-6", "image")]
    assert told.would_be is not None and told.would_be.account.figures["credits"].available == 10


def test_what_is_about_a_hold_that_was_refused_falls_with_it() -> None:
    story = given(
        opened("basic"), reserve("r", operation="image", quantity=100), extend("r", ttl_seconds=600), consume("r")
    )
    told = supposed(story.when(refund("r")), DEARER)
    assert verdicts(told) == {"accepted": 1, "refused": 1, "falls": 3}
    assert net(told, "image") == (0, 0)


def test_what_is_free_then_costs_nothing_with_all_that_follows() -> None:
    told = supposed(given(opened("basic"), reserve("r", operation="reel", quantity=9), consume("r")), DEARER)
    assert verdicts(told) == {"accepted": 1, "free": 1, "falls": 1}
    assert net(told, "reel") == (27, 0)


def test_a_step_that_named_no_amount_charges_what_would_be_held_and_one_that_did_what_it_said() -> None:
    story = given(opened("basic"), reserve("a", operation="video", quantity=2), consume("a"))
    told = supposed(story.when(reserve("b", operation="video")).when(consume("b", amount=6)), DEARER)
    assert net(told, "video") == (12 + 6, 2 + 6)
    assert told.assumed == {"all_held": 1, "amount_named": 1}


def test_until_the_instant_the_past_stays_as_it_was() -> None:
    story = given(opened("basic"), direct("c", operation="image", quantity=10)).after(hours=1)
    start = story.now
    told = supposed(story.when(direct("d", operation="image", quantity=2)), DEARER, start=start)
    assert told.commands == 1 and net(told, "image") == (2, 8)
    assert told.would_be is not None and told.would_be.account.figures["credits"].available == 120 - 10 - 8


def test_a_renewal_after_the_instant_grants_the_other_allowance() -> None:
    story = given(opened("basic")).after(days=31)
    told = supposed(story.when(direct("c", operation="image")), DEARER, start=Instant("2026-11-20T00:00:00.000000Z"))
    assert told.was is not None and told.would_be is not None
    was, would_be = told.was.account.figures["credits"], told.would_be.account.figures["credits"]
    assert (was.available, would_be.available) == (100 - 1, 50 - 4)


def test_what_cannot_be_rebuilt_is_said() -> None:
    told = supposed(given(opened("bare"), adjust(-5, insufficient="clamp")), SHOP)
    assert verdicts(told) == {"accepted": 1, "not_rebuilt": 1} and told.lost == {"clamped_to_nothing": 1}


def test_an_account_that_the_other_catalog_would_not_open_falls_with_all_its_commands() -> None:
    story = new().when(opened("pro")).when(granted("g", 5)).when(direct("c", operation="image"))
    told = supposed(story, DEARER)
    assert told.codes == {"plan_not_found": 1}
    assert verdicts(told)["refused"] == 1 and told.would_be is not None


def figures_of(told: Told) -> Any:
    return told.was and told.was.account.figures


def test_an_account_without_events_in_the_range_tells_nothing() -> None:
    told = supposed(given(opened("basic")), SHOP, start=NEVER)
    assert told.commands == 0 and figures_of(told) is None
