"""Examples: a body for each route that takes one, and of each answer a sample that its schema makes.

A sample has the values that a field of its name would have; tests hold both against the schemas.
"""

from __future__ import annotations

from typing import Any, cast

import orjson

from events.account import State
from events.catalog import parse_catalog
from events.commands import ChangePlan, Command, Reserve
from events.decide import decide
from events.evolve import evolve
from events.instants import Instant
from events.recorded import GENESIS, Actor, CommandRef, Line, record
from projections.outcome import answer
from service.http.routes import Route
from service.settings import CATALOGS

Schema = dict[str, Any]

BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/accounts/{account}/reservations"): {
        "operation": "generate_ai_image",
        "quantity": 3,
        "reservation_id": "job-17",
        "ttl_seconds": 600,
        "reference": "job-17",
    },
    ("POST", "/v1/accounts/{account}/reservations/{reservation_id}/consume"): {"amount": 6},
    ("POST", "/v1/accounts/{account}/reservations/{reservation_id}/release"): {"reason": "cancelled"},
    ("POST", "/v1/accounts/{account}/reservations/{reservation_id}/extend"): {"ttl_seconds": 600},
    ("POST", "/v1/accounts/{account}/consumptions"): {"operation": "create_reel", "reference": "post-9"},
    ("POST", "/v1/accounts/{account}/consumptions/{consumption_id}/refund"): {"reason": "the provider failed"},
    ("POST", "/v1/accounts/{account}/grants"): {
        "amount": 500,
        "kind": "purchase",
        "cost_basis": {"amount": 900, "currency": "usd"},
        "reference": "invoice-3",
    },
    ("POST", "/v1/accounts/{account}/grants/{grant_id}/revoke"): {"reason": "charged back"},
    ("POST", "/v1/accounts/{account}/adjustments"): {"amount": -20, "reason": "counted twice", "insufficient": "clamp"},
    ("PUT", "/v1/accounts/{account}/plan"): {"plan": "starter", "reason": "upgrade"},
    ("POST", "/v1/accounts/{account}/renewals"): {"reference": "invoice-4"},
    ("POST", "/v1/accounts/{account}/usage-resets"): {"reason": "a bad week"},
    ("PUT", "/v1/accounts/{account}/status"): {"status": "frozen", "reason": "asked for"},
    ("POST", "/v1/commands"): {
        "mode": "independent",
        "commands": [
            {"command": "reserve", "account": "team-42", "idempotency_key": "k-1", "operation": "create_reel"},
            {"command": "grant", "account": "team-42", "idempotency_key": "k-2", "amount": 50},
        ],
    },
    ("POST", "/v1/accounts/{account}/check"): {"lines": [{"operation": "generate_ai_image", "quantity": 3}]},
    ("POST", "/v1/quote"): {"operation": "create_reel", "quantity": 2},
}

_SAMPLES: dict[str, Any] = {
    "account": "team-42",
    "actor": "checkout",
    "allowance": {"credits": 200},
    "amount": 9,
    "available": 191,
    "bonus": 0,
    "capacity": {"concurrent_jobs": {"used": 1, "limit": 2}},
    "catalog": "2026-11-01",
    "currency": "usd",
    "default_plan": "free",
    "detail": "what happened, in words",
    "idempotency_key": "k-1",
    "kind": "hold",
    "metadata": {},
    "name": "reserve",
    "note": "urn:credit-ledger:1f0c...\n",
    "occupies": {"concurrent_jobs": 1},
    "operation": "generate_ai_image",
    "origin": "urn:credit-ledger:1f0c...",
    "plan": "starter",
    "quantity": 3,
    "reason": "cancelled",
    "reference": "job-17",
    "reservation_id": "job-17",
    "status": "active",
    "unit": "credits",
    "version": "2026-11-01",
    "via": "http",
}
_FORMATS = {"date-time": "2026-11-01T09:30:00.000000Z"}
_PATTERNS = {
    "^[0-9]+-[0-9]+$": "12-345",
    "^[0-9a-f]{64}$": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "^[0-9]+([.][0-9]+)?$": "12.50",
    "^urn:credit-ledger:problem:": "urn:credit-ledger:problem:invalid_request",
}


def body(route: Route) -> dict[str, Any] | None:
    """Return an example of a route's body."""
    return BODIES.get((route.method, route.path))


def reserved() -> dict[str, Any]:
    """Return the answer to a reserve, decided and recorded like any other."""
    catalog = parse_catalog((CATALOGS / "content_platform.toml").read_text(encoding="utf-8"))
    now, account = Instant("2026-11-01T09:30:00.000000Z"), "team-42"
    state, position, hash_ = State.unknown(account), 341, GENESIS
    commands: tuple[Command, ...] = (
        ChangePlan(account=account, plan="starter"),
        Reserve(account=account, operation="generate_ai_image", quantity=3, reservation_id="job-17"),
    )
    lines: list[Line] = []
    for number, command in enumerate(commands):
        lines = []
        for fact in decide(state, command, now, catalog, f"new-{number}").facts:
            position += 1
            lines.append(
                record(
                    fact,
                    account=account,
                    partition=12,
                    position=position,
                    prev_hash=hash_,
                    recorded_at=now,
                    actor=Actor(id="checkout", via="http"),
                    command=CommandRef(name=command.name, idempotency_key=f"k-{number}", fingerprint="9f86d081" * 8),
                )
            )
            hash_ = lines[-1].hash
            evolve(state, lines[-1].event)
        state.settle()
    return orjson.loads(orjson.dumps(answer(account, lines, state)))


def sample(schema: Schema, schemas: dict[str, Any], name: str = "") -> object:
    """Return a value that passes a schema of an answer, with what a field of this name would have where that fits."""
    if "$ref" in schema:
        return sample(schemas[schema["$ref"].rpartition("/")[2]], schemas, name)
    options: list[Schema] | None = schema.get("anyOf") or schema.get("oneOf")
    if options is not None:
        return sample(next((each for each in options if each.get("type") != "null"), options[0]), schemas, name)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return _SAMPLES[name] if _SAMPLES.get(name) in schema["enum"] else schema["enum"][0]
    known = _SAMPLES.get(name)
    match schema.get("type"):
        case "object":
            return _object(schema, schemas, known)
        case "array":
            return (
                []
                if schema.get("maxItems") == 0
                else [sample(schema.get("items", {}), schemas, name.removesuffix("s"))]
            )
        case "string":
            fixed = _FORMATS.get(schema.get("format", "")) or _PATTERNS.get(schema.get("pattern", ""))
            if name.endswith("_at") or name == "anchor":
                return _FORMATS["date-time"]
            return fixed or (known if isinstance(known, str) else "job-17" if name.endswith("id") else "text")
        case "integer":
            return known if isinstance(known, int) else 0
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return known if known is not None else "text"


def _object(schema: Schema, schemas: dict[str, Any], known: object) -> dict[str, Any]:
    properties = cast("Schema | None", schema.get("properties"))
    if properties is not None:
        required = schema.get("required", ())
        return {name: sample(entry, schemas, name) for name, entry in properties.items() if name in required}
    entries = schema.get("additionalProperties", {})
    if isinstance(known, dict) and isinstance(entries, dict):
        typed = cast("dict[str, Any]", known)
        wants = cast("Schema", entries).get("type")
        if wants is None or all(isinstance(value, int) == (wants == "integer") for value in typed.values()):
            return typed
    return {}
