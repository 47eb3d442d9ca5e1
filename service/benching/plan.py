"""What `credit-ledger bench` measures: the cases, the accounts they need, and the address and words for a given ledger.

The same load as the bench of the ledger's own repository, with amounts instead of operations, so that it runs with any
catalog. Everything that it needs is made by commands with fixed keys: a second run finds it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from service.benching.http_load import Good, HttpAddress, http_load
from service.benching.nats_load import NatsAddress, nats_load
from service.benching.pump import Pump, Request, Window
from service.benching.requests import (
    Draw,
    Shape,
    Wording,
    account_names,
    draws,
    http_requests,
    nats_requests,
)

FUNDS = 10**9
PREFIX = "bench-"
BATCH = 100
BATCHES_IN_FLIGHT = 8
GUESS_PER_SECOND = 5_000
SPARE_SHARE = 2.0
PAIRS_MIN, PAIRS_MAX = 500, 100_000
SETUP_SECONDS_MAX = 600.0
CREATED = Good(201)
MADE = Good(201, or_replayed=True)


class Unusable(ValueError):
    """A URL or a name that the bench can do nothing with; the message says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many lanes for how long, and how many commands a request has (0: it is one)."""

    in_flight: int
    seconds: float
    batch: int = 0

    def pump(self, pairs: list[tuple[Request, Request]]) -> Pump[Request]:
        """Return what hands these pairs out."""
        return Pump(pairs, self.in_flight, self.seconds, weight=self.batch or 1)


@dataclass(frozen=True, slots=True)
class Http:
    """A ledger by its URL."""

    address: HttpAddress
    wording: Wording

    async def run(self, shape: Shape, drawn: list[Draw], load: Load, good: Good) -> Window:
        """Run one round; raises BenchError."""
        pairs = list(http_requests(shape, drawn, self.wording, load.batch))
        return await http_load(load.pump(pairs), self.address, good)


@dataclass(frozen=True, slots=True)
class Nats:
    """A ledger by the URL of its NATS server; `subject` is what stands before a command's and before a query's name."""

    address: NatsAddress
    wording: Wording
    subject: tuple[str, str]

    async def run(self, shape: Shape, drawn: list[Draw], load: Load, good: Good) -> Window:
        """Run one round; raises BenchError."""
        pairs = list(nats_requests(shape, drawn, self.wording, self.subject, load.batch))
        return await nats_load(load.pump(pairs), self.address, good)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    name: str
    what: str
    way: Http | Nats
    shape: Shape
    load: Load
    good: Good
    accounts: int

    async def run(self, run: str, per_second: float | None) -> Window:
        """Run one round, named `run`, with requests enough for this rate; raises BenchError."""
        load = self.load
        wanted = int((per_second or GUESS_PER_SECOND) * load.seconds * SPARE_SHARE / 2)
        pairs = max(PAIRS_MIN, 2 * load.batch * load.in_flight, min(PAIRS_MAX, wanted))
        return await self.way.run(self.shape, list(draws(run, pairs, self.accounts)), load, self.good)


def cases(way: Http | Nats, *, accounts: int, in_flight: int, seconds: float) -> list[Case]:
    """Return what is measured over one way."""
    name, label = ("http", "HTTP") if isinstance(way, Http) else ("nats", "NATS")
    many, alone = Load(in_flight, seconds), Load(1, seconds)
    batches = Load(BATCHES_IN_FLIGHT, seconds, BATCH)
    rows: list[tuple[str, str, Shape, Load, Good, int]] = [
        ("uniform.1", "commands, one at a time", "pairs", alone, CREATED, accounts),
        (f"uniform.{in_flight}", "commands, many accounts", "pairs", many, CREATED, accounts),
        (f"hot.{in_flight}", "commands, one hot account", "pairs", many, CREATED, 1),
        (f"batch.{BATCH}", f"commands, batches of {BATCH}", "batches", batches, Good(200, BATCH), accounts),
        (f"balance.{in_flight}", "reads of balances", "balance", many, Good(200), accounts),
    ]
    return [
        Case(f"{name}.{case}", f"{label}: {what}", way, shape, load, good, count)
        for case, what, shape, load, good, count in rows
    ]


async def make_accounts(way: Http | Nats, *, accounts: int, in_flight: int, unit: str | None, plan: str | None) -> None:
    """Open and fund the accounts `bench-...`, where that was not done before; raises BenchError."""
    load = Load(in_flight, SETUP_SECONDS_MAX)
    id_ = f"{PREFIX}{unit or 'default'}"
    names = account_names(accounts)
    if plan is not None:
        # The same plan again is no other command: its key says which plan.
        await way.run("open_by_plan", [(name, f"{id_}-{plan}") for name in names], load, MADE)
        return
    await way.run("open_by_use", [(name, f"{id_}-open") for name in names], load, MADE)
    await way.run("fund", [(name, f"{id_}-funds") for name in _even(names)], load, MADE)


def _even(names: list[str]) -> list[str]:
    """Return the names, the last one twice when they are odd in number: requests leave in pairs."""
    return names if len(names) % 2 == 0 else [*names, names[-1]]


def wording(*, unit: str | None, plan: str | None, host: str = "", token: str | None = None) -> Wording:
    """Return the words of a load that runs with any catalog."""
    of_unit = "" if unit is None else f',"unit":"{unit}"'
    return Wording(
        asks=f'"amount":1{of_unit}',
        grants=f'"amount":{FUNDS},"kind":"promo","reason":"bench"{of_unit}',
        plan=f'"plan":"{plan}","reason":"bench"',
        host=host,
        head="" if token is None else f"Authorization: Bearer {token}\r\n",
    )


def http_way(url: str, *, token: str | None, unit: str | None, plan: str | None) -> Http:
    """Return the way to a ledger by its URL; raises Unusable."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Unusable(f"{url}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise Unusable(f"{url}: must be http://host:port or https://host:port, without a path")
    tls = parts.scheme == "https"
    address = HttpAddress(parts.hostname, port or (443 if tls else 80), tls)
    return Http(address, wording(unit=unit, plan=plan, host=parts.netloc.rpartition("@")[2], token=token))


def nats_way(url: str, *, caller: str, prefix: str, unit: str | None, plan: str | None) -> Nats:
    """Return the way to a ledger by the URL of its NATS server, `user:password@` or `token@` in it; raises Unusable."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme != "nats" or not parts.hostname:
        raise Unusable("the URL of NATS must be nats://host:port, without TLS, which the bench does not speak")
    name = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    address = NatsAddress(
        parts.hostname,
        port or 4222,
        user=name if password is not None else None,
        password=password,
        token=name if password is None else None,
        inbox=f"_INBOX_{caller}",
    )
    return Nats(address, wording(unit=unit, plan=plan), (f"{prefix}.cmd.{caller}", f"{prefix}.query.{caller}"))
