"""Laws of an account's status: what passes while it is frozen, what passes once it is closed, and what is recorded."""

from __future__ import annotations

import pytest

from events.commands import Command
from tests.domain.scenario import Story, given, new
from tests.domain.shop import (
    adjust,
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
    reset_usage,
    revoke,
    status,
)

NEW_WORK: dict[str, Command] = {
    "hold": reserve("new", amount=1),
    "slot": reserve("new", amount=0, occupies={"slots": 1}, ttl_seconds=None),
    "direct": direct("new", amount=1),
    "more": extend("r", amount=1),
}
CREDITS: dict[str, tuple[Command, list[str]]] = {
    "time": (extend("r", ttl_seconds=900), ["extend"]),
    "grant": (granted("h", 1), ["promo"]),
    "revoke": (revoke("g"), ["revoked"]),
    "add": (adjust(1), ["adjustment"]),
    "take": (adjust(-1), ["adjustment"]),
    "upgrade": (change_plan("twin"), ["changed", "plan"]),
    "reset": (reset_usage(), ["usage_reset"]),
}
ENDS: dict[str, tuple[Command, list[str]]] = {
    "settle": (consume("r"), ["settle"]),
    "partial": (consume("r", amount=1, final=False), ["partial"]),
    "late": (consume("late"), ["late"]),
    "release": (release("r"), ["release"]),
    "refund": (refund("c"), ["consumption"]),
    "status": (status("active"), ["status"]),
}


def story(now: str) -> Story:
    """An account with something of everything: credits, a hold, one that ran out, a consumption."""
    done = granted("g", 20), reserve("late", amount=2), direct(amount=3)
    first = given(*done).after(seconds=330).when(reserve("r", amount=4)).then("hold", due=["hold_expired"])
    return first.when(status(now)).then("status", available=13, reserved=4)


@pytest.mark.parametrize("name", NEW_WORK)
def test_a_frozen_account_begins_no_new_work(name: str) -> None:
    story("frozen").when(NEW_WORK[name]).then_refused("account_frozen", account="acme")


@pytest.mark.parametrize("name", [*CREDITS, *ENDS])
def test_all_else_passes_in_a_frozen_account(name: str) -> None:
    command, kinds = (CREDITS | ENDS)[name]
    story("frozen").when(command).then(*kinds)


@pytest.mark.parametrize("name", [*NEW_WORK, *CREDITS])
def test_a_closed_account_takes_nothing_new(name: str) -> None:
    command = NEW_WORK.get(name) or CREDITS[name][0]
    story("closed").when(command).then_refused("account_closed", account="acme")


@pytest.mark.parametrize("name", ENDS)
def test_what_is_open_ends_as_ever_in_a_closed_account(name: str) -> None:
    command, kinds = ENDS[name]
    told = story("closed")
    told.attempt(command)
    assert told.decision is not None
    assert [fact.kind for fact in told.decision.facts][: len(kinds)] == kinds


@pytest.mark.parametrize("now", ["frozen", "closed"])
def test_holds_and_grants_run_out_as_ever(now: str) -> None:
    told = given(granted("g", 9, expires_at="2026-11-01T10:00:00Z"), reserve(amount=4), status(now))
    told.after(hours=1).balance(available=0, reserved=0)


def test_a_frozen_account_renews_and_a_closed_one_does_not() -> None:
    frozen, closed = (given(opened("basic"), status(now)).after(days=31) for now in ("frozen", "closed"))
    frozen.balance(available=100).when(granted("g", 1)).then(
        "promo", due=["expired", "renewed", "expired", "expired", "plan", "plan"], available=101
    )
    closed.balance(available=0).when(status("frozen"))
    closed.then("status", "renewed", "plan", "plan", due=["expired"] * 3, available=100)
    account = closed.state.account
    assert account.anchor == account.period_start == closed.now, "opening it again starts a period"


@pytest.mark.parametrize("now", ["frozen", "closed"])
def test_a_payment_renews_a_frozen_account_and_not_a_closed_one(now: str) -> None:
    told = given(opened("paid", reference="first"), status(now)).after(days=31)
    told.when(renew("first")).then_counted_before(reference="first")
    told.when(renew("second"))
    if now == "closed":
        told.then_refused("account_closed", account="acme")
    else:
        told.then("renewed")


def test_a_status_says_what_it_was_and_what_it_is() -> None:
    told = given().when(status("frozen", "chargeback")).then("status")
    data = told.data("status")
    assert (data.previous_value, data.new_value, data.reason) == (
        {"status": "active"},
        {"status": "frozen"},
        "chargeback",
    )
    assert told.answered()["plan"]["status"] == "frozen"
    assert told.state.account.status == "frozen"


def test_the_status_that_it_has_changes_nothing_and_is_recorded() -> None:
    given().when(status("active")).then("unchanged").when(reserve(amount=0, occupies={"slots": 1})).then("hold")
    given(status("frozen")).when(status("frozen")).then("unchanged")


def test_plan_period_and_limits_stay_what_they_were() -> None:
    told = given(opened("basic"))
    before = told.state.account
    told.when(status("frozen")).then("status", available=120)
    after = told.state.account
    for name in (
        "plan",
        "policies",
        "allowance",
        "capacity",
        "catalog",
        "anchor",
        "period_start",
        "period_end",
        "usage",
    ):
        assert getattr(after, name) == getattr(before, name), name


def test_frozen_comes_before_anything_that_is_missing() -> None:
    told = given(status("frozen"))
    told.when(reserve(amount=9, occupies={"slots": 1})).then_refused("account_frozen")
    assert told.check(amount=9).reasons == ("account_frozen", "insufficient_credits")


def test_an_unknown_account_has_no_status() -> None:
    new().when(status("closed")).then_refused("account_not_found")
