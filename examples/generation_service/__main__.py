"""`python -m examples.generation_service`: the service, its workers and a provider, on a ledger of its own."""

from aiohttp import web

from credit_ledger_client import Ledger
from examples.generation_service.app import Secrets, application
from examples.generation_service.fake_provider import FakeProvider
from examples.generation_service.generation import Generation
from examples.generation_service.provider import Provider
from examples.generation_service.queue import Queue
from examples.generation_service.signing import secret_of
from examples.generation_service.store import Store
from examples.generation_service.upkeep import Upkeep
from examples.starting import Example, Place, main


async def build(place: Place) -> web.Application:
    """Return the application for a place; the provider is at `/provider` of the same server, and reached over HTTP."""
    secrets = Secrets(secret_of(place.data / "webhooks.secret"), secret_of(place.data / "links.secret"))
    ledger = Ledger.over_http(place.ledger_url)
    provider = Provider(f"{place.url}/fake-provider", f"{place.url}/provider/webhook")
    store = Store(place.data / "jobs.sqlite")
    generation = Generation(ledger, store, Queue(place.nats_url), provider)
    # The fake provider forgets what it was at when the process is killed, so its silence is not borne for long.
    upkeep = Upkeep(generation, round_seconds=2, silent_seconds=15, waiting_seconds=15)
    app = application(generation, secrets, upkeep)
    fake = FakeProvider(secrets.webhooks, f"{place.url}/fake-provider")
    app.add_subapp("/fake-provider", fake.application())
    return app


def lines(url: str) -> list[str]:
    """Return a story to paste."""
    curl = 'curl -sS -H "Team: team-42"'
    return [
        "# two images: (0.5 + 2) x 1.5 = 3.75, rounded up to 4 credits; team-42 is opened on the free plan",
        f"""{curl} {url}/jobs -d '{{"model": "aurora-2", "images": 2, "resolution": "1024", "prompt": "a red lamp"}}'""",
        "# what another job would cost, and whether it could start now: the free plan has one job at a time",
        f"""{curl} {url}/estimates -d '{{"model": "aurora-2", "images": 20, "prompt": "fail"}}'""",
        "# the jobs, with links to their results, and the credits",
        f"{curl} {url}/jobs",
        f"{curl} {url}/credits",
    ]


if __name__ == "__main__":
    main(Example("generation_service", 8092, build, lines))
