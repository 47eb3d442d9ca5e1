"""The HTTP interface: products that change, runs, status; and the asset actions, which cost nothing.

The actions stand in the catalog as `free`, so their gate asks the ledger nothing that could say no and writes nothing. The
day that one of them gets a price, the catalog says so and no line changes here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from pydantic import Field

from credit_ledger_client import Gate, Ledger, LedgerError
from credit_ledger_client.fields import ReserveFields
from credit_ledger_client.web import problem_response
from examples.requests import Body, read, team_of
from examples.stopping import stopped
from examples.store_sync.syncing import StoreFailed, Syncing

LEDGER = web.AppKey("ledger", Ledger)
SYNCING = web.AppKey("syncing", Syncing)
ACTIONS = "pin|favorite|approve|edit|delete"
routes = web.RouteTableDef()


class Products(Body):
    """Products that are new or were changed."""

    skus: list[str] = Field(min_length=1, max_length=500)


class Auto(Body):
    """Whether a shop is synchronised by itself."""

    auto: bool


class Assets(Body):
    """Some assets, which an action is for."""

    assets: list[str] = Field(min_length=1, max_length=500)


class FakeShopfront:
    """A store that takes everything but what its `down` names; the demo's is down for products named `broken`."""

    def __init__(self, *down: str) -> None:
        self.down = set(down)
        self.taken: list[tuple[str, str, int]] = []

    async def put(self, shop: str, sku: str, revision: int) -> None:
        """Take a product; raises StoreFailed."""
        await asyncio.sleep(0)
        if sku in self.down:
            raise StoreFailed("the store answered 500")
        self.taken.append((shop, sku, revision))


def ledger_of(request: web.Request) -> Ledger:
    """Return the ledger that a request is gated by."""
    return request.app[LEDGER]


gate = Gate(ledger_of, account=team_of, denied=problem_response)


async def action_of(request: web.Request) -> ReserveFields:
    """Return the operation of an action, one of each asset: `pin_asset`, `approve_asset`, ..."""
    count = len((await read(request, Assets)).assets)
    return {"lines": [{"operation": f"{request.match_info['action']}_asset", "quantity": count}]}


@routes.post(f"/assets/{{action:{ACTIONS}}}")
@gate(asking=action_of)
async def act(request: web.Request) -> web.Response:
    """Pin, favorite, approve, edit or delete some assets at once."""
    return web.json_response({"done": len((await read(request, Assets)).assets)})


@routes.post("/products")
async def change(request: web.Request) -> web.Response:
    """Take note of products that are new or were changed."""
    syncing = request.app[SYNCING]
    syncing.store.change(team_of(request), (await read(request, Products)).skus)
    syncing.changed()
    return status_of(request)


@routes.get("/sync")
async def status(request: web.Request) -> web.Response:
    """Show how the shop stands; free, like the asset actions."""
    return status_of(request)


@routes.put("/sync")
async def set_auto(request: web.Request) -> web.Response:
    """Switch auto-sync on or off."""
    syncing = request.app[SYNCING]
    syncing.store.set_auto(team_of(request), auto=(await read(request, Auto)).auto)
    syncing.changed()
    return status_of(request)


@routes.post("/sync")
@routes.post("/sync/retry")
async def sync(request: web.Request) -> web.Response:
    """Synchronise what waits now; `retry`: also what failed, without its pause. 402 without credits."""
    try:
        await request.app[SYNCING].sync(team_of(request), failed_too=request.path.endswith("/retry"))
    except LedgerError as error:
        return problem_response(error)
    return status_of(request)


def status_of(request: web.Request) -> web.Response:
    """Return how the shop stands."""
    return web.json_response(request.app[SYNCING].store.status(team_of(request)))


def application(ledger: Ledger, syncing: Syncing, *, follow: bool = True) -> web.Application:
    """Return the application, which opens the ledger and synchronises by itself; over HTTP it cannot `follow` events."""
    app = web.Application()
    app[LEDGER], app[SYNCING] = ledger, syncing
    app.add_routes(routes)

    async def running(_: web.Application) -> AsyncIterator[None]:
        async with ledger:
            tasks = [asyncio.create_task(syncing.run())]
            if follow:
                tasks.append(asyncio.create_task(syncing.follow()))
            try:
                yield
            finally:
                await stopped(tasks)
        syncing.store.close()

    app.cleanup_ctx.append(running)
    return app
