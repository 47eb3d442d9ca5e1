"""What a caller asks for, from the object of a body to a request of the ledger (SEMANTICS.md section 8).

The order is JSON and types, then the key, then everything else; the last is the domain's. Of a command the fields as
sent are what its fingerprint is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from events.commands import COMMANDS, parse_command
from events.errors import InvalidRequest, Refusal
from events.recorded import Actor
from service.requests import Request, fingerprint

KEY_CHARACTERS_MAX = 200


class NotFound(Refusal):
    """There is no such command, query or page."""

    code = "not_found"
    status = 404
    title = "Not found"


class KeyRequired(Refusal):
    """A mutation without an idempotency key."""

    code = "idempotency_key_required"
    status = 400
    title = "An idempotency key is required"


def invalid(error: ValidationError) -> InvalidRequest:
    """Return the refusal that lists what pydantic found, without pydantic's own words about itself."""
    errors = [
        {"loc": [str(part) for part in found["loc"]], "msg": found["msg"].removeprefix("Value error, ")}
        for found in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    first = errors[0]
    return InvalidRequest(f"{'.'.join(first['loc']) or 'body'}: {first['msg']}", errors=errors)


def asked(
    name: str,
    fields: dict[str, Any],
    *,
    key: str | None,
    actor: Actor,
    dry_run: bool,
    on_reservation: bool | None = None,
) -> Request:
    """Return the request for the command `name` with these fields; raises Refusal, first for its types, then its key.

    `on_reservation` tells the two forms of `consume` apart; by default a reservation's id among the fields does.
    """
    if name not in COMMANDS:
        raise NotFound(f"there is no command {name}", commands=sorted(COMMANDS))
    if on_reservation is None:
        on_reservation = "reservation_id" in fields
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


def asked_at(
    path: Mapping[str, str], name: str, fields: dict[str, Any], *, key: str | None, actor: Actor, dry_run: bool
) -> Request:
    """Return the request whose account and ids stood in an HTTP path."""
    if name in COMMANDS:
        doubled = sorted(fields.keys() & path.keys())
        if doubled:
            raise InvalidRequest.at(doubled[0], "stands in the path, not in the body")
        fields.update(path)
    return asked(name, fields, key=key, actor=actor, dry_run=dry_run, on_reservation="reservation_id" in path)


def key_of(fields: dict[str, Any], header: str | None = None) -> str | None:
    """Take the key out of a body's fields; raises InvalidRequest when it is no string, or not that of the header."""
    key = fields.pop("idempotency_key", None)
    if key is not None and not isinstance(key, str):
        raise InvalidRequest.at("idempotency_key", "must be a string")
    if key is not None and header is not None and key != header:
        raise InvalidRequest.at("idempotency_key", "differs from the header Idempotency-Key")
    return header if key is None else key


def dry_run_of(fields: dict[str, Any]) -> bool:
    """Take `dry_run` out of a body's fields; raises InvalidRequest when it is no boolean."""
    dry_run = fields.pop("dry_run", False)
    if not isinstance(dry_run, bool):
        raise InvalidRequest.at("dry_run", "must be true or false")
    return dry_run
