"""`python -m examples.asset_platform`: the platform on a ledger of its own."""

from aiohttp import web

from credit_ledger_client import Ledger
from examples.asset_platform.app import application
from examples.asset_platform.studio import Model, Studio
from examples.starting import Example, Place, main


async def build(place: Place) -> web.Application:
    """Return the application for a place."""
    ledger = Ledger.over_nats(place.nats_url, caller="asset-platform", prefix=place.prefix)
    return application(ledger, Studio(ledger, Model()))


def lines(url: str) -> list[str]:
    """Return a story to paste."""
    curl = 'curl -sS -H "Team: team-42"'
    return [
        "# four images; the team is opened on the free plan: 50 credits, and 25 to try",
        f"""{curl} {url}/images -d '{{"prompt": "a red lamp", "count": 4}}'""",
        "# work that fails costs nothing",
        f"""{curl} {url}/upscales -d '{{"prompt": "fail"}}'""",
        "# more than there is: 402",
        f"""{curl} {url}/images -d '{{"prompt": "a red lamp", "count": 100}}'""",
        f"{curl} {url}/credits",
    ]


if __name__ == "__main__":
    main(Example("asset_platform", 8091, build, lines))
