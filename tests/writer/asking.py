"""What tests ask of a ledger: commands with keys, a catalog, a clock that they set, and what an answer says.

A request is made from the fields of a body, as the gateway does it, so that it can cross a pipe to another process and
is the same command there.
"""

import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any

import msgspec

from events.catalog import Catalog, parse_catalog
from events.commands import parse_command
from events.errors import Refusal
from events.instants import Instant, instant, moment
from events.partition import partition_of
from events.recorded import Actor
from projections.outcome import answer
from service.ledger import Ledger
from service.outages import Outage
from service.requests import Outcome, Request
from tests.servers import PARTITIONS

CATALOG_TEXT = """
version = "tests-1"
default_plan = "small"

[capacities.jobs]

[plans.small]
rank = 1
allowance.credits = 1000

[plans.twenty]
rank = 0
allowance.credits = 20

[plans.large]
rank = 2
allowance.credits = 1000000000
max_open_holds = 100000

[operations.render]
each = "3"
occupies.jobs = 1

[operations.note]
free = true
"""
CATALOG: Catalog = parse_catalog(CATALOG_TEXT)
ACTOR = Actor(id="tests", via="tests")
OpenLedger = Callable[..., Coroutine[Any, Any, Ledger]]

_keys = count(1)


def ask(name: str, account: str, *, key: str | None = None, dry_run: bool = False, **fields: object) -> Request:
    """The request of a command by name; without a key, one that nobody else has."""
    body = {"account": account, **fields}
    canonical = json.dumps(body, sort_keys=True).encode()
    command = parse_command(name, canonical, on_reservation=name == "consume" and "reservation_id" in fields)
    fingerprint = sha256(b"%b %b" % (name.encode(), canonical)).hexdigest()
    return Request(command, f"key-{next(_keys)}" if key is None else key, fingerprint, ACTOR, dry_run)


class Wish(msgspec.Struct, frozen=True):
    """A command that is still to be asked for, in a form that crosses a pipe."""

    name: str
    account: str
    key: str
    fields: dict[str, Any]

    def request(self) -> Request:
        """The request, the same in every process."""
        return ask(self.name, self.account, key=self.key, **self.fields)


def accounts_of(partition: int, number: int) -> list[str]:
    """The ids of some accounts that share a partition."""
    found: list[str] = []
    for candidate in count():
        if len(found) == number:
            return found
        name = f"account-{candidate}"
        if partition_of(name, PARTITIONS) == partition:
            found.append(name)
    raise AssertionError("counting never ends")


class Said(msgspec.Struct, frozen=True):
    """What the ledger said to a command, in a form that compares: the events it wrote, or the code of its refusal."""

    events: tuple[str, ...] = ()
    replayed: bool = False
    code: str = ""

    @property
    def written(self) -> bool:
        """Whether the command is in the log."""
        return bool(self.events)


async def said(ledger: Ledger, request: Request) -> Said:
    """Executes a command; refusals and outages are told by their codes."""
    try:
        outcome = await ledger.execute(request)
    except (Refusal, Outage) as error:
        return Said(code=error.code)
    return Said(tuple(line.hash for line in outcome.lines), outcome.replayed)


def view(outcome: Outcome) -> dict[str, object]:
    """The answer to a caller, but for the mark that tells a replay."""
    told = answer(outcome.account, outcome.lines, outcome.state)
    events = [json.loads(line.line) for line in outcome.lines]
    return {**told, "events": events}


class Clock:
    """A clock that stands still until it is set. It starts in the past, for the database refuses the future."""

    def __init__(self, *, days_ago: float = 10) -> None:
        self.now = datetime.now(UTC) - timedelta(days=days_ago)

    def __call__(self) -> Instant:
        return instant(self.now)

    def advance(self, seconds: float) -> None:
        """Moves the clock; a negative number moves it back."""
        self.now += timedelta(seconds=seconds)

    def set(self, at: Instant) -> None:
        """Sets the clock to an instant."""
        self.now = moment(at)
