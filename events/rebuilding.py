"""Commands rebuilt from the events that they wrote, so that the same can be asked again under other rules.

An event says what a command led to, not what its body said; most of the body follows from it. What does not is assumed
as the entries of ASSUMED say, and a command of which too much is lost is not rebuilt (LOST). Refused commands, free
operations and checks left nothing behind, and nobody can rebuild them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, cast

from events.account import State
from events.commands import (
    TTL_SECONDS_DEFAULT,
    TTL_SECONDS_MAX,
    TTL_UNSET,
    Adjust,
    ChangePlan,
    Command,
    Consume,
    ConsumeDirect,
    Cost,
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
from events.errors import Refusal
from events.facts import Consumed, Granted, PlanChanged, Refunded, Reserved
from events.history import History
from events.instants import Instant, moment
from events.quoting import Quote, quote
from events.recorded import Event

Assumption = Literal["all_held", "all_left", "amount_named", "old_rule", "renewal_now", "in_full"]
ASSUMED: dict[Assumption, str] = {
    "all_held": "a final step that charged exactly what was held named no amount: it charges what would be held",
    "all_left": "a refund that completed its consumption named no amount: it gives back what would be left",
    "amount_named": "any other step, and a step of a hold with several lines, named the amounts that it charged",
    "old_rule": "the catalog of a hold is not known any more: its TTL was named by the body, and `occupies` was not",
    "renewal_now": "a payment named no period: it renews the one that it would renew then",
    "in_full": "a negative adjustment asked for what it took and owed, and took what there was (`clamp`) if it owed nothing",
}
Loss = Literal["unknown_command", "clamped_to_nothing"]
LOST: dict[Loss, str] = {
    "unknown_command": "its events are not those of a command that this release knows",
    "clamped_to_nothing": "an adjustment that found nothing to take does not say how much it asked for",
}


class Rebuilt(NamedTuple):
    """A command, the id that it made things with, and what had to be assumed; or None, and what was lost."""

    command: Command | None
    new_id: str = ""
    assumed: tuple[Assumption, ...] = ()
    lost: Loss | None = None


_UNKNOWN = Rebuilt(None, lost="unknown_command")


def rebuild(events: Sequence[Event], before: State, history: History) -> Rebuilt:
    """Return the command that wrote `events`, which are all of its own, due facts not among them.

    `before` is the account right before the first of them; `history` has the catalogs in force before.
    """
    name = events[0].command.name
    rebuilt = _rebuilt(name, events, before, history)
    return rebuilt._replace(new_id=_new_id(events))


def _rebuilt(name: str, events: Sequence[Event], before: State, history: History) -> Rebuilt:
    """Rebuild by the event that only this command writes; others, an opening for example, follow from it."""
    for event in events:
        match event.data:
            case Reserved() as data if name == "reserve":
                return _reserve(event.account, event.recorded_at, data, history)
            case Reserved() as data if name == "extend":
                return _extend(event, data, before)
            case Consumed() as data if name == "consume":
                return _direct(event.account, data) if data.reservation_id is None else _step(event, data, before)
            case Refunded() as data if name in {"release", "refund", "reset_usage"}:
                return _returning(name, events, data, before)
            case Granted() as data if name in {"grant", "revoke", "adjust"}:
                return _granting(name, event, data)
            case PlanChanged() as data if name in {"change_plan", "renew", "set_status"}:
                return _planning(name, event, data)
            case _:
                continue
    return _UNKNOWN


def _new_id(events: Sequence[Event]) -> str:
    """Return what the ids of the things that the command made begin with."""
    for event in events:
        data = event.data
        if isinstance(data, Granted) and data.grant_id is not None and event.kind in {"plan", "trial", "adjustment"}:
            base, _, number = data.grant_id.rpartition(":")
            return base if base and number.isdigit() else data.grant_id
    return f"again:{events[0].id}"


# -- work ----------------------------------------------------------------------------------------------------------


def _reserve(account: str, at: Instant, data: Reserved, history: History) -> Rebuilt:
    lines = tuple(Line(operation=of.operation, quantity=of.quantity, params=of.params or None) for of in data.lines)
    single = lines[0] if len(lines) == 1 else None
    ttl = None if data.expires_at is None else _ttl_seconds(at, data.expires_at)
    command = Reserve(
        account=account,
        operation=single.operation if single else None,
        quantity=single.quantity if single else None,
        params=single.params if single else None,
        lines=None if single or not lines else lines,
        amount=None if lines else data.amount,
        unit=None if lines else data.unit,
        occupies=data.occupies or None,
        reservation_id=data.reservation_id,
        ttl_seconds=ttl,
        overage=data.overage,
        reference=data.reference,
        metadata=data.metadata or None,
    )
    if not lines:
        return Rebuilt(command)
    asked = _asked(data, replace(command, occupies=None), history)
    if asked is None:
        # What the operations occupied cannot be told from what the body added; the operations will say it again.
        return Rebuilt(replace(command, occupies=None), assumed=("old_rule",))
    more = {name: count - asked.occupies.get(name, 0) for name, count in data.occupies.items()}
    added = {name: count for name, count in more.items() if count > 0}
    by_rule = ttl is not None and ttl == (asked.ttl_seconds or TTL_SECONDS_DEFAULT)
    return Rebuilt(replace(command, occupies=added or None, ttl_seconds=TTL_UNSET if by_rule else ttl))


def _asked(data: Reserved, command: Reserve, history: History) -> Quote | None:
    """Return what the command came to under the catalog whose prices the hold pinned; None when that is not known."""
    rules = [data.price, *(line.price for line in data.lines)]
    version = next((rule.catalog for rule in rules if rule is not None), None)
    catalog = None if version is None else history.named(version)
    try:
        return None if catalog is None else quote(catalog, command)
    except Refusal:
        return None


def _ttl_seconds(at: Instant, expires_at: Instant) -> int:
    return min(TTL_SECONDS_MAX, max(1, round((moment(expires_at) - moment(at)).total_seconds())))


def _step(event: Event, data: Consumed, before: State) -> Rebuilt:
    hold = before.hold(data.reservation_id or "")
    if hold is None:
        return _UNKNOWN
    step = Consume(account=event.account, reservation_id=hold.id, final=data.consumption_id == hold.id)
    whole = sum(line.lapsed for line in hold.lines) if event.kind == "late" else hold.held
    if data.price is not None and (data.params or data.quantity != hold.lines[0].quantity):
        return Rebuilt(replace(step, quantity=data.quantity, params=data.params or None))
    if step.final and data.actual == whole:
        return Rebuilt(step, assumed=("all_held",))
    if data.lines:
        charges = tuple(LineCharge(line=each.line, amount=each.amount) for each in data.lines)
        return Rebuilt(replace(step, lines=charges), assumed=("amount_named",))
    return Rebuilt(replace(step, amount=data.actual), assumed=("amount_named",))


def _direct(account: str, data: Consumed) -> Rebuilt:
    lines = tuple(
        Line(operation=each.operation or "", quantity=each.quantity, params=each.params or None) for each in data.lines
    )
    bare = data.operation is None and not lines
    return Rebuilt(
        ConsumeDirect(
            account=account,
            operation=data.operation,
            quantity=None if data.operation is None else data.quantity,
            params=None if data.operation is None else data.params or None,
            lines=lines or None,
            amount=data.actual if bare else None,
            unit=data.unit if bare else None,
            consumption_id=data.consumption_id,
            reference=data.reference,
            metadata=data.metadata or None,
        )
    )


def _extend(event: Event, data: Reserved, before: State) -> Rebuilt:
    hold = before.hold(data.reservation_id)
    if hold is None:
        return _UNKNOWN
    moved = data.expires_at is not None and data.expires_at != hold.expires_at
    names = {*data.occupies, *hold.occupies}
    occupies = {name: data.occupies.get(name, 0) for name in names}
    return Rebuilt(
        Extend(
            account=event.account,
            reservation_id=hold.id,
            ttl_seconds=_ttl_seconds(event.recorded_at, data.expires_at) if moved and data.expires_at else None,
            amount=data.amount or None,
            occupies=occupies if data.occupies != hold.occupies else None,
        )
    )


# -- credits that come back, are given and are taken ---------------------------------------------------------------


def _returning(name: str, events: Sequence[Event], data: Refunded, before: State) -> Rebuilt:
    account = events[0].account
    if name == "release":
        return Rebuilt(Release(account=account, reservation_id=data.reservation_id or "", reason=data.reason))
    if name == "refund":
        of = before.consumption(data.consumption_id or "")
        if of is None:
            return _UNKNOWN
        amount = None if data.refunded == of.charged else data.amount
        return Rebuilt(
            Refund(account=account, consumption_id=of.id, amount=amount, reason=data.reason),
            assumed=("all_left",) if amount is None else (),
        )
    units = {event.data.unit for event in events if isinstance(event.data, Refunded) and event.kind == "usage_reset"}
    unit = units.pop() if len(units) == 1 else None
    return Rebuilt(ResetUsage(account=account, reason=data.reason or "again", unit=unit))


def _granting(name: str, event: Event, data: Granted) -> Rebuilt:
    account = event.account
    if name == "revoke":
        return Rebuilt(Revoke(account=account, grant_id=data.grant_id or "", reason=data.reason or "again"))
    if name == "adjust":
        return _adjust(account, data)
    kind = event.kind
    if kind != "promo" and kind != "purchase" and kind != "trial":  # noqa: PLR1714 - the type checker reads it so
        return _UNKNOWN
    basis = data.cost_basis
    return Rebuilt(
        Grant(
            account=account,
            amount=data.amount,
            kind=kind,
            unit=data.unit,
            priority=data.priority,
            effective_at=data.starts_at if data.starts_at > event.recorded_at else None,
            expires_at=data.expires_at,
            operations=None if data.operations is None else tuple(data.operations),
            reason=data.reason,
            reference=data.reference,
            cost_basis=None if basis is None else Cost(amount=basis.amount, currency=basis.currency),
            grant_id=data.grant_id,
        )
    )


def _adjust(account: str, data: Granted) -> Rebuilt:
    amount = data.amount - data.debt_added if data.grant_id is None else data.amount
    if amount == 0:
        return Rebuilt(None, lost="clamped_to_nothing")
    command = Adjust(
        account=account, amount=amount, reason=data.reason or "again", unit=data.unit, reference=data.reference
    )
    if amount > 0:
        return Rebuilt(command)
    return Rebuilt(replace(command, insufficient="debt" if data.debt_added else "clamp"), assumed=("in_full",))


# -- plans ---------------------------------------------------------------------------------------------------------


def _planning(name: str, event: Event, data: PlanChanged) -> Rebuilt:
    account = event.account
    if name == "set_status":
        if data.status is None:
            return _UNKNOWN
        return Rebuilt(SetStatus(account=account, status=data.status, reason=data.reason or "again"))
    if name == "renew":
        return Rebuilt(Renew(account=account, reference=data.reference or "again"), assumed=("renewal_now",))
    terms = data.pending if event.kind == "scheduled" and data.pending is not None else None
    overrides = data.overrides if terms is None else terms.overrides
    limits = event.kind == "limits" or "plan" not in data.new_value
    reset = event.kind == "changed" and data.begins and data.anchor == event.recorded_at and data.payment is not None
    when = {"changed": "now", "scheduled": "next_period"}.get(event.kind)
    return Rebuilt(
        ChangePlan(
            account=account,
            plan=None if limits else data.to if terms is None else terms.plan,
            when=when,  # type: ignore[arg-type]  # one of the two, or None
            mode="reset" if reset and data.reference is not None else None,
            allowance=_overrides(data.new_value.get("allowance"), overrides.allowance),
            capacity=_overrides(data.new_value.get("capacity"), overrides.capacity),
            reference=data.reference,
            reason=data.reason,
        )
    )


def _overrides(named: object, after: Mapping[str, int]) -> dict[str, int | None] | None:
    """Return the limits that the command named: what it set, and null for what it restored."""
    if not isinstance(named, dict):
        return None
    names: Iterable[str] = cast("dict[str, object]", named)
    return {name: after.get(name) for name in names}
