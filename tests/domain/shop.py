"""What the laws of the domain are told with: a catalog, and a word for each command of one account."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from events.catalog import Catalog, parse_catalog
from events.commands import (
    Adjust,
    ChangePlan,
    Command,
    Consume,
    ConsumeDirect,
    Extend,
    Grant,
    Line,
    LineCharge,
    Refund,
    Release,
    Renew,
    Reserve,
    ResetUsage,
    Revoke,
    SetStatus,
)
from events.instants import Instant, parse

ACCOUNT = "acme"
START = Instant("2026-11-01T09:30:00.000000Z")

SHOP = parse_catalog(
    """
    version = "1"
    default_plan = "bare"

    [units.minutes]
    [capacities.jobs]
    [capacities.slots]

    [plans.bare]
    rank = 0

    [plans.basic]
    rank = 1
    allowance = { credits = 100, minutes = 10 }
    capacity = { jobs = 2, slots = 5 }
    trial = { credits = 20, expires_days = 10 }

    [plans.twin]
    rank = 1
    allowance = { credits = 120 }
    capacity = { jobs = 1 }

    [plans.pro]
    rank = 2
    allowance = { credits = 300, minutes = 10 }
    trial = { credits = 50 }
    overdraft_limit = 20

    [plans.credit]
    rank = 0
    overdraft_limit = 20
    max_open_holds = 3

    [plans.paid]
    rank = 0
    renewal = "external"

    [operations.image]
    each = "1"

    [operations.reel]
    each = "3"
    ttl_seconds = 900

    [operations.video]
    base = "2"
    each = "5"
    multipliers.quality = { standard = "1", hd = "2" }
    per_1k.tokens = "0.5"
    occupies.jobs = 1
    ttl_seconds = 600
    grace_seconds = 60

    [operations.export]
    unit = "minutes"
    each = "1"

    [operations.connect]
    occupies.slots = 1

    [operations.upload]
    occupies_each.slots = 2

    [operations.post]
    free = true
    """
)

Made = TypeVar("Made", bound=Command)


def _named(form: Callable[..., Made], field: str, name: str, fields: dict[str, Any]) -> Made:
    return form(account=ACCOUNT, **{field: name}, **fields)


def reserve(reservation_id: str = "r", **fields: Any) -> Reserve:
    return _named(Reserve, "reservation_id", reservation_id, fields)


def consume(reservation_id: str = "r", **fields: Any) -> Consume:
    return _named(Consume, "reservation_id", reservation_id, fields)


def release(reservation_id: str = "r", **fields: Any) -> Release:
    return _named(Release, "reservation_id", reservation_id, fields)


def extend(reservation_id: str = "r", **fields: Any) -> Extend:
    return _named(Extend, "reservation_id", reservation_id, fields)


def revoke(grant_id: str = "g", reason: str = "bounced", **fields: Any) -> Revoke:
    return _named(partial(Revoke, reason=reason), "grant_id", grant_id, fields)


def adjust(amount: int, **fields: Any) -> Adjust:
    return _named(partial(Adjust, amount=amount), "reason", "counted again", fields)


def status(to: Any, reason: str = "asked for", **fields: Any) -> SetStatus:
    return _named(partial(SetStatus, status=to), "reason", reason, fields)


def direct(consumption_id: str = "c", **fields: Any) -> ConsumeDirect:
    return _named(ConsumeDirect, "consumption_id", consumption_id, fields)


def refund(consumption_id: str = "c", **fields: Any) -> Refund:
    return _named(Refund, "consumption_id", consumption_id, fields)


def granted(grant_id: str, amount: int, **fields: Any) -> Grant:
    for name in ("effective_at", "expires_at"):
        if fields.get(name) is not None:
            fields[name] = parse(fields[name])
    return _named(partial(Grant, amount=amount), "grant_id", grant_id, fields)


def line(operation: str, quantity: int | None = None, **params: int | str) -> Line:
    return Line(operation=operation, quantity=quantity, params=params or None)


def part(line: int, amount: int | None = None, *, quantity: int | None = None) -> LineCharge:
    return LineCharge(line=line, amount=amount, quantity=quantity)


def opened(plan: str = "bare", **fields: Any) -> ChangePlan:
    return _named(ChangePlan, "plan", plan, fields)


change_plan = opened


def limits(**fields: Any) -> ChangePlan:
    return ChangePlan(account=ACCOUNT, **fields)


def renew(reference: str, period_start: str | None = None) -> Renew:
    start = None if period_start is None else parse(period_start)
    return _named(Renew, "reference", reference, {"period_start": start})


def reset_usage(reason: str = "mistake", **fields: Any) -> ResetUsage:
    return _named(ResetUsage, "reason", reason, fields)


def catalog(text: str) -> Catalog:
    return parse_catalog(f'version = "1"\n{text}')


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a check asks for."""

    operation: str | None = None
    quantity: int | None = None
    params: dict[str, int | str] | None = None
    amount: int | None = None
    unit: str | None = None
    lines: tuple[Line, ...] | None = None
    capacity: dict[str, int] | None = None
