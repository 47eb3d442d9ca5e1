"""Laws of races: whoever comes first wins, once, and the end is the same whoever it is that comes second."""

from __future__ import annotations

from itertools import permutations

import pytest

from events.commands import Command
from tests.domain.scenario import Story, given
from tests.domain.shop import consume, direct, extend, granted, refund, release, reserve, revoke

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
