"""FEATURES.md C5: store sync as a consumer of the ledger, on the double and on the running service."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp.test_utils import TestClient, TestServer

from credit_ledger_client import Ledger, Unavailable
from credit_ledger_client.testing import LedgerDouble
from examples.starting import CATALOG
from examples.store_sync.app import FakeShopfront, application
from examples.store_sync.store import Store
from examples.store_sync.syncing import Syncing
from tests.examples.commands import example, paste
from tests.features.conftest import Service
from tests.servers import eventually, throwaway_directory

CALLER = "store-sync"

SKUS = [f"lamp-{number}" for number in range(10)]


class Shop:
    """The sync as one of its shops uses it."""

    def __init__(self, client: TestClient[Any, Any], ledger: Ledger, front: FakeShopfront, name: str) -> None:
        self.ledger = ledger
        self.front = front
        self.name = name
        self._client = client

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        async with self._client.request(method, path, json=body, headers={"Team": self.name}) as answer:
            return answer.status, await answer.json()

    async def status(self) -> Any:
        return (await self.ask("GET", "/sync"))[1]


@pytest.fixture
async def shop(ledger: Ledger, tmp_path: Path) -> AsyncGenerator[Shop]:
    """A shop on the free plan: 75 credits."""
    front = FakeShopfront()
    app = application(ledger, Syncing(ledger, Store(tmp_path / "sync.sqlite"), front))
    async with TestClient(TestServer(app)) as client:
        shop = Shop(client, ledger, front, f"shop-{uuid4().hex[:12]}")
        await ledger.change_plan(shop.name, "free")
        yield shop


async def test_c5_what_reached_the_store_is_paid_for_and_failures_are_tried_again(shop: Shop) -> None:
    shop.front.down = {"lamp-3", "lamp-4", "lamp-5", "lamp-6", "lamp-7"}
    await shop.ask("POST", "/products", {"skus": SKUS})
    _, status = await shop.ask("POST", "/sync")
    assert (status["synced"], status["waiting"], len(status["failed"])) == (5, 5, 5)
    assert (await shop.ledger.quota(shop.name)).credits_used == 1, "0.2 x 5"
    await shop.ask("POST", "/sync")
    assert (await shop.status())["failed"][0]["failures"] == 1, "not before its pause is over"
    await shop.ask("POST", "/sync/retry")
    assert (await shop.status())["failed"][0]["failures"] == 2
    assert (await shop.ledger.balance(shop.name)).available == 74, "nothing was taken, nothing was paid"
    shop.front.down = set()
    _, status = await shop.ask("POST", "/sync/retry")
    assert (status["synced"], status["waiting"], status["failed"]) == (10, 0, [])
    assert (await shop.ledger.quota(shop.name)).credits_used == 2
    assert (await shop.ledger.balance(shop.name)).reserved == 0


async def test_c5_without_credits_auto_sync_pauses_and_goes_on_by_itself(shop: Shop) -> None:
    await shop.ledger.adjust(shop.name, -75, "spent elsewhere")
    assert (await shop.ask("PUT", "/sync", {"auto": True}))[0] == 200
    await shop.ask("POST", "/products", {"skus": SKUS})

    async def is_paused() -> bool:
        return (await shop.status())["paused"] is not None

    await eventually(is_paused, "the shop is paused")
    assert (await shop.ask("POST", "/sync"))[0] == 402
    assert shop.front.taken == []
    await shop.ledger.grant(shop.name, 10)

    async def is_synced() -> bool:
        return (await shop.status())["synced"] == 10

    await eventually(is_synced, "the shop is synchronised")
    assert (await shop.ledger.balance(shop.name)).available == 8


@pytest.mark.parametrize("action", ["pin", "favorite", "approve", "edit", "delete"])
async def test_c5_asset_actions_pass_freely_and_write_nothing(shop: Shop, action: str) -> None:
    await shop.ledger.adjust(shop.name, -75, "spent elsewhere")
    before = await shop.ledger.balance(shop.name)
    assert await shop.ask("POST", f"/assets/{action}", {"assets": ["a", "b", "c"]}) == (200, {"done": 3})
    assert (await shop.ledger.balance(shop.name)).token == before.token


async def test_c5_a_run_that_is_interrupted_anywhere_is_paid_for_once(tmp_path: Path) -> None:
    async with LedgerDouble(CATALOG) as ledger:
        store, front = Store(tmp_path / "sync.sqlite"), FakeShopfront()
        store.change("shop-1", SKUS)
        with ledger.away(), pytest.raises(Unavailable):
            await Syncing(ledger, store, front).sync("shop-1")
        assert front.taken == []
        away = ledger.away()

        class LosesTheLedger(FakeShopfront):
            async def put(self, shop: str, sku: str, revision: int) -> None:
                await super().put(shop, sku, revision)
                if len(self.taken) == 10:
                    away.__enter__()

        with pytest.raises(Unavailable):
            await Syncing(ledger, store, LosesTheLedger()).sync("shop-1")
        away.__exit__(None, None, None)
        assert (await ledger.balance("shop-1")).reserved == 2, "all was sent, and nothing is paid for yet"
        run = store.begin("shop-1")
        assert run is not None
        await Syncing(ledger, store, front).sync("shop-1")
        assert front.taken == [], "what the store has is not sent again"
        # It was paid for, and died before it ended the run.
        store._file.execute("UPDATE shops SET run = ?", (json.dumps({"id": run.id, "products": run.products}),))
        await Syncing(ledger, store, front).sync("shop-1")
        assert (store.to_sync(), store.status("shop-1")["running"]) == ([], False)
        assert (await ledger.quota("shop-1")).credits_used == 2
        assert (await ledger.balance("shop-1")).reserved == 0
        store.close()


def test_one_command_starts_it_and_its_lines_work(studio: Service) -> None:
    where = ("--ledger-url", studio.url, "--nats-url", studio.nats_url, "--prefix", studio.prefix)
    with throwaway_directory() as directory, example("store_sync", directory, *where) as program:
        _, synced, again, pinned = (json.loads(output) for output in paste(program.lines, directory))
        assert (synced["synced"], len(synced["failed"])) == (10, 1)
        assert again["failed"][0]["failures"] == 2
        assert pinned == {"done": 2}
        assert program.end(signal.SIGINT) == 0
