"""What a body says beside the fields of a command: its key, whether it is a dry run, and what stood in the path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from events import asking
from events.commands import COMMANDS
from events.errors import InvalidRequest
from events.recorded import Actor
from service.requests import Request


def asked(
    name: str,
    fields: Mapping[str, Any],
    *,
    key: str | None,
    actor: Actor,
    dry_run: bool,
    on_reservation: bool | None = None,
) -> Request:
    """Return the request for the command `name` with these fields; raises Refusal (`events.asking`)."""
    read = asking.asked(name, fields, key, dry_run=dry_run, on_reservation=on_reservation)
    return Request(*read, actor, dry_run)


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
    dry_run = fields.pop("dry_run", None)
    if dry_run is None:
        return False
    if not isinstance(dry_run, bool):
        raise InvalidRequest.at("dry_run", "must be true or false")
    return dry_run
