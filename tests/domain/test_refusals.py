"""The law of refusals: each says what helps its caller on, in fields that a program can read."""

from __future__ import annotations

from typing import Any

import pytest

from events.commands import Command
from events.errors import Refusal
from tests.domain.scenario import Story, given, new
from tests.domain.shop import (
    adjust,
    catalog,
    consume,
    direct,
    extend,
    granted,
    opened,
    refund,
    release,
    renew,
    reserve,
    revoke,
    status,
)

AT_10 = "2026-11-01T10:00:00.000000Z"
START = "2026-11-01T09:30:00.000000Z"
PAID = catalog('[plans.p]\nrenewal = "external"\nallowance.credits = 1')


def late() -> Story:
    """An account whose hold may not even be settled late any more."""
    return given(granted("g", 9), reserve(amount=4)).after(days=4)


def crowded() -> Story:
    """An account with as many grants as it may have."""
    story = given()
    story.thorough = False
    for number in range(256):
        story.when(granted(f"g{number}", 1))
    return story


CASES: dict[str, tuple[Story, Command, dict[str, Any]]] = {
    "insufficient_credits": (
        given(granted("g", 5), granted("soon", 5, effective_at=AT_10)),
        reserve(operation="reel", quantity=3),
        {
            "cost": 9,
            "available": 5,
            "shortfall": 4,
            "max_affordable": 1,
            "earliest_affordable_at": AT_10,
            "upgrade": "Not enough credits. Upgrade your plan for more.",
        },
    ),
    "capacity_exceeded": (
        given(opened("basic"), reserve("a", amount=1, occupies={"jobs": 1})),
        reserve(amount=1, occupies={"jobs": 2}),
        {"capacity": "jobs", "used": 1, "limit": 2, "requested": 2},
    ),
    "too_many_holds": (
        given(opened("credit"), granted("g", 9), *(reserve(f"r{n}", amount=1) for n in range(3))),
        reserve(amount=1),
        {"used": 3, "limit": 3},
    ),
    "too_many_grants": (crowded(), adjust(1), {"used": 256, "limit": 256}),
    "account_not_found": (new(), granted("g", 1), {"account": "acme"}),
    "reservation_not_found": (given(), release("x"), {"reservation_id": "x"}),
    "consumption_not_found": (given(), refund("x"), {"consumption_id": "x"}),
    "grant_not_found": (given(), revoke("x"), {"grant_id": "x"}),
    "operation_not_found": (given(), reserve(operation="imgae"), {"operation": "imgae"}),
    "plan_not_found": (
        given(),
        opened("gold"),
        {"plan": "gold", "plans": ["bare", "basic", "credit", "paid", "pro", "twin"]},
    ),
    "reservation_finalized": (
        given(granted("g", 9), reserve(amount=4), consume(amount=3)),
        release(),
        {"reservation_id": "r", "state": "settled", "charged": 3},
    ),
    "exceeds_reservation": (
        given(granted("g", 9), reserve(amount=4, overage="reject")),
        consume(amount=7),
        {"reservation_id": "r", "held": 4, "requested": 7, "shortfall": 3},
    ),
    "refund_exceeds_consumption": (
        given(granted("g", 9), direct(amount=6), refund(amount=2)),
        refund(amount=5),
        {"consumption_id": "c", "charged": 6, "refunded": 2, "refundable": 4},
    ),
    "already_exists": (given(granted("g", 9), direct(amount=1)), direct(amount=1), {"id": "c"}),
    "account_frozen": (given(status("frozen")), reserve(amount=1), {"account": "acme"}),
    "account_closed": (given(status("closed")), granted("g", 1), {"account": "acme"}),
    "period_passed": (
        given(opened("p", reference="first"), catalog=PAID).after(days=40),
        renew("x", "2026-10-01T09:30:00Z"),
        {
            "period_start": "2026-10-01T09:30:00.000000Z",
            "present_period_start": "2026-12-01T09:30:00.000000Z",
        },
    ),
    "reservation_expired": (
        late(),
        consume(),
        {
            "reservation_id": "r",
            "state": "expired",
            "expires_at": "2026-11-01T09:35:00.000000Z",
            "late_until": "2026-11-04T09:35:30.000000Z",
        },
    ),
    "command_expired": (given().at(AT_10), granted("g", 1, deadline=START), {"deadline": START}),
    "invalid_request": (
        given(),
        reserve(amount=1, unit="minuts"),
        {"errors": [{"loc": ["unit"], "msg": "the catalog has no unit minuts"}]},
    ),
}
OF_THE_SERVICE = {"idempotency_key_required", "idempotency_mismatch", "batch_aborted", "command_not_found", "not_found"}
"""What only the service can say, for it is about names, keys and batches: tests/features and tests/http."""


@pytest.mark.parametrize("code", CASES)
def test_a_refusal_carries_the_fields_that_help(code: str) -> None:
    story, command, fields = CASES[code]
    story.when(command).then_refused(code, **fields)
    assert story.refusal is not None
    assert story.refusal.detail


def test_no_refusal_is_left_out() -> None:
    codes = {kind.code for kind in Refusal.__subclasses__() if kind.__module__ == "events.errors"}
    assert codes == CASES.keys() | OF_THE_SERVICE


def test_an_extend_that_comes_too_late_says_when_the_time_was_over() -> None:
    story = given(granted("g", 9), reserve(amount=4)).after(seconds=300)
    story.when(extend()).then_refused("reservation_expired", state="open", expires_at="2026-11-01T09:35:00.000000Z")
