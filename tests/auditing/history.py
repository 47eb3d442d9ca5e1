"""A ledger with some history to audit: a few accounts on which everything happens, over some days."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from events.asking import asked
from events.catalog import parse_catalog
from events.errors import Refusal
from events.instants import Instant, instant, plus
from events.recorded import Actor
from service.in_force import activate, read_source
from service.ledger import Ledger
from service.requests import Request
from service.settings import CATALOGS
from service.store.catalogs import StoredCatalogs
from service.store.log import Log

ACCOUNTS = [f"team-{n}" for n in range(12)]
START_DAYS_AGO = 40


class History:
    """Writes history at a clock of its own, which is in the past."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger = ledger
        self.random = Random(seed)
        self.now: Instant = instant(datetime.now(UTC) - timedelta(days=START_DAYS_AGO))
        self.keys = 0
        ledger.clock = lambda: self.now
        for writer in ledger._writers:
            writer._clock = lambda: self.now

    async def command(self, name: str, account: str, **fields: Any) -> None:
        """Send a command; what is refused writes nothing."""
        self.keys += 1
        body = {"account": account, **fields}
        request = Request(*asked(name, body, f"key-{self.keys}"), Actor(id="auditee", via="test"))
        with suppress(Refusal):
            await self.ledger.execute(request)

    async def write(self, rounds: int) -> None:
        """Let things happen to random accounts, some at once."""
        for number in range(rounds):
            await asyncio.gather(*(self._something(account, number) for account in self.random.sample(ACCOUNTS, 4)))
            if self.random.random() < 0.2:
                self.now = plus(self.now, seconds=self.random.choice((1, 60, 3600, 86_400)))

    async def _something(self, account: str, number: int) -> None:
        pick, work = self.random.random(), f"w{number}"
        if pick < 0.15:
            ends = plus(self.now, seconds=self.random.choice((600, 90_000)))
            kind = self.random.choice(("promo", "purchase"))
            scope = self.random.choice((None, ["create_reel"]))
            await self.command("grant", account, amount=self.random.randint(1, 90), kind=kind, operations=scope)
            await self.command("grant", account, amount=5, expires_at=ends, priority=self.random.randint(0, 90))
        elif pick < 0.25:
            plan = self.random.choice(("starter", "pro", "business"))
            await self.command("change_plan", account, plan=plan)
        elif pick < 0.55:
            await self.command("reserve", account, operation="create_reel", quantity=2, reservation_id=work)
            if pick < 0.35:
                await self.command("consume", account, reservation_id=work, amount=3, final=False)
            if pick < 0.5:
                await self.command("consume", account, reservation_id=work, amount=self.random.randint(0, 20))
        elif pick < 0.8:
            await self.command("consume", account, operation="generate_ai_image", consumption_id=work)
            if pick > 0.7:
                await self.command("refund", account, consumption_id=work)
        elif pick < 0.9:
            await self.command("adjust", account, amount=self.random.choice((-7, 7)), reason="as agreed")
        else:
            await self.command("set_status", account, status="active", reason="looked at")


async def write_history(database_url: str, rounds: int, seed: int = 1) -> None:
    """Fill a migrated database."""
    log = await Log.connect(database_url)
    catalog, source = read_source(CATALOGS / "content_platform.toml")
    assert parse_catalog(source) == catalog
    await activate(StoredCatalogs(log), catalog, source, by="tests", again=False)
    ledger = await Ledger.open(log, catalog)
    history = History(ledger, seed)
    await history.write(rounds)
    await ledger.drain()
    await log.close()
