"""NATS away: HTTP goes on, callers get clear errors, and everything recovers without a hand."""

import asyncio
import json
from contextlib import suppress

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from tests.bus.world import GIVEN, World, ask, check, open_account, post, settled, submit, world
from tests.servers import eventually

NATS_ACCOUNT, HTTP_ACCOUNT, DURABLE_ACCOUNT = "n", "h", "d"


async def survives_without_nats(seconds: float) -> None:
    async with world() as of:
        for account in (NATS_ACCOUNT, HTTP_ACCOUNT, DURABLE_ACCOUNT):
            await open_account(of, account)
        await settled(of)
        caller = await nats.connect(of.nats_url, max_reconnect_attempts=-1, pending_size=0, error_cb=_ignore)
        await of.take_nats_away()
        spent = await spend_over_http(of, seconds)
        await nobody_answers(caller)
        await is_told(of)
        await of.bring_nats_back()
        with suppress(OSError):  # nats-py closes a connection that is just being made
            await caller.close()
        await ask(of, "consume", {"account": NATS_ACCOUNT, "amount": 1, "idempotency_key": "after"})
        await submit(of, "consume", {"account": DURABLE_ACCOUNT, "amount": 1, "idempotency_key": "after"})
        await settled(of)
        await check(of, {HTTP_ACCOUNT: spent, NATS_ACCOUNT: 1, DURABLE_ACCOUNT: 1}, 7)

        async def is_well() -> bool:
            return "credit_ledger_delivery_alarm{" not in (await of.get("/metrics"))[1]

        await eventually(is_well, "no alarm is left")


async def spend_over_http(of: World, seconds: float) -> int:
    """Spend for so long, each command answered at once; how many."""
    clock = asyncio.get_running_loop().time
    deadline, count = clock() + seconds, 0
    while clock() < deadline:
        count += 1
        began = clock()
        await post(of, f"/v1/accounts/{HTTP_ACCOUNT}/consumptions", {"amount": 1}, f"k{count}")
        assert clock() - began < 5
    assert (await of.get("/readyz"))[0] == 200
    assert (await of.get(f"/v1/accounts/{HTTP_ACCOUNT}/balance"))[1]["available"] == GIVEN - count
    return count


async def nobody_answers(caller: Client) -> None:
    """A caller who keeps nothing to send later gets an error at once, for requests and for durable commands."""
    body = json.dumps({"account": NATS_ACCOUNT, "amount": 1, "idempotency_key": "during"}).encode()
    with pytest.raises(nats.errors.OutboundBufferLimitError):
        await caller.request("credits.cmd.shop.consume", body, timeout=5)
    with pytest.raises(nats.errors.OutboundBufferLimitError):
        await caller.jetstream().publish("credits.submit.shop.consume", body, timeout=5)


async def is_told(of: World) -> None:
    """Metrics say that events and durable commands wait, for how long, and why."""

    async def is_shown() -> bool:
        text = (await of.get("/metrics"))[1]
        lag = next(line for line in text.splitlines() if line.startswith("credit_ledger_publisher_lag_events "))
        return (
            'credit_ledger_delivery_alarm{code="stream_unavailable"} 1' in text
            and 'credit_ledger_delivery_alarm{code="commands_not_taken"} 1' in text
            and float(lag.split()[1]) > 0
        )

    await eventually(is_shown, "the alarms")


async def test_without_nats_http_goes_on_and_all_is_delivered_when_it_is_back() -> None:
    await survives_without_nats(0.5)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_without_nats_for_longer_than_it_remembers_ids_nothing_is_lost_or_stored_twice() -> None:
    await survives_without_nats(130)


async def _ignore(_error: Exception) -> None:
    """Leave errors of the caller's connection to the assertions."""
