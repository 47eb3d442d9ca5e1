"""The AsyncAPI 3 document of the ledger's NATS subjects, made from the models that check and write the messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast, get_args

import msgspec
from pydantic import TypeAdapter

from events.commands import COMMANDS
from events.facts import ConsumedKind, GrantedKind, PlanChangedKind, RefundedKind, ReservedKind
from events.recorded import ConsumedEvent, Event, GrantedEvent, PlanChangedEvent, RefundedEvent, ReservedEvent
from projections.alerts import Alert, AlertKind
from service.queries import QUERIES

ASYNCAPI = "3.0.0"
VERSION = "1"
_EVENTS: Mapping[str, tuple[type[Event], Any]] = {
    "granted": (GrantedEvent, GrantedKind),
    "reserved": (ReservedEvent, ReservedKind),
    "consumed": (ConsumedEvent, ConsumedKind),
    "refunded": (RefundedEvent, RefundedKind),
    "plan_changed": (PlanChangedEvent, PlanChangedKind),
}
_ANY_JSON: dict[str, object] = {"type": "object", "additionalProperties": True}
_CALLER = {"caller": {"description": "The calling service; the broker ties it to the credentials."}}


def event_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each event type as CloudEvents and answers carry it: the stored line and its hash."""
    return {name: _event_schema(name, form) for name, (form, _) in _EVENTS.items()}


def _event_schema(name: str, form: type[Event]) -> dict[str, Any]:
    schema = msgspec.json.schema(form)
    event = schema["$defs"].pop(form.__name__)
    add_hash(event)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:credit-ledger:schema:{name}:v1",
        **event,
        "$defs": schema["$defs"],
    }


def add_hash(event: dict[str, Any]) -> None:
    """Add the hash that answers and CloudEvents have beside the stored line."""
    event["properties"]["hash"] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    event["required"] = [*event["required"], "hash"]


@lru_cache(maxsize=1)
def document() -> bytes:
    """Return the document as JSON; its subjects have the prefix `credits`."""
    schemas: dict[str, Any] = {}
    document = {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Credit ledger",
            "version": VERSION,
            "description": "Commands and queries by request and reply, durable commands with their outcomes, every event, and alerts.",
        },
        "defaultContentType": "application/json",
        "channels": _channels(schemas),
        "operations": _operations(),
        "components": {"schemas": schemas},
    }
    text = json.dumps(document, indent=2, sort_keys=True)
    # Python's anchors, in the words of JSON Schema.
    return (text.replace("\\\\A", "^").replace("\\\\z", "$") + "\n").encode()


def _channels(schemas: dict[str, Any]) -> dict[str, Any]:
    commands = {name: _message(schemas, f"command.{name}", _command_schema(name)) for name in COMMANDS}
    queries = {
        name: _message(schemas, f"query.{name}", _lifted(schemas, TypeAdapter(form).json_schema(ref_template=_REF)))
        for name, form in QUERIES.items()
    }
    events = {
        name: _message(schemas, f"event.{name}", _cloud_event(name, schemas), "application/cloudevents+json")
        for name in _EVENTS
    }
    outcome = {"outcome": _message(schemas, "outcome", _ANY_JSON)}
    command = {**_CALLER, "command": {"enum": list(COMMANDS)}}
    event = {
        "partition": {"description": "Where the account's events stand in the log."},
        "type": {"enum": list(_EVENTS)},
        "kind": {"enum": sorted({kind for _, kinds in _EVENTS.values() for kind in kinds.__args__})},
        "account": {"description": "The account's id."},
    }
    return {
        "cmd": _channel("credits.cmd.{caller}.{command}", command, commands),
        "query": _channel("credits.query.{caller}.{query}", {**_CALLER, "query": {"enum": list(QUERIES)}}, queries),
        "submit": _channel("credits.submit.{caller}.{command}", command, commands),
        "result": _channel("credits.result.{caller}.{command}", command, outcome),
        "dead": _channel("credits.dead.{caller}", _CALLER, {"dead": _message(schemas, "dead", {})}),
        "events": _channel("credits.events.{partition}.{type}.{kind}.{account}", event, events),
        "alerts": _channel(
            "credits.alerts.{kind}.{account}",
            {"kind": {"enum": list(get_args(AlertKind))}, "account": event["account"]},
            {"alert": _message(schemas, "alert", _alert(schemas), "application/cloudevents+json")},
        ),
        "checkpoints": _channel("credits.checkpoints", {}, {"checkpoint": _checkpoint(schemas)}),
        "reply": {"address": None, "messages": outcome},
    }


_REF = "#/components/schemas/{model}"


def _channel(address: str, parameters: Mapping[str, object], messages: Mapping[str, object]) -> dict[str, Any]:
    return {"address": address, "parameters": parameters, "messages": messages}


def _message(
    schemas: dict[str, Any], name: str, schema: Mapping[str, object], content_type: str = "application/json"
) -> dict[str, Any]:
    schemas[name] = schema
    return {"name": name, "contentType": content_type, "payload": {"$ref": f"#/components/schemas/{name}"}}


def _checkpoint(schemas: dict[str, Any]) -> dict[str, Any]:
    about = "A signed note, as docs/reference/log-format.md says; the header Checkpoint-Number has its number."
    return _message(schemas, "checkpoint", {"type": "string", "description": about}, "text/plain")


def _command_schema(name: str) -> dict[str, Any]:
    """Return the schema of a command's body: its fields and the key, which may stand in the header instead."""
    forms = [TypeAdapter(form).json_schema() for form in COMMANDS[name]]
    for form in forms:
        form["properties"]["idempotency_key"] = {"type": "string", "minLength": 1, "maxLength": 200}
        _inline(form)
    return forms[0] if len(forms) == 1 else {"anyOf": forms}


def _inline(schema: dict[str, Any]) -> None:
    """Put what a schema refers to in its own definitions at its place, so that it stands alone."""
    definitions = schema.pop("$defs", {})

    def resolved(value: object) -> object:
        if isinstance(value, list):
            return [resolved(entry) for entry in cast("list[object]", value)]
        if not isinstance(value, dict):
            return value
        fields = cast("dict[str, object]", value)
        reference = fields.get("$ref")
        if isinstance(reference, str):
            return resolved(definitions[reference.rpartition("/")[2]])
        return {name: resolved(entry) for name, entry in fields.items()}

    for name, value in list(schema.items()):
        schema[name] = resolved(value)


def _lifted(schemas: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Put what a schema refers to among all schemas."""
    schemas.update(schema.pop("$defs", {}))
    return schema


def _cloud_event(name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    form, kinds = _EVENTS[name]
    (data,), definitions = msgspec.json.schema_components([form], ref_template="#/components/schemas/{name}")
    add_hash(definitions[form.__name__])
    schemas.update(definitions)
    properties: dict[str, object] = {
        "id": {"type": "string", "description": "<partition>-<position>"},
        "type": {"enum": [f"credits.{name}.{kind}.v1" for kind in sorted(kinds.__args__)]},
        "time": {"type": "string", "format": "date-time", "description": "recorded_at"},
        "sequence": {"type": "string", "description": "The position, in decimal digits."},
        "partitionkey": {"type": "string", "description": "The partition, in decimal digits."},
        "data": data,
    }
    return _envelope(properties)


def _alert(schemas: dict[str, Any]) -> dict[str, Any]:
    (data,), definitions = msgspec.json.schema_components([Alert], ref_template="#/components/schemas/{name}")
    schemas.update(definitions)
    properties: dict[str, object] = {
        "id": {
            "type": "string",
            "description": "The alert's, for ever; also the message id and a webhook's `webhook-id`.",
        },
        "type": {"enum": [f"credits.alert.{kind}.v1" for kind in get_args(AlertKind)]},
        "time": {"type": "string", "format": "date-time", "description": "raised_at"},
        "sequence": {"type": "string", "description": "Its place among all alerts, in decimal digits."},
        "data": data,
    }
    return _envelope(properties)


def _envelope(properties: dict[str, object]) -> dict[str, Any]:
    """Return the schema of a CloudEvent with these attributes beside those that all have."""
    return {
        "type": "object",
        "required": ["specversion", "source", "subject", *properties],
        "properties": {
            "specversion": {"const": "1.0"},
            "source": {"type": "string", "description": "urn:credit-ledger:<ledger id>"},
            "subject": {"type": "string", "description": "The account."},
            "datacontenttype": {"const": "application/json"},
            **properties,
        },
    }


def _operations() -> dict[str, Any]:
    def operation(action: str, channel: str, summary: str, *, reply: bool = False) -> dict[str, Any]:
        told: dict[str, Any] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": summary,
        }
        if reply:
            told["reply"] = {
                "address": {"location": "$message.header#/reply-to"},
                "channel": {"$ref": "#/channels/reply"},
            }
        return told

    return {
        "executeCommand": operation("receive", "cmd", "Execute a command and answer its outcome.", reply=True),
        "answerQuery": operation("receive", "query", "Answer a query.", reply=True),
        "takeCommand": operation(
            "receive", "submit", "Execute a durable command, once, in stream order of its account."
        ),
        "tellOutcome": operation("send", "result", "Tell what a durable command led to, a refusal too."),
        "keepUnreadable": operation("send", "dead", "Keep a durable command that cannot be executed, with the reason."),
        "publishEvent": operation("send", "events", "Publish an event of the log, in order in each partition."),
        "tellAlert": operation("send", "alerts", "Tell of a crossing, once."),
        "publishCheckpoint": operation("send", "checkpoints", "Publish a signed checkpoint, once, in order."),
    }
