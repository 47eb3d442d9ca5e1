"""The OpenAPI 3.1 document, put together from the table of routes."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import msgspec

from service.access import SCOPES
from service.asyncapi import add_hash
from service.http.forms import LISTS
from service.http.routes import ROUTES, Route
from service.openapi import answers, examples, inputs, listed, problems, proven, reported
from service.replies import TAGGED

OPENAPI = "3.1.0"
VERSION = "1"
Schema = dict[str, Any]

ABOUT = """Credits that are granted, reserved, consumed and refunded, as an append-only log of events.

Every mutation takes an `Idempotency-Key`; sending it again answers the first outcome. Amounts are integers in the unit's
smallest step, instants are RFC 3339. A mutation answers a `token`; a read that is given it as `min_token` includes the
mutation. Bodies refuse unknown fields and duplicate keys. Every error is a problem (RFC 9457) with a stable `code`. A path
that is there for other methods answers 405 `method_not_allowed` with `Allow`; GET routes answer HEAD as well."""

TAGS: dict[str, str] = {
    "work": "Reserve, consume, release, extend, refund.",
    "admin": "Grants, plans, payments, status.",
    "accounts": "Balances, quotas, checks, lists.",
    "reports": "Usage, finance, and what is to be expected.",
    "catalog": "Plans, operations and prices.",
    "log": "The log, checkpoints and proofs.",
    "operations": "Health, metrics and these documents; open to whoever reaches the port.",
}
_WORK = {"reserve", "consume", "release", "extend", "refund", "batch"}
_REPORTS = {"usage", "usage_of_all", "finance_summary", "forecast", "reserve_hints", "hold_leaks", "statement"}

ANSWERS: dict[str, type[answers.Answer]] = {
    "accounts": listed.AccountsAnswer,
    "account": answers.AccountAnswer,
    "balance": answers.BalanceAnswer,
    "quota": answers.QuotaAnswer,
    "check": answers.CheckAnswer,
    "reservations": listed.ReservationsAnswer,
    "consumptions": listed.ConsumptionsAnswer,
    "grants": listed.GrantsAnswer,
    "transactions": listed.TransactionsAnswer,
    "explain": listed.ExplainAnswer,
    "usage": reported.UsageAnswer,
    "audit": listed.AuditAnswer,
    "statement": listed.StatementAnswer,
    "outcome": answers.CommandAnswer,
    "usage_of_all": reported.UsageOfAllAnswer,
    "finance_summary": reported.FinanceAnswer,
    "forecast": reported.ForecastAnswer,
    "reserve_hints": reported.ReserveHintsAnswer,
    "hold_leaks": reported.HoldLeaksAnswer,
    "catalog": answers.CatalogAnswer,
    "quote": answers.QuoteAnswer,
    "latest_checkpoint": proven.CheckpointAnswer,
    "checkpoint_key": proven.KeysAnswer,
    "checkpoint": proven.CheckpointAnswer,
    "inclusion": proven.InclusionAnswer,
    "consistency": proven.ConsistencyAnswer,
    "health": proven.AliveAnswer,
    "readiness": proven.ReadyAnswer,
    "batch": answers.BatchAnswer,
}
"""What the routes answer, by name; commands answer a CommandAnswer."""
TEXTS: dict[str, tuple[str, str]] = {
    "events": ("application/x-ndjson", "A line for each event, as it is stored."),
    "metrics": ("text/plain", "Metrics in Prometheus' format."),
    "docs": ("text/html", "This document as a page."),
}
"""What is answered that is not JSON."""
_FREE = {"reserve", "consume_direct"}


@lru_cache(maxsize=1)
def document() -> bytes:
    """Return the document as JSON."""
    schemas = _answer_schemas()
    shared: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, shared)
    whole = {
        "openapi": OPENAPI,
        "info": {
            "title": "Credit ledger",
            "version": VERSION,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": told} for name, told in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": shared,
            "examples": {name: {"value": value} for name, value in _examples(schemas).items()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": f"A token of the TOKENS file. Scopes: {', '.join(sorted(SCOPES))}. An account outside of"
                    " its prefixes is 404. With AUTH=off none is needed.",
                }
            },
        },
    }
    text = json.dumps(whole, indent=1, sort_keys=True)
    # Python's anchors, in the words of JSON Schema.
    return (text.replace("\\\\A", "^").replace("\\\\z", "$") + "\n").encode()


def _answer_schemas() -> dict[str, Any]:
    more = [answers.DryAnswer, answers.FreeAnswer, answers.InProgress, answers.Problem]
    forms = [*ANSWERS.values(), *more, *answers.EVENTS.values()]
    _, schemas = msgspec.json.schema_components(forms, ref_template=answers.REF)
    for form in answers.EVENTS.values():
        add_hash(schemas[form.__name__])
    for name in ("BatchResult", "Problem"):
        schemas[name]["additionalProperties"] = True
    return schemas


def operation_id(route: Route) -> str:
    """Return the name of an operation, which no other has."""
    if route.name == "consume":
        return "consume" if "{reservation_id}" in route.path else "consume_direct"
    return f"{route.name}_body" if (route.name, route.kind) == ("check", "query_body") else route.name


def _operation(route: Route, schemas: dict[str, Any], shared: dict[str, Any]) -> Schema:
    body = inputs.body(route, schemas)
    told: Schema = {
        "operationId": operation_id(route),
        "summary": _summary(route),
        "tags": [_tag(route)],
        "parameters": inputs.parameters(route),
        "responses": {**_successes(route), **problems.responses(route, shared)},
        "security": [] if route.kind == "operation" else [{"token": [route.scope] if route.scope else []}],
    }
    if route.kind == "batch":
        told["description"] = "Each command needs its own scope."
    elif route.scope is not None:
        told["description"] = f"Needs the scope `{route.scope}`."
    if body is not None:
        example = examples.body(route)
        content: Schema = {"schema": {"$ref": answers.REF.format(name=body)}}
        told["requestBody"] = {
            "required": False,
            "description": "An empty body is `{}`.",
            "content": {"application/json": {**content, **({} if example is None else {"example": example})}},
        }
    return told


def _summary(route: Route) -> str:
    if route.name in _SUMMARIES:
        return _SUMMARIES[route.name]
    form = inputs.form_of(route)
    return " ".join((form.__doc__ or "").split("\n\n")[0].split()) if form is not None else route.name


_SUMMARIES = {
    "batch": "Execute up to 1000 commands.",
    "events": "The log, line by line as it is stored.",
    "latest_checkpoint": "The last signed checkpoint.",
    "checkpoint_key": "The public keys that sign checkpoints.",
    "checkpoint": "A signed checkpoint.",
    "inclusion": "The proof that an event is in the last checkpoint.",
    "consistency": "The proof that a checkpoint continues the history of an earlier one.",
    "health": "Whether the process is alive.",
    "readiness": "Whether the process is ready, and alarms.",
    "metrics": "What the process measures.",
    "asyncapi": "The AsyncAPI document of the NATS subjects.",
    "openapi": "This document.",
    "docs": "This document as a page.",
}


def _tag(route: Route) -> str:
    match route.kind:
        case "command" | "batch":
            return "work" if route.name in _WORK else "admin"
        case "events" | "proof":
            return "log"
        case "operation":
            return "operations"
        case _:
            if route.name in {"catalog", "quote"}:
                return "catalog"
            return "reports" if route.name in _REPORTS else "accounts"


def _successes(route: Route) -> Schema:
    if route.name in TEXTS:
        kind, told = TEXTS[route.name]
        return {"200": {"description": told, "content": {kind: {"schema": {"type": "string"}}}}}
    if route.kind == "command":
        names = ["CommandAnswer", "DryAnswer", *(["FreeAnswer"] if operation_id(route) in _FREE else [])]
        answer, *others = [{"$ref": answers.REF.format(name=name)} for name in names]
        return {
            "201": _json("What the command wrote.", answer),
            "200": _json("Sent before, a dry run, or a free operation.", {"anyOf": [answer, *others]}),
        }
    form = ANSWERS.get(route.name)
    schema: Schema = {"type": "object"} if form is None else {"$ref": answers.REF.format(name=form.__name__)}
    found: Schema = {"200": _json("The answer.", schema)}
    if route.kind == "query" and route.name in TAGGED:
        tag = {"ETag": {"description": "Of all but the instant of the answer.", "schema": {"type": "string"}}}
        found["200"]["headers"] = tag
        found["304"] = {"description": "What the caller has is still true.", "headers": tag}
    if route.kind == "query" and route.name in LISTS:
        found["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
        found["200"]["headers"] = {
            "Next-Cursor": {"description": "Of CSV: `next_cursor`.", "schema": {"type": "string"}},
            "As-Of": {"description": "Of CSV: `as_of`.", "schema": {"type": "string"}},
        }
    if route.name == "outcome":
        found["202"] = _json("The command waits.", {"$ref": answers.REF.format(name="InProgress")})
    return found


def _json(told: str, schema: Schema) -> Schema:
    content: Schema = {"schema": schema}
    first = schema.get("anyOf", [schema])[0]
    if "$ref" in first:
        name = first["$ref"].rpartition("/")[2]
        content["examples"] = {"example": {"$ref": f"#/components/examples/{name}"}}
    return {"description": told, "content": {"application/json": content}}


def _examples(schemas: dict[str, Any]) -> dict[str, Any]:
    names = {form.__name__ for form in (*ANSWERS.values(), answers.InProgress)}
    samples = {name: examples.sample(schemas[name], schemas) for name in sorted(names)}
    return {**samples, "CommandAnswer": examples.reserved()}
