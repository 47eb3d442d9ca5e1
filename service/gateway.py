"""The gateway: from the bytes of a request to the bytes of its answer, the same for HTTP and NATS.

A transport hands over a command's name, its body, what stood in the path, the key and the author; it gets a status and
a body, and never an exception. What a body may be is checked here in the order of SEMANTICS.md section 8: JSON and
types, then the key, then everything else. Nothing of an unexpected error reaches a caller but that it happened.

Before anything is read, a request waits for its caller's turn (`turns.py`), commands and queries apart.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson
from pydantic import ValidationError

from events.asking import invalid
from events.errors import NotFound, Refusal
from events.recorded import Actor
from service.asking import asked, asked_at, dry_run_of, key_of
from service.batches import Admit, answer_batch
from service.body import parse_body
from service.ledger import Ledger
from service.outages import Outage
from service.queries import QUERIES, parse_query
from service.reads import Reads
from service.replies import TAGGED, Reply, etag_of, failed, out_of_order, refused, told
from service.telemetry.metrics import Metrics
from service.turns import Turns

BATCH_BYTES_FOR_EACH_TURN = 2048
"""A batch of 1000 commands weighs as much as about 75 of them alone: they share what each would cost."""

_log = logging.getLogger(__name__)


class Gateway:
    """Takes requests of any transport."""

    def __init__(self, ledger: Ledger, reads: Reads) -> None:
        self._ledger = ledger
        self._reads = reads
        self._turns = {"command": Turns(), "query": Turns()}

    def measure(self, metrics: Metrics) -> None:
        """Add what there is to know about the requests that wait for their turn."""
        families = [
            metrics.number("gauge", "credit_ledger_requests_at_work", "Requests that are being worked on.", "kind"),
            metrics.number("gauge", "credit_ledger_requests_waiting", "Requests that wait for their turn.", "kind"),
            metrics.number("counter", "credit_ledger_requests_turned_away_total", "Answered `overloaded`.", "kind"),
        ]

        async def show() -> None:
            for kind, turns in self._turns.items():
                for family, value in zip(families, (turns.at_work, turns.waiting, turns.turned_away), strict=True):
                    family.labels(kind).value = value

        metrics.probe(show)

    async def command(
        self,
        name: str,
        body: bytes,
        *,
        actor: Actor,
        key: str | None,
        path: Mapping[str, str] | None = None,
        dry_run: bool = False,
        caller: str | None = None,
    ) -> Reply:
        """Execute a command; never raises. Its turn is the `caller`'s, by default the author's.

        `path` has the fields that stood in an HTTP path; over NATS they stand in the body, with `idempotency_key` and
        `dry_run`, and `path` is None.
        """

        async def execute() -> Reply:
            fields = parse_body(body)
            if path is None:
                dry = dry_run_of(fields)
                request = asked(name, fields, key=key_of(fields, key), actor=actor, dry_run=dry)
            else:
                request = asked_at(path, name, fields, key=key, actor=actor, dry_run=dry_run)
            return told(await self._ledger.execute(request), dry_run=request.dry_run)

        return await _in_turn(self._turns["command"], caller or actor.id, 1, f"command {name}", execute)

    async def batch(self, body: bytes, *, actor: Actor, admit: Admit, dry_run: bool | None = None) -> Reply:
        """Execute a batch of commands; never raises.

        `admit` is asked for each command whether its caller may send it. Over NATS `dry_run` stands in the body.
        """

        async def execute() -> Reply:
            fields = parse_body(body)
            dry = dry_run_of(fields) if dry_run is None else dry_run
            return await answer_batch(self._ledger, fields, actor=actor, admit=admit, dry_run=dry)

        weight = 1 + len(body) // BATCH_BYTES_FOR_EACH_TURN
        return await _in_turn(self._turns["command"], actor.id, weight, "a batch", execute)

    async def query(
        self, name: str, fields: Mapping[str, object], *, caller: str = "", prefixes: Sequence[str] | None = None
    ) -> Reply:
        """Answer a query by name; never raises. `prefixes` are those of the accounts in the caller's reach."""

        async def answer() -> Reply:
            if name not in QUERIES:
                raise NotFound(f"there is no query {name}", queries=sorted(QUERIES))
            status, view = await self._reads.answer(name, parse_query(name, dict(fields)), prefixes)
            body = orjson.dumps(view)
            return Reply(status, body, etag=etag_of(body) if name in TAGGED else None)

        return await _in_turn(self._turns["query"], caller, 1, f"query {name}", answer)

    async def query_body(
        self,
        name: str,
        body: bytes,
        *,
        caller: str = "",
        admit: Callable[[str, Mapping[str, object]], None] | None = None,
    ) -> Reply:
        """Answer a query whose fields are a JSON body; never raises.

        `admit` raises the Refusal of fields that its caller may not ask for.
        """
        try:
            fields = parse_body(body)
            if admit is not None:
                admit(name, fields)
        except Refusal as refusal:
            return refused(refusal)
        return await self.query(name, fields, caller=caller)


async def _in_turn(turns: Turns, caller: str, weight: int, what: str, work: Callable[[], Awaitable[Reply]]) -> Reply:
    """Return what the work replies when its caller's turn has come, whatever comes of it."""
    try:
        turn = turns.at_once(caller, weight) or await turns.wait(caller, weight)
    except Outage as outage:  # too much of this caller waits already
        return out_of_order(outage)
    try:
        return await work()
    except ValidationError as error:
        return refused(invalid(error))
    except Refusal as refusal:
        return refused(refusal)
    except Outage as outage:
        return out_of_order(outage)
    except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer
        _log.exception("%s failed", what)
        return failed()
    finally:
        turns.leave(turn, weight)
