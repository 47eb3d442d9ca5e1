"""What `credit-ledger up` tells whoever started it: where everything is, and lines to paste that tell a story.

The story is made from the catalog in force, so its lines work with any catalog that has a plan with credits, and its
account is a new one each time, so they work at each start. They are printed whole, without a frame, because they are
there to be copied. For a machine without `uuidgen` a line comes first that makes one.

`play` is the demo: a few accounts with a little history, made by commands with fixed keys, so that a second start
replays them and changes nothing.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from events.catalog import CREDITS, Catalog, Operation, Plan
from events.pricing import FigureTooLarge, cost
from events.recorded import Actor
from service.app import VERSION, Running
from service.gateway import Gateway
from service.settings import masked

KEY = '-H "Idempotency-Key: $(uuidgen)"'
KERNEL_UUIDS = Path("/proc/sys/kernel/random/uuid")
DEMO = Actor(id="demo", via="cli")
DEMO_PLANS_MAX = 3

_log = logging.getLogger(__name__)


class Example(NamedTuple):
    """A plan that grants credits, and an operation that these pay for, when the catalog has one."""

    plan: Plan
    granted: int
    operation: str | None
    cost: int

    @property
    def asked(self) -> dict[str, object]:
        """What a reservation of the example asks for."""
        return {"amount": self.cost} if self.operation is None else {"operation": self.operation}


class Line(NamedTuple):
    """A line to paste, and what it does."""

    about: str
    command: str


def example_of(catalog: Catalog, plan: Plan | None = None) -> Example | None:
    """Return an example with this plan or the lowest one that grants credits; None when there is none."""
    paying = [
        plan for plan in sorted(catalog.plans.values(), key=lambda plan: plan.rank) if plan.allowance.get(CREDITS)
    ]
    if plan is None:
        if not paying:
            return None
        plan = paying[0]
    granted = plan.allowance.get(CREDITS, 0)
    prices = {name: price for name, operation in catalog.operations.items() if (price := _price(operation))}
    affordable = [name for name, price in prices.items() if price <= granted]
    name = next(iter(affordable), None)
    return Example(plan, granted, name, prices[name] if name else min(5, granted))


def _price(operation: Operation) -> int:
    """Return what one call costs in credits, or 0 for what does not suit an example: it is free or takes room."""
    if operation.free or operation.unit != CREDITS or operation.occupies or operation.occupies_each:
        return 0
    try:
        return cost(operation.price)
    except FigureTooLarge:
        return 0


def story(running: Running, account: str) -> Iterator[Line]:
    """Yield the lines to try, in order."""
    token = "" if running.settings.auth == "off" else ' -H "Authorization: Bearer $TOKEN"'
    base = f"{running.url}/v1/accounts/{account}"

    def curl(path: str, body: Mapping[str, object] | None = None, method: str = "") -> str:
        key = "" if body is None else f" {KEY}"
        data = "" if body is None else f" -d '{json.dumps(body)}'"
        return f"curl -sS{method} {base}{path}{token}{key}{data}"

    example = example_of(running.catalog)
    if example is not None:
        what = f"{example.cost} of them" + ("" if example.operation is None else f" for {example.operation}")
        yield Line(
            f"Open an account on the plan {example.plan.name}, which has {example.granted} credits",
            curl("/plan", {"plan": example.plan.name}, " -X PUT"),
        )
        yield Line(f"Reserve {what}", curl("/reservations", {**example.asked, "reservation_id": "job-1"}))
        yield Line("The work is done: consume what was reserved", curl("/reservations/job-1/consume", {}))
        yield Line("See the balance", curl("/balance"))
        yield Line("See the events", f"curl -sS{token} '{running.url}/v1/events?account={account}'")
    yield Line("See what things cost", f"curl -sS{token} {running.url}/v1/catalog")


def nats_story(running: Running, account: str) -> Iterator[Line]:
    """Yield lines for the `nats` command line tool."""
    settings, example = running.settings, example_of(running.catalog)
    if settings.nats_url is None or example is None:
        return
    server, prefix = masked(settings.nats_url.get_secret_value()), settings.subject_prefix
    body = json.dumps({"account": account, **example.asked})
    tool = "" if shutil.which("nats") else ", with the tool of https://github.com/nats-io/natscli"
    yield Line(f"Reserve over NATS{tool}", f"nats -s {server} request {prefix}.cmd.dev.reserve '{body}' {KEY}")


def welcome(console: Console, running: Running, data: Path, demo: list[str], postgres_url: str) -> None:
    """Print where everything is and what to try."""
    account = f"team-{secrets.token_hex(2)}"
    settings = running.settings
    facts = {
        "HTTP": running.url,
        "NATS": masked(settings.nats_url.get_secret_value()) if settings.nats_url else "",
        "PostgreSQL": _without_password(postgres_url),
        "Password": f"of PostgreSQL: in {data / 'postgres.password'}",
        "Data": f"{data}, kept until you delete it",
        "Catalog": f"{running.catalog.version}, {settings.catalog}",
        "Auth": "off: whoever is on this machine may do everything" if settings.auth == "off" else "on",
        "Demo": ", ".join(demo),
    }
    table = "\n".join(f"{name:<11} {fact}" for name, fact in facts.items() if fact)
    if console.is_terminal:
        panel = Panel(Text(table, overflow="fold"), title=f"credit-ledger {VERSION}", title_align="left", expand=False)
        console.print(panel, soft_wrap=False)
    else:
        _print(console, f"credit-ledger {VERSION} is ready\n\n{table}")
    if settings.auth == "on":
        _print(console, "\nSet TOKEN to a token of your TOKENS file; `credit-ledger token create` makes one.")
    if shutil.which("uuidgen") is None:
        _print(
            console,
            f"\nThis machine has no uuidgen, which the lines below use for their keys. This makes one:\n{_uuidgen()}",
        )
    for about, command in (*story(running, account), *nats_story(running, account)):
        _print(console, f"\n{about}:\n{command}")
    _print(console, "\nCtrl-C stops everything.")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.username}@{parts.hostname}:{parts.port}{parts.path}"


def _uuidgen() -> str:
    """Return a line that defines `uuidgen` in any shell."""
    source = f"cat {KERNEL_UUIDS}" if KERNEL_UUIDS.exists() else "python3 -c 'import uuid; print(uuid.uuid4())'"
    return f"uuidgen() {{ {source}; }}"


def _print(console: Console, text: str) -> None:
    """Print text as it is: nothing is wrapped, coloured or taken for markup, so it can be copied."""
    console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)


async def play(gateway: Gateway, catalog: Catalog) -> list[str]:
    """Make the demo's accounts unless they are there, and return their names."""
    plans = sorted(catalog.plans.values(), key=lambda plan: plan.rank)[:DEMO_PLANS_MAX]
    accounts: list[str] = []
    for plan in plans:
        account = f"demo-{plan.name}"[:128]
        accounts.append(account)
        for step, (command, fields) in enumerate(_history(catalog, plan)):
            body = {"account": account, "idempotency_key": f"demo-{step}", **fields}
            reply = await gateway.command(command, orjson.dumps(body), actor=DEMO, key=None)
            if reply.code is not None:
                _log.warning("the demo's %s for %s was answered %d %s", command, account, reply.status, reply.code)
    return accounts


def _history(catalog: Catalog, plan: Plan) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the commands of a demo account's life."""
    yield "change_plan", {"plan": plan.name, "reason": "demo"}
    yield "grant", {"amount": 25, "kind": "promo", "reason": "welcome"}
    example = example_of(catalog, plan)
    if example is None or example.cost == 0:
        return
    yield "reserve", {**example.asked, "reservation_id": "demo-done"}
    yield "consume", {"reservation_id": "demo-done"}
    yield "reserve", {**example.asked, "reservation_id": "demo-cancelled"}
    yield "release", {"reservation_id": "demo-cancelled", "reason": "the customer changed their mind"}
    yield "consume", {**example.asked, "consumption_id": "demo-at-once"}
    yield "refund", {"consumption_id": "demo-at-once", "amount": 1, "reason": "goodwill"}
