"""The double answers as the service does: the same requests to both, and the same JSON but for instants, ids and hashes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from credit_ledger_client import Ledger, Unsupported
from credit_ledger_client.testing import LedgerDouble
from credit_ledger_client.transport import Request
from tests.client.conftest import STUDIO

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_MADE_UP = re.compile(r"(double-\d+|[0-9a-f]{32})(:\d+)?")
_PLACE = re.compile(r"\d+-\d+")
_MOVES = frozenset({"hash", "prev_hash", "position", "actor"})

STORY: list[tuple[str, str, dict[str, Any]]] = [
    ("query", "check", {"operation": "generate_image", "quantity": 40}),
    ("query", "balance", {}),
    ("command", "consume", {"operation": "generate_image", "quantity": 1000}),
    ("command", "consume", {"operation": "upscale_image", "quantity": 2, "consumption_id": "c", "reference": "run"}),
    ("command", "grant", {"amount": 10, "grant_id": "g", "operations": ["edit_image"], "priority": 5}),
    (
        "command",
        "reserve",
        {"operation": "generate_image", "quantity": 3, "reservation_id": "r", "metadata": {"a": "b"}},
    ),
    ("command", "reserve", {"operation": "edit_image"}),
    ("query", "check", {"operation": "edit_image"}),
    ("command", "extend", {"reservation_id": "r", "amount": 2, "ttl_seconds": 600}),
    ("command", "consume", {"reservation_id": "r", "amount": 3, "final": False}),
    ("command", "consume", {"reservation_id": "r", "quantity": 1}),
    ("command", "release", {"reservation_id": "r"}),
    ("command", "refund", {"consumption_id": "r", "amount": 1, "reason": "half bad"}),
    ("command", "refund", {"consumption_id": "r", "amount": 100}),
    ("dry", "reserve", {"amount": 7}),
    (
        "command",
        "reserve",
        {"lines": [{"operation": "edit_image"}, {"operation": "store_sync", "quantity": 7}], "reservation_id": "l"},
    ),
    ("command", "consume", {"reservation_id": "l", "lines": [{"line": 0, "amount": 1}, {"line": 1, "amount": 2}]}),
    ("command", "change_plan", {"plan": "pro", "capacity": {"storage_mb": 9}}),
    ("command", "change_plan", {"plan": "free"}),
    ("command", "adjust", {"amount": -5, "reason": "counted again"}),
    ("command", "revoke", {"grant_id": "g", "reason": "a mistake"}),
    ("command", "renew", {"reference": "invoice-1"}),
    ("command", "renew", {"reference": "invoice-1"}),
    ("command", "reset_usage", {"reason": "goodwill"}),
    ("command", "set_status", {"status": "frozen", "reason": "abuse"}),
    ("command", "consume", {"operation": "upscale_image"}),
    ("command", "consume", {"operation": "pin_asset"}),
    ("command", "grant", {"amount": 0}),
    ("command", "reserve", {"operation": "nothing"}),
    ("command", "reserve", {"operation": "edit_image", "params": {"size": "big"}}),
    ("query", "balance", {}),
    ("query", "quota", {}),
    ("query", "account", {"include": "quota"}),
    ("query", "reservations", {}),
    ("query", "consumptions", {"order": "asc"}),
    ("query", "grants", {}),
    ("query", "transactions", {"limit": 5}),
    ("query", "outcome", {"idempotency_key": "key-3"}),
    ("query", "outcome", {"idempotency_key": "nobody's"}),
]


async def told(ledger: Ledger, account: str) -> list[tuple[int, Any]]:
    """What a ledger answers to the story."""
    answers: list[tuple[int, Any]] = []
    for number, (kind, name, fields) in enumerate(STORY):
        given = {"account": account, **fields}
        request = (
            Request("query", name, given)
            if kind == "query"
            else Request("command", name, given, key=f"key-{number}", dry_run=kind == "dry")
        )
        reply = await ledger.transport.send(request)
        answers.append((reply.status, plain(reply.json)))
    return answers


def plain(value: Any) -> Any:
    """Leave out what differs from one ledger to another."""
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items() if name not in _MOVES}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if isinstance(value, str):
        if _PLACE.fullmatch(value) is not None:
            return "PLACE"
        return _MADE_UP.sub("ID", _INSTANT.sub("INSTANT", value))
    return value


async def test_the_double_answers_as_the_service_does(http: Ledger) -> None:
    account = f"team-{uuid4().hex[:12]}"
    async with LedgerDouble(STUDIO, now=datetime.now(UTC)) as double:
        ours, theirs = await told(double, account), await told(http, account)
    for (kind, name, fields), own, real in zip(STORY, ours, theirs, strict=True):
        assert own == real, (kind, name, fields)


async def test_what_the_double_cannot_tell_it_says(double: LedgerDouble) -> None:
    with pytest.raises(Unsupported, match="real ledger"):
        await double.usage("a")


async def test_time_stands_still_until_it_is_moved(double: LedgerDouble) -> None:
    began = double.now
    await double.change_plan("a", "free")
    await double.consume("a", "upscale_image", 75)
    assert double.now == began
    await double.advance(days=31)
    assert (await double.balance("a")).available == 50, "the next month's allowance"
    with pytest.raises(ValueError, match="back"):
        await double.advance(to=began)


async def test_another_catalog_can_come_into_force(double: LedgerDouble) -> None:
    double.activate('version = "2"\ndefault_plan = "free"\n[plans.free]\nrank = 0\n[operations.new]\neach = "3"\n')
    assert (await double.quote("new", 2)).cost == 6


async def test_a_catalog_may_refuse_in_its_own_words() -> None:
    catalog = (
        'version = "1"\ndefault_plan = "free"\ninsufficient_credits_status = 429\n'
        'insufficient_credits_code = "QUOTA_EXCEEDED"\n[plans.free]\nrank = 0\n[operations.make]\neach = "1"\n'
    )
    from credit_ledger_client import InsufficientCredits

    async with LedgerDouble(catalog) as double:
        with pytest.raises(InsufficientCredits) as caught:
            await double.enforce("a", "make")
    assert (caught.value.status, caught.value.code, caught.value.shortfall) == (429, "QUOTA_EXCEEDED", 1)
