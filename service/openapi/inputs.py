"""What is sent, as JSON Schema: made from the very classes that check commands and queries."""

from __future__ import annotations

from typing import Any, cast

from pydantic import TypeAdapter

from events.commands import (
    COMMANDS,
    TTL_UNSET,
    ChangePlan,
    Consume,
    ConsumeDirect,
    Reserve,
)
from service.batches import COMMANDS_MAX
from service.http.routes import Route
from service.queries import QUERIES, CheckQuery, QuoteQuery
from service.replies import TAGGED
from service.store.feed import FeedQuery

Schema = dict[str, Any]
REF = "#/components/schemas/{model}"
_PRICED = ("operation", "amount", "lines")
_EXACTLY_ONE: dict[type, tuple[str, ...]] = {
    Reserve: _PRICED,
    ConsumeDirect: _PRICED,
    QuoteQuery: ("operation", "lines"),
}
_AT_MOST_ONE: dict[type, tuple[str, ...]] = {Consume: ("amount", "quantity", "lines"), CheckQuery: _PRICED}
_AT_LEAST_ONE: dict[type, tuple[str, ...]] = {
    ChangePlan: ("plan", "allowance", "capacity"),
    CheckQuery: (*_PRICED, "capacity"),
}

_INSTANTS = frozenset({"at", "deadline", "effective_at", "expires_at", "from", "period_start", "to"})
KEY = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$"}
_TOLD = {
    "account": "The account's id.",
    "after": "A position of the partition; lines behind it are sent.",
    "age_seconds": "Holds without an end are listed when they are older.",
    "amount": "Credits of `unit`.",
    "at": "A past instant; the answer is what a read then answered.",
    "bucket": "How the time is cut, in UTC.",
    "consumption_id": "The consumption's id.",
    "cursor": "`next_cursor` of the page before.",
    "days": "How far to look ahead.",
    "dry_run": "Say what would happen, and write nothing; needs no key.",
    "event": "An event's id.",
    "follow": "Stay open and send what is written later.",
    "from": "An instant, included.",
    "grant_id": "The grant's id.",
    "group_by": "`operation`, `actor`, or both with a comma.",
    "idempotency_key": "The key of a command.",
    "include": "`quota`, `audit`, or both with a comma.",
    "kind": "The kind of events.",
    "limit": "How many at most.",
    "min_token": "Wait until the answer includes what this token stands for, 2 s at most; then 503.",
    "operation": "An operation of the catalog.",
    "order": "`desc`: the newest first.",
    "pace_days": "Over how many days the pace is taken.",
    "number": "The checkpoint's number.",
    "partition": "One partition of the log.",
    "plan": "Accounts on this plan.",
    "prefix": "Accounts whose ids begin so.",
    "proof": "Sign the page, and prove each movement by a checkpoint; 200 movements at most.",
    "quantity": "How often the operation is done; 1 when left out.",
    "reference": "Events with this reference.",
    "reservation": "Events about this reservation.",
    "reservation_id": "The reservation's id.",
    "state": "Only what is in this state.",
    "submitted_seconds_ago": "How long ago a durable command was submitted, at most: then its refusal is told as well.",
    "to": "An instant, excluded.",
    "type": "The type of events.",
    "unit": "A unit of the catalog; `credits` when left out.",
}


_EARLIER = "The number of a checkpoint; with `partition`, of lines of its tree."
_LATER = "The same, of a later one; the last when left out."


def form_of(route: Route) -> type | None:
    """Return the class that checks what a route is sent; None when it is sent nothing of its own."""
    if route.kind == "command":
        forms = COMMANDS[route.name]
        return forms[-1] if "{reservation_id}" not in route.path else forms[0]
    return QUERIES.get(route.name) if route.kind in {"query", "query_body"} else None


def body(route: Route, schemas: dict[str, Any]) -> str | None:
    """Put the schema of a route's body among the others; returns its name, or None when the route takes no body."""
    if route.kind == "batch":
        schemas["BatchBody"] = _batch(schemas)
        return "BatchBody"
    form = form_of(route)
    return None if form is None or route.kind == "query" else _put(form, f"{form.__name__}Body", route, schemas)


def parameters(route: Route) -> list[Schema]:
    """Return what stands in the path, the query string and the headers of a route."""
    found = [_parameter("path", name, schema) for name, schema in _in_path(route).items()]
    if route.kind in {"command", "batch"}:
        found.append(_parameter("query", "dry_run", {"type": "boolean", "default": False}))
        found.append(_header("On-Behalf-Of", "For whom the caller acts; stands in the events.", {**KEY}))
    if route.kind == "command":
        key = "A key of the mutation's own, so that sending it twice counts once. A dry run needs none."
        found.insert(len(found) - 1, _header("Idempotency-Key", key, {**KEY}, required=True))
    if route.kind in {"query", "events"}:
        form = FeedQuery if route.kind == "events" else QUERIES[route.name]
        found += _in_query(form, set(_in_path(route)))
    if route.name == "inclusion":
        event = {"type": "string", "pattern": "^[0-9]{1,4}-[0-9]{1,18}$"}
        found.append({**_parameter("query", "event", event), "required": True})
    if route.name == "consistency":
        number = {"type": "string", "pattern": "^[0-9]{1,18}$"}
        found.append({**_parameter("query", "from", number), "required": True, "description": _EARLIER})
        found.append({**_parameter("query", "to", number), "description": _LATER})
        found.append(_parameter("query", "partition", number))
    if route.kind == "query" and route.name in TAGGED:
        found.append(_header("If-None-Match", "An `ETag` that was answered before: then 304.", {"type": "string"}))
    return found


def _parameter(place: str, name: str, schema: Schema) -> Schema:
    told: Schema = {"name": name, "in": place, "description": _TOLD.get(name, ""), "schema": schema}
    return {**told, "required": True} if place == "path" else told


def _header(name: str, description: str, schema: Schema, *, required: bool = False) -> Schema:
    told: Schema = {"name": name, "in": "header", "description": description, "schema": schema}
    return {**told, "required": True} if required else told


def _in_path(route: Route) -> dict[str, Schema]:
    names = [segment[1:-1] for segment in route.path.split("/") if segment.startswith("{")]
    form: type = COMMANDS[route.name][0] if route.kind == "command" else QUERIES.get(route.name, FeedQuery)
    properties = cast("dict[str, Schema]", _schema(form)["properties"])
    return {name: _without_null(name, properties.get(name, {"type": "string"})) for name in names}


def _in_query(form: type, elsewhere: set[str]) -> list[Schema]:
    """Return the fields of a query that a query string can carry: a list or an object stands in a body only."""
    schema = _schema(form)
    found: list[Schema] = []
    for name, field in schema["properties"].items():
        bare = _without_null(name, field)
        if name not in elsewhere and bare.get("type") not in {"array", "object"}:
            told = _parameter("query", name, bare)
            found.append({**told, "required": True} if name in schema.get("required", ()) else told)
    return found


def _schema(form: type) -> Schema:
    return TypeAdapter(form).json_schema(ref_template=REF)


def _put(form: type, name: str, route: Route, schemas: dict[str, Any]) -> str:
    """Put a form among the schemas without the fields that stand in the path."""
    schema = _schema(form)
    for lifted, definition in schema.pop("$defs", {}).items():
        schemas[lifted] = _plain(definition)
    for field in _in_path(route):
        schema["properties"].pop(field, None)
    required = [field for field in schema.get("required", ()) if field in schema["properties"]]
    schema.pop("required", None)
    schema["title"] = name
    schemas[name] = {**_plain(schema), **({"required": required} if required else {}), **_together(form)}
    return name


def _batch(schemas: dict[str, Any]) -> Schema:
    """Return the schema of a batch: each command has its name, its key and its fields."""
    forms: list[Schema] = []
    for command, classes in COMMANDS.items():
        for form in classes:
            name = f"{form.__name__}Command"
            schema = _schema(form)
            for lifted, definition in schema.pop("$defs", {}).items():
                schemas[lifted] = _plain(definition)
            schema["properties"] = {"command": {"const": command}, "idempotency_key": KEY, **schema["properties"]}
            schema["required"] = ["command", *schema.get("required", ())]
            schema["title"] = name
            schemas[name] = {**_plain(schema), **_together(form)}
            forms.append({"$ref": REF.format(model=name)})
    return {
        "title": "BatchBody",
        "type": "object",
        "additionalProperties": False,
        "required": ["commands"],
        "properties": {
            "mode": {"enum": ["independent", "atomic"], "default": "independent"},
            "commands": {"type": "array", "minItems": 1, "maxItems": COMMANDS_MAX, "items": {"anyOf": forms}},
        },
    }


def _plain(fields: Schema) -> Schema:
    """Return a schema without what says nothing: titles of fields, and defaults that stand for leaving a field out."""
    found: Schema = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            found[name] = _plain(cast("Schema", value))
        elif isinstance(value, list):
            entries = cast("list[Any]", value)
            found[name] = [_plain(cast("Schema", entry)) if isinstance(entry, dict) else entry for entry in entries]
        else:
            found[name] = value
    if "default" in found and found["default"] in (None, TTL_UNSET):
        del found["default"]
    if "properties" in fields:
        for name, field in found["properties"].items():
            field.pop("title", None)
            if name in _INSTANTS:
                _say_instant(field)
    return found


def _without_null(name: str, schema: Schema) -> Schema:
    """Return the schema of a query string's field, in which null cannot be said."""
    found = _plain(schema)
    found.pop("title", None)
    if name in _INSTANTS:
        _say_instant(found)
    options = [option for option in found.pop("anyOf", ()) if option.get("type") != "null"]
    return {**options[0], **found} if options else found


def _say_instant(schema: Schema) -> None:
    for option in (schema, *schema.get("anyOf", ())):
        if option.get("type") == "string":
            option["format"] = "date-time"


def _together(form: type) -> Schema:
    """Return what a class says about its fields together; null is the same as leaving a field out."""
    if form in _EXACTLY_ONE:
        return {"oneOf": [_given(name) for name in _EXACTLY_ONE[form]]}
    found: Schema = {}
    if form in _AT_LEAST_ONE:
        found["anyOf"] = [_given(name) for name in _AT_LEAST_ONE[form]]
    if form in _AT_MOST_ONE:
        names = _AT_MOST_ONE[form]
        pairs = [(one, other) for index, one in enumerate(names) for other in names[index + 1 :]]
        found["not"] = {"anyOf": [{"allOf": [_given(one), _given(other)]} for one, other in pairs]}
    return found


def _given(name: str) -> Schema:
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
