"""`python -m examples.store_sync`: the sync on a ledger of its own, with a store that is broken for one product."""

from aiohttp import web

from credit_ledger_client import Ledger
from examples.starting import Example, Place, main
from examples.store_sync.app import FakeShopfront, application
from examples.store_sync.store import Store
from examples.store_sync.syncing import Syncing


async def build(place: Place) -> web.Application:
    """Return the application for a place."""
    ledger = Ledger.over_nats(place.nats_url, caller="store-sync", prefix=place.prefix)
    return application(ledger, Syncing(ledger, Store(place.data / "sync.sqlite"), FakeShopfront("broken")))


def lines(url: str) -> list[str]:
    """Return a story to paste."""
    curl = 'curl -sS -H "Team: shop-42"'
    return [
        "# eleven products; one will fail",
        f"""{curl} {url}/products -d '{{"skus": ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "broken"]}}'""",
        "# held: 0.2 x 11, rounded up to 3 credits; paid: 0.2 x 10 = 2",
        f"{curl} -X POST {url}/sync",
        "# again, with what failed: nothing is paid for what is not taken",
        f"{curl} -X POST {url}/sync/retry",
        "# costs nothing",
        f"""{curl} {url}/assets/pin -d '{{"assets": ["a", "b"]}}'""",
    ]


if __name__ == "__main__":
    main(Example("store_sync", 8093, build, lines))
