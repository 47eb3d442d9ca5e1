"""Load over HTTP and NATS: the load generators that ship with the ledger, given the bench's own commands."""

from collections.abc import Iterable

from bench.jobs import Http, Load, Nats
from service.benching.http_load import Good, HttpAddress, http_load
from service.benching.nats_load import NatsAddress, nats_load
from service.benching.pump import Window
from service.benching.requests import Draw, Shape, Wording, account_names, http_requests, nats_requests

HOST = "127.0.0.1"
# By operation, so that the price rule is in the path.
WORDING = Wording(asks='"operation":"render"', plan='"plan":"bench","reason":"bench"')


async def http(job: Http) -> Window:
    """Runs one round over keep-alive connections."""
    load = job.load
    pairs = list(http_requests(job.shape, drawn(load, job.shape), WORDING, load.batch))
    return await http_load(load.pump(pairs), HttpAddress(HOST, job.port), Good(job.status, load.batch))


async def nats(job: Nats) -> Window:
    """Runs one round over one connection."""
    load = job.load
    pairs = list(nats_requests(job.shape, drawn(load, job.shape), WORDING, job.subject, load.batch))
    good = None if job.status is None else Good(job.status, load.batch)
    return await nats_load(load.pump(pairs), NatsAddress(HOST, job.port), good)


def drawn(load: Load, shape: Shape) -> Iterable[Draw]:
    """What the requests are about: every account once where accounts are opened, else accounts by chance."""
    if shape != "open_by_plan":
        return load.draw()
    return [(account, f"{load.run}-{number}") for number, account in enumerate(account_names(load.accounts))]
