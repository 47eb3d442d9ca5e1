"""What a caller asks for: a command read from its name, its fields and its key (SEMANTICS.md section 8).

The order is JSON and types, then the key, then everything else, which `decide` judges. Of a command, the fields as sent
are what its fingerprint is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

import orjson
from pydantic import ValidationError

from events.commands import COMMANDS, Command, parse_command
from events.errors import InvalidRequest, KeyRequired, NotFound

KEY_CHARACTERS_MAX = 200


class Asked(NamedTuple):
    """A command with its key, and the SHA-256 of its canonical form in hex; the key of a dry run may be empty."""

    command: Command
    key: str
    fingerprint: str


def asked(
    name: str,
    fields: Mapping[str, object],
    key: str | None,
    *,
    dry_run: bool = False,
    on_reservation: bool | None = None,
) -> Asked:
    """Return the command `name` with these fields; raises Refusal, first for its types, then for its key.

    `on_reservation` tells the two forms of `consume` apart; by default a reservation's id among the fields does: null is
    refused there, for a worker that lost its reservation's id is not to charge a second time.
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
    if not key and not dry_run:
        raise KeyRequired(
            'a mutation needs a key of its own, so that sending it twice counts once: add -H "Idempotency-Key: $(uuidgen)"',
            header="Idempotency-Key",
        )
    if key and (len(key) > KEY_CHARACTERS_MAX or not key.isascii() or not key.isprintable()):
        raise InvalidRequest.at("idempotency_key", f"must be 1 to {KEY_CHARACTERS_MAX} printable ASCII characters")
    return Asked(command, key or "", fingerprint(name, canonical))


def fingerprint(name: str, canonical: bytes) -> str:
    """Return the SHA-256, in hex, of a command's name and its fields as canonical JSON."""
    return sha256(b"%b %b" % (name.encode(), canonical)).hexdigest()


def invalid(error: ValidationError) -> InvalidRequest:
    """Return the refusal that lists what pydantic found, without pydantic's own words about itself."""
    errors = [
        {"loc": [str(part) for part in found["loc"]], "msg": found["msg"].removeprefix("Value error, ")}
        for found in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    first = errors[0]
    return InvalidRequest(f"{'.'.join(first['loc']) or 'body'}: {first['msg']}", errors=errors)
