"""What a route may refuse: its statuses, and the codes of each.

Codes, statuses and titles are those of the classes that are raised; which of them a route can come to stands here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from events.errors import InsufficientCredits, Refusal
from service import access, asking, body, explanations, lists
from service.auditing import travel
from service.http import answers
from service.http.routes import Route
from service.outages import Outage

__all__ = ["KINDS", "responses"]

_IMPORTED = (access, asking, body, explanations, lists, travel, answers)
"""Modules with refusals of their own, which are known once they are imported."""

_OURS = ("events", "service")


class Kind(NamedTuple):
    """A way to say no."""

    code: str
    status: int
    title: str
    meaning: str


def _kinds() -> Iterator[Kind]:
    waiting: list[type[Refusal]] = list(Refusal.__subclasses__())
    while waiting:
        kind = waiting.pop(0)
        waiting += kind.__subclasses__()
        if kind.__module__.split(".")[0] not in _OURS:
            continue  # a caller's own, as in the double of the client
        yield Kind(kind.code, kind.status, kind.title, _meaning(kind))
    for outage in Outage.__subclasses__():
        yield Kind(outage.code, 503, outage.title, _meaning(outage))
    yield Kind("internal", 500, "Internal error", "The ledger failed; a command can be looked up by its key.")


def _meaning(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


KINDS: dict[str, Kind] = {kind.code: kind for kind in sorted(_kinds(), reverse=True)}
"""Every problem by its code."""

_ALWAYS = ("malformed_request", "invalid_request", "internal", "unavailable")
_WITH_BODY = ("invalid_json", "too_large", "unsupported_encoding", "request_timeout")
_COMMAND = (
    *("idempotency_key_required", "idempotency_mismatch", "account_not_found", "command_expired"),
    *("overloaded", "clock_skew"),
)
_SPENDING = ("account_frozen", "account_closed", "capacity_exceeded", "insufficient_credits")
_NEW = ("already_exists", "operation_not_found", "plan_not_found")
_OF_HOLD = ("reservation_not_found", "reservation_finalized", "reservation_expired")
_COMMANDS: dict[str, tuple[str, ...]] = {
    "reserve": (*_SPENDING, *_NEW, "too_many_holds"),
    "consume": (*_OF_HOLD, "exceeds_reservation"),
    "release": ("reservation_not_found", "reservation_finalized"),
    "extend": (*_OF_HOLD, *_SPENDING),
    "refund": ("consumption_not_found", "refund_exceeds_consumption"),
    "grant": ("account_closed", "already_exists", "operation_not_found", "too_many_grants"),
    "revoke": ("account_closed", "grant_not_found"),
    "adjust": ("account_closed", "insufficient_credits", "too_many_grants"),
    "change_plan": ("account_closed", "plan_not_found"),
    "renew": ("account_closed", "period_passed"),
    "reset_usage": ("account_closed",),
    "set_status": (),
}
_QUERIES: dict[str, tuple[str, ...]] = {
    "check": ("operation_not_found", "plan_not_found"),
    "explain": ("not_found", "too_large"),
    "outcome": ("command_not_found",),
    "quote": ("operation_not_found",),
    "reservations": ("invalid_cursor",),
    "consumptions": ("invalid_cursor",),
    "grants": ("invalid_cursor",),
    "transactions": ("invalid_cursor",),
    "audit": ("invalid_cursor",),
    "statement": ("invalid_cursor",),
    "accounts": ("invalid_cursor",),
}
_BUSY = ("overloaded",)


def codes(route: Route) -> list[str]:
    """Return the codes that a route can come to."""
    found = [*_ALWAYS]
    if route.kind != "operation":
        found += ["unauthenticated", "forbidden"]
    match route.kind:
        case "command":
            found += [*_WITH_BODY, *_COMMAND, *_of_command(route)]
        case "batch":
            found += [*_WITH_BODY, *_BUSY]
        case "query" | "query_body":
            found += [*_QUERIES.get(route.name, ()), *(_WITH_BODY if route.kind == "query_body" else ())]
            found += ["account_not_found"] if "{account}" in route.path else []
        case "events":
            found += ["account_not_found", *_BUSY]
        case "proof":
            found += ["not_found"]
        case "operation":
            found = ["malformed_request", "internal", *(["unavailable"] if route.name == "readiness" else [])]
        case _:
            pass  # a kind that came later has what every route has
    return found


def _of_command(route: Route) -> tuple[str, ...]:
    if route.name == "consume" and "{reservation_id}" not in route.path:
        return (*_SPENDING, *_NEW)
    return _COMMANDS.get(route.name, ())


def responses(route: Route, shared: dict[str, Any]) -> dict[str, Any]:
    """Return the problems of a route by status; the responses themselves are put among the shared ones."""
    by_status: dict[int, list[Kind]] = {}
    listed = codes(route)
    for name in dict.fromkeys(listed):
        kind = KINDS[name]
        by_status.setdefault(kind.status, []).append(kind)
    renamed = InsufficientCredits.code in listed
    if renamed:
        by_status.setdefault(429, [])
    found: dict[str, Any] = {}
    for status, kinds in sorted(by_status.items()):
        names = sorted(kind.code for kind in kinds)
        told = [f"- `{kind.code}`: {kind.meaning}" for kind in sorted(kinds)]
        code: dict[str, Any] = {"enum": names} if names else {"type": "string"}
        if renamed and status in {402, 429}:
            code = {"type": "string", "examples": names}
            told.append("- The catalog may give `insufficient_credits` the status 429 and a code of its own.")
        shared_name = ".".join([str(status), *names, *(["renamed"] if renamed and status in {402, 429} else [])])
        found[str(status)] = {"$ref": f"#/components/responses/{shared_name}"}
        shared[shared_name] = {
            "description": "\n".join(told),
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
            "content": {
                "application/problem+json": {
                    "schema": {
                        "allOf": [
                            {"$ref": "#/components/schemas/Problem"},
                            {"properties": {"status": {"const": status}, "code": code}},
                        ]
                    },
                    **({"example": _example(min(kinds))} if kinds else {}),
                }
            },
        }
    return found


_HEADERS: dict[int, Any] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}},
    503: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
}


def _example(kind: Kind) -> dict[str, object]:
    return {
        "type": f"urn:credit-ledger:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": kind.meaning,
    }
