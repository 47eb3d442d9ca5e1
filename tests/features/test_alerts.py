"""Alerts of a running service: over NATS and by webhook, verified as the page says, and sent again by the command."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import orjson

from events.instants import instant
from service.settings import CATALOGS
from tests.features.conftest import free_port, serving, speaking
from tests.program import credit_ledger
from tests.servers import eventually
from tests.webhooks.stage import SECRET, listener, listening

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "receive-alerts.md"
KINDS = {"low_balance", "exhausted", "recovered", "capacity_reached", "grant_expiring"}


def verification() -> Callable[..., bool]:
    """The function that the page gives to receivers."""
    (snippet,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet, names)  # noqa: S102 - the page's own words
    return names["is_ours"]


async def test_alerts_come_once_over_nats_and_by_webhook(database_url: str, nats_url: str, tmp_path: Path) -> None:
    crm, file = listener(), tmp_path / "webhooks.toml"
    file.write_text(f'[[webhook]]\nname = "crm"\nurl = "{crm.receiver.url}"\nsecrets = ["{SECRET}"]\n')
    catalog = CATALOGS / "content_platform.toml"
    async with (
        listening(crm),
        serving(catalog, database_url, nats_url, free_port(), "alerting", WEBHOOKS=str(file)) as service,
        speaking("http", service) as caller,
    ):
        await caller.command("consume", "a", amount=30)
        await caller.command("consume", "a", amount=5)
        tomorrow = instant(datetime.now(UTC) + timedelta(days=1))
        await caller.command("grant", "a", amount=50, expires_at=tomorrow)
        await caller.command("reserve", "a", amount=1, occupies={"platforms": 1})
        await eventually(lambda: len(crm.got) >= len(KINDS), "the receiver has all")
        assert {event["data"]["kind"] for event in crm.events} == KINDS
        is_ours = verification()
        for headers, body in crm.got:
            assert is_ours(headers, body, SECRET)
            assert not is_ours(headers, body + b" ", SECRET)
            assert not is_ours({**headers, "webhook-timestamp": "1"}, body, SECRET)
        client = await nats.connect(nats_url)

        async def is_full() -> bool:
            return (await client.jetstream().stream_info("ALERTING_ALERTS")).state.messages >= len(KINDS)

        await eventually(is_full, "the stream has all")
        subscription = await client.jetstream().pull_subscribe("alerting.alerts.>", stream="ALERTING_ALERTS")
        messages = await subscription.fetch(len(KINDS), timeout=30)
        assert [orjson.loads(message.data)["id"] for message in messages] == [
            event["id"] for event in sorted(crm.events, key=lambda event: int(event["sequence"]))
        ]
        assert "alerting.alerts.exhausted.a" in {message.subject for message in messages}
        state = (await client.jetstream().stream_info("ALERTING_ALERTS")).state
        assert state.messages == len(KINDS)
        await client.close()
        again = credit_ledger(
            tmp_path, "webhooks", "replay", "--since", "2026-01-01T00:00:00Z", DATABASE_URL=database_url
        )
        assert again.stdout == f"{len(KINDS)} deliveries are to be made again\n"
        await eventually(lambda: len(crm.got) == 2 * len(KINDS), "the receiver has all again")
    listed = credit_ledger(tmp_path, "webhooks", "list", "--state", "delivered", DATABASE_URL=database_url)
    assert len([line for line in listed.stdout.splitlines() if line.startswith("crm ")]) == len(KINDS)
