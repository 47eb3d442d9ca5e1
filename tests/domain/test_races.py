"""Laws of races: whoever comes first wins, once, and the end is the same whoever it is that comes second."""

from __future__ import annotations

from itertools import permutations

import pytest

from events.commands import Command
from tests.domain.scenario import Story, given
from tests.domain.shop import (
    catalog,
    change_plan,
    consume,
    direct,
    extend,
    granted,
    opened,
    refund,
    release,
    renew,
    reserve,
    revoke,
)

SETTLE, RELEASE, EXPIRY = "settle", "release", "expiry"


def told(order: tuple[str, ...], overage: str = "draw") -> tuple[Story, list[str]]:
    """A hold of 6 among 10 credits, and what became of it when these came in this order, with the codes they got."""
    story = given(granted("g", 10), reserve(amount=6, overage=overage))
    codes: list[str] = []
    for each in order:
        if each == EXPIRY:
            story.after(seconds=330)
            continue
        refusal = story.attempt(consume() if each == SETTLE else release())
        codes.append(each if refusal is None else refusal.code)
    return story, codes


@pytest.mark.parametrize("overage", ["draw", "cap", "reject"])
@pytest.mark.parametrize("order", list(permutations((SETTLE, RELEASE, EXPIRY))), ids="-".join)
def test_settle_release_and_expiry_have_one_winner_and_one_end(order: tuple[str, ...], overage: str) -> None:
    """The work is paid unless its release came first and in time; whether it is told in time or late."""
    story, codes = told(order, overage)
    released_in_time = order.index(RELEASE) < min(order.index(SETTLE), order.index(EXPIRY))
    winner, loser = (RELEASE, SETTLE) if released_in_time else (SETTLE, RELEASE)
    assert codes[[each for each in order if each != EXPIRY].index(winner)] == winner
    assert codes[[each for each in order if each != EXPIRY].index(loser)] == "reservation_finalized"
    paid = 0 if released_in_time else 6
    story.balance(available=10 - paid, reserved=0, debt=0)
    assert story.state.account.usage.get("credits") is None or story.state.account.usage["credits"].used == paid
    assert story.state.account.open_holds == 0


@pytest.mark.parametrize("twice", [consume(), release()], ids=["settle", "release"])
def test_the_same_end_twice_is_one(twice: Command) -> None:
    story = given(granted("g", 10), reserve(amount=6), twice)
    before = story.state.account.figures
    story.when(twice).then_refused("reservation_finalized")
    assert story.state.account.figures == before


@pytest.mark.parametrize("order", [(True, False), (False, True)], ids=["extend-first", "expiry-first"])
def test_an_extend_comes_in_time_or_not_at_all(order: tuple[bool, bool]) -> None:
    story = given(granted("g", 10), reserve(amount=6))
    if order[0]:
        story.after(seconds=299).when(extend(ttl_seconds=600)).then("extend")
        story.after(seconds=100).balance(available=4, reserved=6)
    else:
        story.after(seconds=330).when(extend(ttl_seconds=600)).then_refused("reservation_expired")
        story.balance(available=10, reserved=0)


@pytest.mark.parametrize("parts", [(None, None), (4, None), (None, 4), (4, 4), (6, 1)], ids=str)
def test_two_refunds_return_no_more_than_was_charged(parts: tuple[int | None, ...]) -> None:
    story = given(granted("g", 10), direct(amount=6))
    for amount in parts:
        story.attempt(refund(amount=amount))
    assert story.charge().refunded <= 6
    story.balance(available=4 + story.charge().refunded)
    assert story.charge().refunded == (6 if parts != (4, 4) else 4)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_revoke_a_release_and_a_refund_end_the_same_in_any_order(order: tuple[int, ...]) -> None:
    story = given(granted("g", 10), direct(amount=3), reserve(amount=4))
    for index in order:
        story.attempt((revoke(), release(), refund())[index])
        assert story.refusal is None
    story.balance(available=0, reserved=0, debt=0)
    grant = story.bucket("g")
    assert (grant.state, grant.revoked, grant.returned, grant.consumed) == ("revoked", 10, 3, 3)


PLANS = catalog(
    """
    [plans.auto]
    allowance.credits = 50
    rollover = { share = "0.5", cap = 9 }
    [plans.paid]
    renewal = "external"
    allowance.credits = 50
    rollover = { share = "0.5", cap = 9 }
    [plans.more]
    rank = 1
    allowance.credits = 80
    """.replace("allowance.credits = 50", "rank = 0\n    allowance.credits = 50")
)
END = "2026-12-01T09:30:00.000000Z"


@pytest.mark.parametrize("plan", ["auto", "paid"])
@pytest.mark.parametrize("order", list(permutations(("one", "other", "scheduler"))), ids="-".join)
def test_two_payments_and_the_scheduler_renew_once(order: tuple[str, ...], plan: str) -> None:
    """The scheduler writes what is due; with `paid` that is nothing."""
    story = given(opened(plan), direct(amount=20), catalog=PLANS).at(END)
    for each in order:
        story.attempt(change_plan(plan) if each == "scheduler" else renew(each))
        assert story.refusal is None
    story.balance(available=59)
    kinds = [line.event.kind for line in story.log]
    assert (kinds.count("renewed"), kinds.count("plan")) == (1, 2)


@pytest.mark.parametrize("before_the_boundary", [True, False])
def test_a_payment_before_or_after_the_boundary_leads_to_the_same_balance(before_the_boundary: bool) -> None:
    story = given(opened("auto"), direct(amount=20), catalog=PLANS)
    story.at("2026-11-30T00:00:00.000000Z" if before_the_boundary else END).when(renew("one"))
    story.at(END).when(renew("one")).then_counted_before(reference="one", period_start=END)
    story.balance(available=59)
    assert story.read().account.usage["credits"].allowed == 50


@pytest.mark.parametrize("commands", list(permutations(("upgrade", "again", "spend"))), ids="-".join)
def test_two_upgrades_grant_the_difference_once(commands: tuple[str, ...]) -> None:
    named = {"upgrade": change_plan("more"), "again": change_plan("more", reference="in_7"), "spend": direct(amount=9)}
    story = given(opened("auto"), catalog=PLANS)
    for name in commands:
        story.attempt(named[name])
        assert story.refusal is None
    story.balance(available=71)
