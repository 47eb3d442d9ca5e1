"""The gateway: from the bytes of a request to the bytes of its answer, the same for HTTP and NATS.

A transport hands over a command's name, its body, what stood in the path, the key and the author; it gets a status and
a body, and never an exception. What a body may be is checked here in the order of SEMANTICS.md section 8: JSON and
types, then the key, then everything else. Nothing of an unexpected error reaches a caller but that it happened.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from events.commands import COMMANDS, parse_command
from events.errors import InvalidRequest, Refusal
from events.recorded import Actor
from projections.outcome import answer, dry_answer, free_answer
from service.body import parse_body
from service.ledger import Ledger
from service.outages import Outage
from service.queries import QUERIES, parse_query
from service.reads import Reads
from service.requests import Outcome, Request, fingerprint

KEY_CHARACTERS_MAX = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: the status of CONTRACT.md, a JSON body, and for a problem its code."""

    status: int
    body: bytes
    code: str | None = None
    retry_after_seconds: int | None = None


class NotFound(Refusal):
    """There is no such command, query or page."""

    code = "not_found"
    status = 404
    title = "Not found"


class TooLarge(Refusal):
    """The body is larger than a command or query may be."""

    code = "too_large"
    status = 413
    title = "The body is too large"


class KeyRequired(Refusal):
    """A mutation without an idempotency key."""

    code = "idempotency_key_required"
    status = 400
    title = "An idempotency key is required"


def problem(status: int, code: str, title: str, detail: str, fields: Mapping[str, object] | None = None) -> bytes:
    """Return a problem document (RFC 9457) with its code and the fields that help."""
    about: dict[str, object] = {
        "type": f"urn:credit-ledger:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
    }
    return orjson.dumps({**about, **(fields or {})})


def refused(refusal: Refusal) -> Reply:
    """Return the reply that carries a refusal."""
    body = problem(refusal.status, refusal.code, refusal.title, refusal.detail, refusal.fields)
    return Reply(refusal.status, body, refusal.code)


def out_of_order(outage: Outage) -> Reply:
    """Return the reply that carries an outage: nothing is wrong with the request, it may be sent again."""
    body = problem(503, outage.code, outage.title, outage.detail)
    return Reply(503, body, outage.code, outage.retry_after_seconds)


def invalid(error: ValidationError) -> InvalidRequest:
    """Return the refusal that lists what pydantic found, without pydantic's own words about itself."""
    errors = [
        {"loc": [str(part) for part in found["loc"]], "msg": found["msg"].removeprefix("Value error, ")}
        for found in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    first = errors[0]
    return InvalidRequest(f"{'.'.join(first['loc']) or 'body'}: {first['msg']}", errors=errors)


class Gateway:
    """Takes requests of any transport."""

    def __init__(self, ledger: Ledger, reads: Reads) -> None:
        self._ledger = ledger
        self._reads = reads

    async def command(
        self,
        name: str,
        body: bytes,
        *,
        actor: Actor,
        key: str | None,
        path: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Execute a command; never raises.

        `path` has the fields that stood in an HTTP path; over NATS they stand in the body, with `idempotency_key` and
        `dry_run`, and `path` is None.
        """
        try:
            request = _request(name, body, actor, key, path, dry_run=dry_run)
            return _reply(await self._ledger.execute(request))
        except Refusal as refusal:
            return refused(refusal)
        except Outage as outage:
            return out_of_order(outage)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer
            _log.exception("command %s failed", name)
            return failed()

    async def query(self, name: str, fields: Mapping[str, object]) -> Reply:
        """Answer a query by name; never raises."""
        try:
            return await self._answered(name, fields)
        except ValidationError as error:
            return refused(invalid(error))
        except Refusal as refusal:
            return refused(refusal)
        except Outage as outage:
            return out_of_order(outage)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer
            _log.exception("query %s failed", name)
            return failed()

    async def query_body(self, name: str, body: bytes) -> Reply:
        """Answer a query whose fields are a JSON body; never raises."""
        try:
            fields = parse_body(body)
        except Refusal as refusal:
            return refused(refusal)
        return await self.query(name, fields)

    async def _answered(self, name: str, fields: Mapping[str, object]) -> Reply:
        if name not in QUERIES:
            raise NotFound(f"there is no query {name}", queries=sorted(QUERIES))
        status, view = await self._reads.answer(name, parse_query(name, dict(fields)))
        return Reply(status, orjson.dumps(view))


def _request(
    name: str, body: bytes, actor: Actor, key: str | None, path: Mapping[str, str] | None, *, dry_run: bool
) -> Request:
    """Return the request that a body stands for; raises Refusal in the order JSON, types, key."""
    if name not in COMMANDS:
        raise NotFound(f"there is no command {name}", commands=sorted(COMMANDS))
    fields = parse_body(body)
    if path is None:
        key, dry_run = _from_body(fields, key)
    else:
        doubled = sorted(fields.keys() & path.keys())
        if doubled:
            raise InvalidRequest.at(doubled[0], "stands in the path, not in the body")
        fields.update(path)
    on_reservation = name == "consume" and "reservation_id" in (fields if path is None else path)
    canonical = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    try:
        command = parse_command(name, canonical, on_reservation=on_reservation)
    except ValidationError as error:
        raise invalid(error) from None
    if not key and dry_run:
        key = ""
    elif not key:
        raise KeyRequired(
            'a mutation needs a key of its own, so that sending it twice counts once: add -H "Idempotency-Key: $(uuidgen)"',
            header="Idempotency-Key",
        )
    elif len(key) > KEY_CHARACTERS_MAX or not key.isascii() or not key.isprintable():
        raise InvalidRequest.at("idempotency_key", f"must be 1 to {KEY_CHARACTERS_MAX} printable ASCII characters")
    return Request(command, key, fingerprint(name, canonical), actor, dry_run)


def _from_body(fields: dict[str, Any], header: str | None) -> tuple[str | None, bool]:
    """Take the key and the dry run out of a NATS body, whose other fields are the command's."""
    key = fields.pop("idempotency_key", None)
    dry_run = fields.pop("dry_run", False)
    if key is not None and not isinstance(key, str):
        raise InvalidRequest.at("idempotency_key", "must be a string")
    if not isinstance(dry_run, bool):
        raise InvalidRequest.at("dry_run", "must be true or false")
    if key is not None and header is not None and key != header:
        raise InvalidRequest.at("idempotency_key", "differs from the header Idempotency-Key")
    return header if key is None else key, dry_run


def _reply(outcome: Outcome) -> Reply:
    if outcome.free:
        return Reply(200, orjson.dumps(free_answer()))
    if outcome.facts is not None:
        return Reply(200, orjson.dumps(dry_answer(outcome.account, outcome.facts, outcome.state)))
    body = orjson.dumps(answer(outcome.account, outcome.lines, outcome.state, replayed=outcome.replayed))
    return Reply(200 if outcome.replayed else 201, body)


def failed() -> Reply:
    """Return the reply for an error of our own; it says nothing of what happened inside."""
    detail = "the ledger failed on this request; a command can be looked up by its key and sent again with it"
    return Reply(500, problem(500, "internal", "Internal error", detail), "internal")
