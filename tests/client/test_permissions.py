"""The client does all of its work within the broker's permissions: a real server with the generated configuration."""

import asyncio

import pytest

from credit_ledger_client import Ledger, Patience, Unavailable
from tests.bus import test_bus_permissions
from tests.bus.test_bus_permissions import serving
from tests.servers import EVENTUALLY_SECONDS_MAX

guarded = test_bus_permissions.guarded


def client_of(port: int, user: str) -> Ledger:
    return Ledger.over_nats(f"nats://{user}:password-of-{user}@127.0.0.1:{port}", caller=user)


async def test_a_caller_spends_submits_and_reads_its_outcomes(database_url: str, guarded: int) -> None:
    async with serving(database_url, guarded), client_of(guarded, "renderer") as ledger:
        async with ledger.hold("a", "create_reel"):
            pass
        assert (await ledger.balance("a")).available == 30
        submitted = await ledger.submit("consume", "a", operation="create_reel")
        assert (await submitted.result()).consumption is not None
        async with asyncio.timeout(EVENTUALLY_SECONDS_MAX):
            outcome = await anext(ledger.results())
        assert outcome.key == submitted.key


async def test_an_auditor_follows_the_events_and_goes_on_after_a_restart(database_url: str, guarded: int) -> None:
    async with serving(database_url, guarded) as stage, client_of(guarded, "warehouse") as ledger:
        await stage.spend("a")
        cursor: str | None = None
        positions: list[int] = []
        for _ in range(2):
            async with asyncio.timeout(EVENTUALLY_SECONDS_MAX), ledger.events(cursor) as events:
                async for event in events:
                    positions.append(event.position)
                    cursor = events.cursor
                    if len(positions) in (2, 3):
                        break
        assert positions == [1, 2, 3]


async def test_a_caller_that_uses_anothers_name_hears_nothing(database_url: str, guarded: int) -> None:
    async with serving(database_url, guarded):
        server = f"nats://renderer:password-of-renderer@127.0.0.1:{guarded}"
        wrong = Ledger.over_nats(server, caller="billing", patience=Patience(seconds=0.3, lookup_seconds=0.1))
        with pytest.raises(Unavailable):
            async with wrong:
                await wrong.grant("a", 5)
