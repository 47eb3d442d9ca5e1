"""The AsyncAPI document: whole, served, and true of what is published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import aiohttp

from service.asyncapi import document, event_schemas
from service.store.log import Log
from tests.features.conftest import Caller, Service


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for entry in value.values():
            yield from references(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from references(entry)


def found(root: Any, reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        root = root[part]
    return root


def test_every_reference_leads_somewhere() -> None:
    whole = json.loads(document())
    assert whole["asyncapi"] == "3.0.0"
    for root in (whole, *event_schemas().values()):
        for reference in set(references(root)):
            assert isinstance(found(root, reference), dict)


def missing(schema: Any, value: Any, root: Any, place: str = "") -> list[str]:
    """What an object lacks or has too much, by the words of a schema that tell it."""
    if "$ref" in schema:
        return missing(found(root, schema["$ref"]), value, root, place)
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    wrong = [f"{place}.{name} is missing" for name in schema.get("required", []) if name not in value]
    for name, entry in value.items():
        if name in schema["properties"]:
            wrong += missing(schema["properties"][name], entry, root, f"{place}.{name}")
        elif schema.get("additionalProperties") is False:
            wrong.append(f"{place}.{name} is not told")
    return wrong


async def test_it_is_served_and_describes_the_events_of_a_job(
    platform: Caller, account: str, content_platform: Service
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{content_platform.url}/asyncapi.json") as answer,
    ):
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.read() == document()
    await platform.command("change_plan", account, plan="starter")
    held = await platform.command("reserve", account, operation="create_reel", reservation_id=f"{account}-1")
    await platform.command("consume", account, reservation_id=f"{account}-1", amount=2)
    assert held.status == 201
    log = await Log.connect(content_platform.database_url, connections=1)
    partition = int(held["token"].partition("-")[0])
    lines = [line for line in await log.lines_from(partition, 1, 1000) if account.encode() in line.line]
    await log.close()
    assert len(lines) >= 4
    schemas = event_schemas()
    for line in lines:
        event = {**json.loads(line.line), "hash": line.hash}
        schema = schemas[event["type"]]
        assert missing(schema, event, schema) == []
