"""Durable commands: safe when `submit` returns, their outcomes told, refusals too."""

import asyncio

import pytest

from credit_ledger_client import InsufficientCredits, Ledger, OutcomeUnknown, Unavailable
from credit_ledger_client.testing import LedgerDouble
from tests.servers import EVENTUALLY_SECONDS_MAX


@pytest.fixture(params=["nats", "double"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """A ledger that takes durable commands."""
    return request.getfixturevalue(request.param)


async def test_the_outcome_of_a_durable_command_can_be_waited_for(ledger: Ledger, account: str) -> None:
    submitted = await ledger.submit("consume", account, operation="upscale_image", quantity=3)
    answer = await submitted.result()
    assert answer.consumption is not None
    assert answer.consumption.charged == 3
    assert (await ledger.quota(account)).credits_used == 3
    again = await ledger.submit("consume", account, key=submitted.key, operation="upscale_image", quantity=3)
    assert (await again.result()).replayed
    assert (await ledger.quota(account)).credits_used == 3


async def test_a_refusal_is_an_outcome_too(ledger: Ledger, account: str) -> None:
    submitted = await ledger.submit("reserve", account, operation="generate_image", quantity=1000)
    with pytest.raises(InsufficientCredits) as caught:
        await submitted.result()
    assert caught.value.max_affordable == 37


async def test_commands_of_an_account_are_executed_in_their_order(ledger: Ledger, account: str) -> None:
    commands = [await ledger.submit("change_plan", account, plan="starter")]
    commands += [await ledger.submit("consume", account, operation="upscale_image") for _ in range(5)]
    answers = await asyncio.gather(*(command.result() for command in commands))
    positions = [int(str(answer.token).split("-")[1]) for answer in answers]
    assert positions == sorted(positions)


async def test_all_outcomes_of_a_caller_can_be_read(ledger: Ledger, account: str) -> None:
    good = await ledger.submit("consume", account, operation="upscale_image")
    bad = await ledger.submit("consume", account, operation="upscale_image", quantity=1000)
    read: dict[str, str | None] = {}
    async with asyncio.timeout(EVENTUALLY_SECONDS_MAX):
        async for outcome in ledger.results():
            read[outcome.key] = outcome.error.code if outcome.error is not None else None
            if {good.key, bad.key} <= read.keys():
                break
    assert read == {good.key: None, bad.key: "insufficient_credits"}


async def test_a_hold_can_be_settled_durably(ledger: Ledger, account: str) -> None:
    async with ledger.hold(account, "generate_image") as hold:
        hold.hand_over()
    settled = await ledger.submit("consume", account, reservation_id=hold.id, key=f"{hold.id}:consume")
    answer = await settled.result()
    assert answer.reservation is not None
    assert answer.reservation.state == "settled"


async def test_what_cannot_be_stored_is_told(double: LedgerDouble) -> None:
    with double.away(), pytest.raises(Unavailable):
        await double.submit("consume", "a", operation="upscale_image")


async def test_no_outcome_in_time_is_not_known(nats: Ledger, account: str) -> None:
    submitted = await nats.submit("consume", account, operation="upscale_image")
    with pytest.raises(OutcomeUnknown):
        await submitted.result(within=0)
    assert (await submitted.result()).consumption is not None


async def test_a_dry_run_is_not_durable(double: LedgerDouble) -> None:
    with pytest.raises(TypeError):
        await double.submit("consume", "a", operation="upscale_image", dry_run=True)
