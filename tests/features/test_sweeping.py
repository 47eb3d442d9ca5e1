"""What time brings about stands in the log although nobody touches the account (SEMANTICS.md section 2)."""

from datetime import UTC, datetime, timedelta

import aiohttp
import orjson

from tests.features.conftest import Caller, Service
from tests.servers import eventually


async def test_a_grant_that_ends_is_written_without_any_command(
    platform: Caller, content_platform: Service, account: str
) -> None:
    ends = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    assert (await platform.command("change_plan", account, plan="free")).status == 201
    assert (await platform.command("grant", account, amount=5, expires_at=ends)).status == 201

    async with aiohttp.ClientSession() as session:

        async def expired() -> bool:
            async with session.get(f"{content_platform.url}/v1/events", params={"account": account}) as answer:
                events = [orjson.loads(line) for line in (await answer.read()).splitlines()]
            return [event["kind"] for event in events if event["command"]["name"] == "system"] == ["expired"]

        await eventually(expired, "the end of the grant is in the log")
        async with session.get(f"{content_platform.url}/metrics") as answer:
            assert 'credit_ledger_swept_accounts_total{result="written"}' in await answer.text()
