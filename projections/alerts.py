"""Alerts: what an account's owner should hear of before somebody is refused, once for each crossing.

Each unit of an account is in one of three places: enough, low, or exhausted. A fold of the log carries it from one to
another and says so when it moves; capacities and their limits go the same way. A command, or what is due at one instant,
is one move, however many events it wrote: a renewal that takes the old allowance and gives the new one exhausts nobody.

    enough -> low         low_balance
    enough -> exhausted   exhausted, and no low_balance
    low -> exhausted      exhausted
    low -> enough         recovered
    exhausted -> low      recovered: there are credits again; then nothing more until it is low again after enough, or exhausted
    exhausted -> enough   recovered

So no alert of a kind comes twice without its opposite between. "Low" is measured against what there was after the last
grant, or the plan's allowance when that is more; so it means the same to those who buy packs.

What only time brings about (a grant that is about to end, a payment that is due) is noted as a `Timer`, for a clock to
look at when its instant has come; whether there is anything to say is seen then (`due_alert`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from events.account import Account
from events.facts import Consumed, Granted, PlanChanged, Refunded, Reserved
from events.instants import Instant, moment, plus
from events.record import Record
from events.recorded import Event
from events.renewals import AHEAD_SECONDS_MAX

NAME = "alerts"
VERSION = 1
GRANT_EXPIRING_SECONDS = 7 * 86_400
"""How long before its end a grant is told of."""
OF_THE_PERIOD = frozenset({"plan", "rollover"})
"""Kinds of grants that end with their period, which nobody is told of."""

AlertKind = Literal["low_balance", "exhausted", "recovered", "grant_expiring", "capacity_reached", "renewal_due"]
Level = Literal["unknown", "enough", "low", "exhausted"]
Told = Literal["", "low", "exhausted"]


class Alert(Record, frozen=True):
    """What is told: the kind, the account, the event that led to it (None: time did), and the figures that help."""

    kind: AlertKind
    account: str
    event: str | None
    raised_at: Instant
    plan: str | None = None
    unit: str | None = None
    available: int | None = None
    reserved: int | None = None
    threshold: int | None = None
    """At or below it the balance is low."""
    capacity: str | None = None
    used: int | None = None
    limit: int | None = None
    grant_id: str | None = None
    remaining: int | None = None
    held: int | None = None
    expires_at: Instant | None = None
    period_end: Instant | None = None


class Timer(NamedTuple):
    """That an account should be looked at from `at` on; `subject` is the grant's id, or the end of the period."""

    account: str
    kind: AlertKind
    subject: str
    at: Instant


class Raised(NamedTuple):
    """An alert with the id that it has for ever, and the position of the event that led to it (0: time did)."""

    id: str
    position: int
    alert: Alert


class Unit(msgspec.Struct, array_like=True, gc=False):
    """Where a unit stands: its level, what was told and not taken back, and what there was after the last grant."""

    level: Level = "unknown"
    told: Told = ""
    full: int = 0


class Watched(msgspec.Struct, array_like=True, gc=False):
    """What the fold remembers of an account."""

    plan: str | None = None
    percent: int = 0
    allowance: dict[str, int] = {}
    units: dict[str, Unit] = {}
    limits: dict[str, int] = {}
    used: dict[str, int] = {}
    reached: list[str] = []


class Folded(NamedTuple):
    """What a batch of events of one partition says: alerts and timers in their order, each timer with its position."""

    raised: list[Raised]
    timers: list[tuple[int, Timer]]


def fold(known: dict[str, Watched], events: Sequence[Event], following: Event | None) -> Folded:
    """Carry events of one partition into what is known of their accounts, and return what is to be told.

    `following` is the event behind them in the log, if there is one: a command whose events go on there is not judged yet.
    """
    folded = Folded([], [])
    behind = [*events[1:], following] if events else []
    for event, after in zip(events, behind, strict=True):
        watched = known.get(event.account)
        if watched is None:
            watched = known[event.account] = Watched()
        _carry(watched, event)
        timer = _timer(event)
        if timer is not None:
            folded.timers.append((event.position, timer))
        if after is None or event.account != after.account or not is_one_move(event, after):
            for alert in _judged(watched, event):
                id_ = f"{event.id}:{alert.kind}:{alert.unit or alert.capacity}"
                folded.raised.append(Raised(id_, event.position, alert))
    return folded


def is_one_move(event: Event, after: Event) -> bool:
    """Say whether two neighbours of the log belong to one command, or to what was due at one instant."""
    return _move(event) == _move(after)


def _move(event: Event) -> tuple[str, str, str, str | None]:
    by = event.command
    return event.account, event.recorded_at, event.effective_at, None if by.name == "system" else by.idempotency_key


def _carry(watched: Watched, event: Event) -> None:
    data = event.data
    if isinstance(data, PlanChanged):
        if event.kind not in {"status", "unchanged"}:
            watched.plan = data.to
            watched.percent = data.policies.low_balance_percent
            watched.allowance = data.allowance
            watched.limits = data.capacity
    elif isinstance(data, Granted):
        delta = event.delta.get(data.unit)
        if event.kind != "refund_regrant" and data.amount > 0 and delta is not None and delta.available > 0:
            figures = event.balance[data.unit]
            watched.units.setdefault(data.unit, Unit()).full = figures.available + figures.reserved
    elif isinstance(data, Reserved):
        if event.kind == "hold":
            _occupy(watched, data.occupies, +1)
        elif data.occupied is not None:
            _occupy(watched, data.occupied, -1)
            _occupy(watched, data.occupies, +1)
    elif _ends_hold(event.kind, data) and data.hold is not None:
        _occupy(watched, data.hold.occupies, -1)


def _ends_hold(kind: str, data: Consumed | Refunded) -> bool:
    """Say whether an open hold ended with the event, so that what it occupied is free."""
    if data.hold is None:
        return False
    if isinstance(data, Consumed):
        return data.hold.state == "settled"
    return (kind, data.hold.state) in {("release", "released"), ("hold_expired", "expired")}


def _occupy(watched: Watched, counts: Mapping[str, int], sign: int) -> None:
    for name, count in counts.items():
        used = watched.used.get(name, 0) + sign * count
        if used:
            watched.used[name] = used
        else:
            watched.used.pop(name, None)


def _judged(watched: Watched, event: Event) -> Iterable[Alert]:
    """Yield what is to be told of an account after a command."""
    for unit in event.balance:
        yield from _judged_unit(watched, unit, event)
    if not watched.limits and not watched.reached:
        return
    for name in sorted({*watched.limits, *watched.reached}):
        used, limit = watched.used.get(name, 0), watched.limits.get(name)
        is_reached = limit is not None and 0 < used >= limit
        if is_reached and name not in watched.reached:
            watched.reached.append(name)
            yield _alert("capacity_reached", watched, event, capacity=name, used=used, limit=limit)
        elif not is_reached and name in watched.reached:
            watched.reached.remove(name)


def _judged_unit(watched: Watched, unit: str, event: Event) -> Iterable[Alert]:
    figures = event.balance[unit]
    known = watched.units.setdefault(unit, Unit())
    threshold = watched.percent * max(known.full, watched.allowance.get(unit, 0)) // 100
    level: Level = "exhausted" if figures.available <= 0 else "low" if figures.available <= threshold else "enough"
    if known.full == 0 and known.level == "unknown":
        return  # it never had anything
    kind = _crossing(known, level)
    known.level = level
    if kind is not None:
        known.told = "low" if kind == "low_balance" else "exhausted" if kind == "exhausted" else ""
        yield _alert(
            kind,
            watched,
            event,
            unit=unit,
            available=figures.available,
            reserved=figures.reserved,
            threshold=threshold,
        )


def _crossing(known: Unit, level: Level) -> AlertKind | None:
    """Return what is told when a unit comes to a level."""
    if level == known.level:
        return None
    if level == "exhausted":
        return "exhausted"
    if level == "low" and known.level != "exhausted":
        return "low_balance"
    return "recovered" if known.told else None


def _alert(kind: AlertKind, watched: Watched, event: Event, **figures: str | int | None) -> Alert:
    return Alert(
        kind=kind,
        account=event.account,
        event=event.id,
        raised_at=event.recorded_at,
        plan=watched.plan,
        **figures,  # type: ignore[arg-type]  # fields of the alert, named by the two callers above
    )


def _timer(event: Event) -> Timer | None:
    """Return when to look at an account because of an event, if time alone will bring something about."""
    data = event.data
    if isinstance(data, Granted):
        is_new = data.grant_id is not None and event.kind not in {"activated", "expired", "revoked"}
        if not is_new or data.expires_at is None or event.kind in OF_THE_PERIOD:
            return None
        at = max(data.starts_at, plus(data.expires_at, seconds=-GRANT_EXPIRING_SECONDS))
        return Timer(event.account, "grant_expiring", data.grant_id or "", at)
    if not isinstance(data, PlanChanged) or data.policies.renewal != "external":
        return None
    seconds = int((moment(data.period_end) - moment(data.period_start)).total_seconds())
    at = plus(data.period_end, seconds=-min(AHEAD_SECONDS_MAX, seconds // 4))
    return Timer(event.account, "renewal_due", data.period_end, at)


def due_alert(timer: Timer, account: Account, now: Instant) -> Raised | None:
    """Return what is to be told of an account at the instant of a timer, or None when there is nothing any more."""
    if account.status == "closed":
        return None
    if timer.kind == "renewal_due":
        return _renewal_due(timer, account, now)
    grant = account.grants.get(timer.subject)
    if grant is None or grant.state not in {"active", "scheduled"} or not grant.remaining + grant.held:
        return None
    if grant.expires_at is None or grant.expires_at <= now:
        return None
    alert = Alert(
        kind="grant_expiring",
        account=account.id,
        event=None,
        raised_at=now,
        plan=account.plan,
        unit=grant.unit,
        grant_id=grant.id,
        remaining=grant.remaining,
        held=grant.held,
        expires_at=grant.expires_at,
    )
    return Raised(f"grant_expiring:{account.id}:{grant.id}", 0, alert)


def _renewal_due(timer: Timer, account: Account, now: Instant) -> Raised | None:
    if account.period_end != timer.subject or account.policies is None or account.turns_at is not None:
        return None
    alert = Alert(
        kind="renewal_due",
        account=account.id,
        event=None,
        raised_at=now,
        plan=account.plan,
        period_end=account.period_end,
    )
    digits = "".join(character for character in account.period_end if character.isdigit())
    return Raised(f"renewal_due:{account.id}:{digits}", 0, alert)
