"""The table of HTTP: every method and path, what it stands for, and the scope it needs (CONTRACT.md, "HTTP, JSON").

The router, the metrics' labels and the documents are made from this table, and nothing else names a path. What stands in
braces is a field of the command or query. The scopes of commands and queries are those of `service.access`, the same
for NATS; a route without a scope is open to everybody who reaches the port.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service.access import COMMAND_SCOPES, QUERY_SCOPES, Scope

Method = Literal["GET", "POST", "PUT"]
Kind = Literal["command", "batch", "query", "query_body", "events", "proof", "operation"]


@dataclass(frozen=True, slots=True)
class Route:
    """One row: `name` is the command, query or operation that `kind` speaks of.

    A `query` takes its fields from the query string, a `query_body` from a JSON body.
    """

    method: Method
    path: str
    kind: Kind
    name: str
    scope: Scope | None


def _command(method: Method, path: str, name: str) -> Route:
    return Route(method, path, "command", name, COMMAND_SCOPES[name])


def _query(path: str, name: str) -> Route:
    return Route("GET", path, "query", name, QUERY_SCOPES[name])


def _query_body(path: str, name: str) -> Route:
    return Route("POST", path, "query_body", name, QUERY_SCOPES[name])


def _operation(path: str, name: str) -> Route:
    return Route("GET", path, "operation", name, None)


_ACCOUNT = "/v1/accounts/{account}"
_RESERVATION = _ACCOUNT + "/reservations/{reservation_id}"

ROUTES: tuple[Route, ...] = (
    _command("POST", _ACCOUNT + "/reservations", "reserve"),
    _command("POST", _RESERVATION + "/consume", "consume"),
    _command("POST", _RESERVATION + "/release", "release"),
    _command("POST", _RESERVATION + "/extend", "extend"),
    _command("POST", _ACCOUNT + "/consumptions", "consume"),
    _command("POST", _ACCOUNT + "/consumptions/{consumption_id}/refund", "refund"),
    _command("POST", _ACCOUNT + "/grants", "grant"),
    _command("POST", _ACCOUNT + "/grants/{grant_id}/revoke", "revoke"),
    _command("POST", _ACCOUNT + "/adjustments", "adjust"),
    _command("PUT", _ACCOUNT + "/plan", "change_plan"),
    _command("POST", _ACCOUNT + "/renewals", "renew"),
    _command("POST", _ACCOUNT + "/usage-resets", "reset_usage"),
    _command("PUT", _ACCOUNT + "/status", "set_status"),
    Route("POST", "/v1/commands", "batch", "batch", None),
    _query("/v1/accounts", "accounts"),
    _query(_ACCOUNT, "account"),
    _query(_ACCOUNT + "/balance", "balance"),
    _query(_ACCOUNT + "/quota", "quota"),
    _query(_ACCOUNT + "/check", "check"),
    _query_body(_ACCOUNT + "/check", "check"),
    _query(_ACCOUNT + "/reservations", "reservations"),
    _query(_ACCOUNT + "/consumptions", "consumptions"),
    _query(_ACCOUNT + "/grants", "grants"),
    _query(_ACCOUNT + "/transactions", "transactions"),
    _query(_ACCOUNT + "/explain", "explain"),
    _query(_ACCOUNT + "/usage", "usage"),
    _query(_ACCOUNT + "/audit", "audit"),
    _query(_ACCOUNT + "/statement", "statement"),
    _query(_ACCOUNT + "/commands/{idempotency_key}", "outcome"),
    _query("/v1/usage", "usage_of_all"),
    _query("/v1/finance/summary", "finance_summary"),
    _query(_ACCOUNT + "/forecast", "forecast"),
    _query("/v1/reports/reserve-hints", "reserve_hints"),
    _query("/v1/reports/hold-leaks", "hold_leaks"),
    _query("/v1/catalog", "catalog"),
    _query_body("/v1/quote", "quote"),
    Route("GET", "/v1/events", "events", "events", "audit"),
    Route("GET", "/v1/checkpoints/latest", "proof", "latest_checkpoint", "audit"),
    Route("GET", "/v1/checkpoints/key", "proof", "checkpoint_key", "audit"),
    Route("GET", "/v1/checkpoints/{number}", "proof", "checkpoint", "audit"),
    Route("GET", "/v1/proofs/inclusion", "proof", "inclusion", "audit"),
    Route("GET", "/v1/proofs/consistency", "proof", "consistency", "audit"),
    _operation("/healthz", "health"),
    _operation("/readyz", "readiness"),
    _operation("/metrics", "metrics"),
    _operation("/asyncapi.json", "asyncapi"),
    _operation("/openapi.json", "openapi"),
    _operation("/docs", "docs"),
)
