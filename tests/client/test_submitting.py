"""Durable commands: safe when `submit` returns, their outcomes told, refusals too."""

import asyncio
from functools import partial
from urllib.parse import urlsplit

import pytest

from credit_ledger_client import CommandNotFound, InsufficientCredits, Ledger, OutcomeUnknown, Refused, Unavailable
from credit_ledger_client.testing import LedgerDouble
from tests.bus.calling import bus_of
from tests.bus.streaming import delivering, new_prefix
from tests.bus.test_submitting import is_taking, stored
from tests.servers import EVENTUALLY_SECONDS_MAX, eventually
from tests.writer.proxy import Proxy


@pytest.fixture(params=["nats", "double"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """A ledger that takes durable commands."""
    return request.getfixturevalue(request.param)


async def is_settled(ledger: Ledger, account: str, key: str) -> bool:
    """Say whether nobody works on a command any more; its outcome is told a moment before it has left its stream."""
    try:
        return await ledger.outcome(account, key) is not None
    except CommandNotFound:
        return True


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
    await eventually(partial(is_settled, ledger, account, submitted.key), "the command has left its stream")
    with pytest.raises(CommandNotFound) as unknown:
        await ledger.outcome(account, submitted.key, submitted_seconds_ago=60)
    assert isinstance(unknown.value.refusal, InsufficientCredits), "whoever was away when it was told can ask"
    with pytest.raises(CommandNotFound) as unknown:
        await ledger.outcome(account, submitted.key)
    assert unknown.value.refusal is None


@pytest.mark.parametrize(("quantity", "code"), [(1, None), (1000, "insufficient_credits")])
async def test_an_outcome_that_was_told_while_the_connection_was_lost_is_found(
    database_url: str, nats_url: str, quantity: int, code: str | None
) -> None:
    prefix = new_prefix()
    async with delivering(database_url, nats_url, prefix) as before:
        await is_taking(before)
    proxy = Proxy(nats_url)
    await proxy.come()
    way = f"nats://127.0.0.1:{urlsplit(proxy.url).port}"
    async with delivering(database_url, nats_url, prefix, start=False) as stage:
        bus = bus_of(stage.gateway, nats_url, prefix=prefix)
        bus.start()
        async with Ledger.over_nats(way, caller="shop", prefix=prefix) as ledger:
            submitted = await ledger.submit("consume", "a", operation="create_reel", quantity=quantity)
            proxy.go_away()
            stage.delivery.start()
            await stored(stage, "RESULTS", 1)
            await proxy.come()
            try:
                assert (await submitted.result()).consumption is not None
                told = None
            except Refused as refusal:
                told = refusal.code
            assert told == code
        await bus.stop()
    proxy.go_away()


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
