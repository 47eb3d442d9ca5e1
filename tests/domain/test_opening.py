"""Laws of opening: the first reserve, consumption or plan opens an account, on a plan, with all that belongs to it."""

from __future__ import annotations

import pytest

from events.commands import Command
from tests.domain.scenario import given, new
from tests.domain.shop import catalog, change_plan, consume, direct, granted, line, opened, refund, release, reserve

WELCOME = catalog(
    """
    default_plan = "free"
    [units.minutes]
    [plans.free]
    allowance = { credits = 30, minutes = 5 }
    trial = { credits = 20, expires_days = 10 }
    [operations.post]
    free = true
    [operations.image]
    each = "1"
    """
)
NO_DEFAULT = catalog(
    '[plans.free]\nallowance.credits = 30\n[operations.image]\neach = "1"\n[operations.post]\nfree = true'
)


def test_a_first_reserve_opens_the_account_on_the_default_plan_with_allowance_and_trial() -> None:
    story = (
        new(WELCOME).when(reserve(amount=7)).then("opened", "plan", "plan", "trial", "hold", available=43, reserved=7)
    )
    story.balance("minutes", available=5)
    assert story.answered()["plan"]["plan"] == "free"
    assert "grant" not in story.answered(), "the trial is part of the opening, nobody asked for a grant"
    assert story.answered()["reservation"]["held"] == 7


def test_a_first_direct_consumption_opens_it_too() -> None:
    new(WELCOME).when(direct(amount=7)).then("opened", "plan", "plan", "trial", "direct", available=43)


def test_a_plan_change_opens_it_on_the_plan_named() -> None:
    story = new().when(opened("pro")).then("opened", "plan", "plan", "trial", available=350, bonus=50)
    assert (story.state.account.plan, story.data("opened").from_) == ("pro", None)


@pytest.mark.parametrize(
    "command", [granted("g", 5), consume(), release(), refund()], ids=["grant", "consume", "release", "refund"]
)
def test_all_other_commands_answer_404_for_an_unknown_account(command: Command) -> None:
    new(WELCOME).when(command).then_refused("account_not_found", account="acme")


def test_a_first_command_that_is_refused_opens_nothing() -> None:
    story = new(WELCOME).when(reserve(amount=51)).then_refused("insufficient_credits", available=50, shortfall=1)
    assert not story.state.exists
    assert story.log == []
    story.when(reserve(amount=50)).then("opened", "plan", "plan", "trial", "hold", available=0)


def test_without_a_default_plan_only_a_plan_change_opens() -> None:
    story = new(NO_DEFAULT)
    story.when(reserve(amount=1)).then_refused("account_not_found")
    story.when(direct(amount=1)).then_refused("account_not_found")
    story.when(opened("free")).then("opened", "plan", available=30)


def test_an_unknown_plan_opens_nothing() -> None:
    story = new().when(opened("gold")).then_refused("plan_not_found", plan="gold")
    assert not story.state.exists


def test_the_period_runs_from_the_instant_of_opening_to_the_same_day_of_the_next_month() -> None:
    story = new().at("2027-01-31T10:00:00.000000Z").when(opened("basic")).then("opened", "plan", "plan", "trial")
    data = story.data("opened")
    assert data.anchor == data.period_start == "2027-01-31T10:00:00.000000Z"
    assert data.period_end == "2027-02-28T10:00:00.000000Z"
    assert story.state.account.opened_at == data.period_start
    assert story.data("plan").expires_at == data.period_end


def test_trial_credits_last_as_long_as_the_plan_says_or_for_ever() -> None:
    assert given(opened("basic")).data("trial").expires_at == "2026-11-11T09:30:00.000000Z"
    assert given(opened("pro")).data("trial").expires_at is None


def test_trial_credits_come_once_in_an_accounts_life() -> None:
    given(opened("basic")).when(change_plan("pro")).then("changed", "plan", available=320, bonus=20)


def test_a_plan_without_allowance_or_trial_grants_nothing() -> None:
    given(opened("bare")).then("opened", available=0)


def test_opening_is_self_contained() -> None:
    """The policies and limits of the plan stand in the event, so that the plan may leave the catalog."""
    data = given(opened("credit")).data("opened")
    assert (data.policies.overdraft_limit, data.policies.max_open_holds, data.catalog) == (20, 3, "1")
    assert given(opened("basic")).data("opened").capacity == {"jobs": 2, "slots": 5}


class TestFreeOperations:
    def test_a_free_operation_needs_no_account_and_writes_nothing(self) -> None:
        for command in (reserve(operation="post"), direct(operation="post", quantity=1000)):
            story = new(NO_DEFAULT).when(command).then()
            assert story.decision is not None and story.decision.free
            assert not story.state.exists
            assert story.log == []

    def test_a_free_operation_is_never_gated(self) -> None:
        full = given(opened("credit"), *(reserve(f"r{n}", amount=0, occupies={"jobs": 1}) for n in range(3)))
        full.when(reserve("r9", amount=0, occupies={"jobs": 1})).then_refused("too_many_holds")
        full.when(reserve("r9", operation="post")).then()

    def test_a_free_operation_takes_no_id(self) -> None:
        story = given(granted("g", 5)).when(reserve(operation="post")).then()
        story.when(reserve(operation="post")).then()
        story.when(reserve(operation="image")).then("hold", reserved=1)

    def test_due_facts_wait_for_a_command_that_writes(self) -> None:
        story = given(granted("g", 5, expires_at="2026-11-01T10:00:00Z")).after(hours=1)
        story.when(reserve(operation="post")).then(due=["expired"], available=0)
        assert [line.event.kind for line in story.log] == ["opened", "promo"]
        story.when(granted("h", 1)).then("promo", due=["expired"], available=1)

    def test_an_operation_that_is_not_listed_is_never_free(self) -> None:
        for command in (reserve(operation="psot"), direct(operation="psot")):
            new().when(command).then_refused("operation_not_found", operation="psot")

    def test_a_free_line_among_paid_ones_costs_nothing(self) -> None:
        lines = (line("post", 9), line("image", 2))
        story = given(granted("g", 5)).when(reserve(lines=lines)).then("hold", available=3, reserved=2)
        assert [each.amount for each in story.data("hold").lines] == [0, 2]
        minutes = given(opened("basic")).when(reserve(lines=(line("post"), line("export", 3)))).then("hold")
        minutes.balance("minutes", available=7, reserved=3)
