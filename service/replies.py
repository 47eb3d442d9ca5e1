"""Replies: outcomes, refusals and outages as the status and the JSON body that a caller gets, whatever the transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

import orjson

from events.errors import Refusal
from projections.outcome import answer, dry_answer, free_answer
from service.outages import Failed, Outage
from service.requests import Outcome


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: the status of CONTRACT.md, a JSON body, and for a problem its code."""

    status: int
    body: bytes
    code: str | None = None
    retry_after_seconds: int | None = None
    etag: str | None = None
    """What stands for the answer's content, whenever it was asked for; HTTP answers 304 to who has it already."""
    is_failure: bool = False
    """The ledger failed on this very request: it is no outage, which would end by itself."""


TAGGED = frozenset({"balance", "quota"})
"""The queries whose answers have an entity tag."""


_AS_OF = b'"as_of":"'
_AS_OF_BYTES = len(_AS_OF) + 27 + 1


def etag_of(body: bytes) -> str:
    """Return the weak entity tag of an answer: of all but the instant at which it was given."""
    at = body.index(_AS_OF)  # the only one: in a text the quotation marks would be escaped
    return f'W/"{blake2b(body[:at] + body[at + _AS_OF_BYTES :], digest_size=12).hexdigest()}"'


BODY_BYTES_MAX = 64 * 1024
"""Of the body of a request, over HTTP and NATS alike."""
BATCH_BYTES_MAX = 4 * 1024 * 1024
"""Of the body of a batch, however large a message of a NATS server may be."""


class TooLarge(Refusal):
    """The body is larger than a command or query may be."""

    code = "too_large"
    status = 413
    title = "The body is too large"


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
    return Reply(503, body, outage.code, outage.retry_after_seconds, is_failure=isinstance(outage, Failed))


def told(outcome: Outcome, *, dry_run: bool = False) -> Reply:
    """Return the reply that tells what a command led to; that of a dry run says so, also where nothing would be written."""
    if outcome.free:
        return Reply(200, orjson.dumps(_tried(free_answer()) if dry_run else free_answer()))
    if outcome.facts is not None:
        return Reply(200, orjson.dumps(dry_answer(outcome.account, outcome.facts, outcome.state)))
    view = answer(outcome.account, outcome.lines, outcome.state, replayed=outcome.replayed)
    return Reply(200 if outcome.replayed else 201, orjson.dumps(_tried(view) if dry_run else view))


def _tried(view: dict[str, object]) -> dict[str, object]:
    return {**view, "dry_run": True}


def failed() -> Reply:
    """Return the reply for an error of our own; it says nothing of what happened inside."""
    detail = "the ledger failed on this request; a command can be looked up by its key and sent again with it"
    return Reply(500, problem(500, "internal", "Internal error", detail), "internal", is_failure=True)
