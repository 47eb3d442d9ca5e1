"""The books of one account: a second, plain reading of its log, which the domain's own figures are held against.

They read the recorded lines as JSON, as an auditor with nothing but the export would, and keep a counter for each thing
that SEMANTICS.md section 3 names. `enter` takes one line and checks what must hold after every event; `check` compares
the books with the state that the domain made of the same lines. Nothing here asks the domain what it thinks.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from events.account import NO_USAGE, State
from events.grants import Grant
from events.holds import Consumption, Hold

FIGURES = ("available", "reserved", "debt", "scheduled", "scoped", "bonus")
BONUS = {"trial", "promo", "rollover", "refund_regrant", "adjustment"}
FIGURE_MAX = 2**53 - 1


@dataclass
class Purse:
    """One grant by its counters."""

    unit: str
    kind: str
    scoped: bool
    state: str
    expires_at: str | None
    granted: int
    remaining: int
    returned: int = 0
    consumed: int = 0
    adjusted: int = 0
    repaid: int = 0
    expired: int = 0
    rolled_over: int = 0
    revoked: int = 0
    held: int = 0
    period: str | None = None
    number: int = 0
    """The number of the period in which it was granted."""


@dataclass
class Work:
    """One hold: what it holds of which grant on which line, and what it occupies while it is open."""

    occupies: dict[str, int]
    ends: bool
    pieces: Counter[tuple[int, str]]
    is_open: bool = True
    is_final: bool = False
    """Whether a last step was charged or the credits were given back by their owner: nothing can follow."""
    charged: int = 0
    unfunded: int = 0


@dataclass
class Charge:
    """One consumption and what was given back of it."""

    unit: str
    period: str
    charged: int
    unfunded: int
    paid_by: Counter[str]
    debt_added: int
    refunded: int = 0
    usage_returned: int = 0
    number: int = 0
    reset: bool = False


@dataclass
class Books:
    """What the log of one account says, summed up."""

    purses: dict[str, Purse] = field(default_factory=dict)
    works: dict[str, Work] = field(default_factory=dict)
    charges: dict[str, Charge] = field(default_factory=dict)
    debt: Counter[str] = field(default_factory=Counter)
    used: Counter[tuple[str, int]] = field(default_factory=Counter)
    charged: Counter[tuple[str, int]] = field(default_factory=Counter)
    allowed: Counter[tuple[str, int]] = field(default_factory=Counter)
    balance: dict[str, dict[str, int]] = field(default_factory=dict)
    period: str = ""
    status: str = "active"
    number: int = 0
    """How many periods there were: two of them may begin at one instant."""
    reclaim: dict[str, int] = field(default_factory=dict)
    recorded_at: str = ""
    effective_at: str = ""
    period_began: str = ""
    """The instant at which the present period's first event holds."""
    events: int = 0

    def figures(self, unit: str) -> dict[str, int]:
        """The balance of a unit, summed up from its grants."""
        sums: dict[str, int] = dict.fromkeys(FIGURES, 0)
        for purse in self.purses.values():
            if purse.unit != unit:
                continue
            sums["reserved"] += purse.held
            if purse.state == "scheduled":
                sums["scheduled"] += purse.remaining
            elif purse.state == "active" and purse.scoped:
                sums["scoped"] += purse.remaining
            elif purse.state == "active":
                sums["available"] += purse.remaining
                sums["bonus"] += purse.remaining if purse.kind in BONUS else 0
        sums["debt"] = self.debt[unit]
        return sums

    def enter(self, line: bytes) -> None:
        """Read the next line of the log, and check what must hold after it."""
        event: dict[str, Any] = json.loads(line)
        self._check_order(event)
        data = event["data"]
        match event["type"]:
            case "granted":
                self._granted(event["kind"], data, event["effective_at"])
            case "reserved":
                self._reserved(event["kind"], data)
            case "consumed":
                self._consumed(event["kind"], data)
            case "refunded":
                self._refunded(event["kind"], data)
            case "plan_changed":
                self._plan_changed(event["kind"], data)
                self.status = data.get("status", self.status)
            case other:
                raise AssertionError(f"there are five event types, {other} is none of them")
        self._check_identities()
        self._check_balance(event)

    def _check_order(self, event: dict[str, Any]) -> None:
        self.events += 1
        assert event["recorded_at"] >= self.recorded_at, "recorded_at never goes back"
        assert event["effective_at"] <= event["recorded_at"], "nothing is recorded before it holds"
        assert event["effective_at"] >= self.effective_at, "facts hold in the order in which they are recorded"
        if event["command"]["name"] == "system":
            assert event["command"]["id"], "a due fact has a natural id"
            assert event["command"].get("idempotency_key") is None
        else:
            assert event["effective_at"] == event["recorded_at"], "what a command does holds from now"
        self.recorded_at, self.effective_at = event["recorded_at"], event["effective_at"]

    def _granted(self, kind: str, data: dict[str, Any], at: str) -> None:
        if data["grant_id"] is None:
            self._taken(data)
        elif kind == "revoked":
            self._revoked(data)
        elif kind == "activated":
            purse = self.purses[data["grant_id"]]
            assert purse.state == "scheduled"
            assert data["amount"] == purse.remaining
            purse.state = "active"
            if purse.kind == "plan" and purse.period == self.period:
                self.allowed[data["unit"], self.number] += purse.remaining
        elif kind == "revoked":
            self._revoked(data)
        elif kind == "expired":
            purse = self.purses[data["grant_id"]]
            over = purse.expires_at is not None and purse.expires_at <= at
            cleared = self.period_began == at and purse.kind in ("plan", "rollover", "trial", "promo")
            assert over or cleared or purse.state == "expired", "a grant lives until expires_at, or a renewal ends it"
            assert sum(entry["amount"] for entry in data["allocation"]) == -data["amount"]
            purse.state = "expired"
            purse.remaining += data["amount"]
            purse.expired -= data["amount"]
        else:
            assert data["grant_id"] not in self.purses, "a grant's id is its own"
            assert data["amount"] > 0
            assert kind != "rollover" or sum(entry["amount"] for entry in data["allocation"]) == data["amount"]
            for entry in data["allocation"]:
                source = self.purses[entry["grant_id"]]
                assert (kind, source.kind, source.unit) == ("rollover", "plan", data["unit"]), (
                    "only allowance rolls over"
                )
                source.remaining -= entry["amount"]
                source.rolled_over += entry["amount"]
            self.purses[data["grant_id"]] = Purse(
                unit=data["unit"],
                kind=kind,
                scoped=data["operations"] is not None,
                state="scheduled" if data["starts_at"] > at else "active",
                expires_at=data["expires_at"],
                granted=data["amount"],
                remaining=data["amount"],
                period=data.get("period"),
                number=self.number,
            )
            if kind == "plan" and data["period"] == self.period:
                self.allowed[data["unit"], self.number] += data["amount"]
        self._repay(data)

    def _taken(self, data: dict[str, Any]) -> None:
        """An admin took credits: from general grants that could be drawn, and what they had not is owed."""
        owed = data.get("debt_added", 0)
        assert sum(entry["amount"] for entry in data["allocation"]) + owed == -data["amount"]
        for entry in data["allocation"]:
            purse = self.purses[entry["grant_id"]]
            assert purse.unit == data["unit"] and purse.state == "active" and not purse.scoped
            purse.remaining -= entry["amount"]
            purse.adjusted += entry["amount"]
        self.debt[data["unit"]] += owed

    def _plan_changed(self, kind: str, data: dict[str, Any]) -> None:
        if kind in ("opened", "renewed") or data.get("begins"):
            self.number += 1
            self.period_began = self.effective_at
        self.period = data["period_start"]
        self.reclaim = dict(data["reclaim"])

    def _revoked(self, data: dict[str, Any]) -> None:
        purse, taken = self.purses[data["grant_id"]], -data["amount"]
        assert sum(entry["amount"] for entry in data["allocation"]) == taken >= 0
        purse.remaining -= taken
        purse.revoked += taken
        if "take_back" in data:
            assert purse.kind == "plan" and purse.period == self.period, "only this period's allowance is taken back"
            if purse.state != "scheduled":
                self.allowed[data["unit"], self.number] -= taken
        if data.get("take_back") == "reclaim":
            self._reclaimed(data["unit"], taken)
        purse.state = data.get("grant", {}).get("state", purse.state)

    def _reclaimed(self, unit: str, amount: int) -> None:
        self.reclaim[unit] -= amount
        assert self.reclaim[unit] >= 0, "no more is reclaimed than was wanted"
        if self.reclaim[unit] == 0:
            del self.reclaim[unit]

    def _repay(self, data: dict[str, Any]) -> None:
        assert sum(entry["amount"] for entry in data.get("repaid", ())) == data["debt_repaid"]
        for entry in data.get("repaid", ()):
            purse = self.purses[entry["grant_id"]]
            assert not purse.scoped and purse.state == "active", "only general credits that can be used repay debt"
            purse.remaining -= entry["amount"]
            purse.repaid += entry["amount"]
        self.debt[data["unit"]] -= data["debt_repaid"]

    def _reserved(self, kind: str, data: dict[str, Any]) -> None:
        assert sum(entry["amount"] for entry in data["allocation"]) == data["amount"]
        assert (data["reservation_id"] in self.works) == (kind == "extend")
        work = self.works.get(data["reservation_id"])
        pieces: Counter[tuple[int, str]] = Counter() if work is None else work.pieces
        for entry in data["allocation"]:
            purse = self.purses[entry["grant_id"]]
            assert purse.unit == data["unit"] and purse.state == "active"
            purse.remaining -= entry["amount"]
            purse.held += entry["amount"]
            pieces[entry.get("line", 0), entry["grant_id"]] += entry["amount"]
        if work is None:
            self.works[data["reservation_id"]] = Work(data["occupies"], data["expires_at"] is not None, pieces)
        else:
            assert work.is_open, "what has ended is not extended"
            work.occupies = data["occupies"]

    def _consumed(self, kind: str, data: dict[str, Any]) -> None:
        assert data["actual"] == data["charged"] + data["unfunded"]
        assert sum(entry["amount"] for entry in data["allocation"]) + data["debt_added"] == data["charged"]
        assert data["consumption_id"] not in self.charges
        if data.get("lines"):
            assert sum(line["amount"] for line in data["lines"]) == data["actual"], "the lines are the whole step"
            assert sum(line["charged"] for line in data["lines"]) == data["charged"]
        paid_by: Counter[str] = Counter()
        work = None if data["reservation_id"] is None else self.works[data["reservation_id"]]
        for entry in data["allocation"]:
            purse = self.purses[entry["grant_id"]]
            if work is None or entry.get("excess"):
                assert purse.state == "active"
                purse.remaining -= entry["amount"]
            else:
                work.pieces[entry.get("line", 0), entry["grant_id"]] -= entry["amount"]
                purse.held -= entry["amount"]
            purse.consumed += entry["amount"]
            paid_by[entry["grant_id"]] += entry["amount"]
        self.debt[data["unit"]] += data["debt_added"]
        if work is not None:
            assert work.is_open == (kind != "late") and not work.is_final
            work.is_final = data["consumption_id"] == data["reservation_id"]
            work.is_open = work.is_open and not work.is_final
            work.charged += data["charged"]
            work.unfunded += data["unfunded"]
        assert data["period"] == self.period
        self.used[data["unit"], self.number] += data["actual"]
        self.charged[data["unit"], self.number] += data["charged"]
        charge = Charge(data["unit"], data["period"], data["charged"], data["unfunded"], paid_by, data["debt_added"])
        charge.number = self.number
        self.charges[data["consumption_id"]] = charge

    def _refunded(self, kind: str, data: dict[str, Any]) -> None:
        returned = sum(entry["amount"] for entry in data["allocation"])
        for entry in data["allocation"]:
            self.purses[entry["grant_id"]].remaining += entry["amount"]
        for entry in data.get("reclaimed", ()):
            purse = self.purses[entry["grant_id"]]
            purse.remaining -= entry["amount"]
            purse.revoked += entry["amount"]
            self.allowed[data["unit"], self.number] -= entry["amount"]
            self._reclaimed(data["unit"], entry["amount"])
        if kind == "usage_reset":
            self._usage_reset(data, returned)
        elif kind == "consumption":
            assert returned + data["regranted"] + data["debt_refunded"] == data["amount"]
            charge = self.charges[data["consumption_id"]]
            for entry in data["allocation"]:
                self.purses[entry["grant_id"]].returned += entry["amount"]
                charge.paid_by[entry["grant_id"]] -= entry["amount"]
            charge.refunded += data["amount"]
            charge.usage_returned += data["usage"]
            self.debt[data["unit"]] -= data["debt_refunded"]
            assert not charge.reset, "what a reset gave back has nothing left to refund"
            self.used[data["unit"], charge.number] -= data["usage"]
            self.charged[data["unit"], charge.number] -= data["amount"]
        else:
            assert returned == data["amount"]
            work = self.works[data["reservation_id"]]
            for entry in data["allocation"]:
                self.purses[entry["grant_id"]].held -= entry["amount"]
                work.pieces[entry.get("line", 0), entry["grant_id"]] -= entry["amount"]
            assert not any(work.pieces.values()), "the end of a hold returns all that it held"
            work.is_open = False
            work.is_final = work.is_final or kind == "release"
        self._repay(data)

    def _usage_reset(self, data: dict[str, Any], returned: int) -> None:
        unit = data["unit"]
        assert returned + data["regranted"] + data["debt_refunded"] == data["amount"]
        assert (data["usage"], data["amount"]) == (self.used[unit, self.number], self.charged[unit, self.number])
        paid: Counter[str] = Counter()
        for charge in self.charges.values():
            if charge.unit == unit and charge.number == self.number and not charge.reset:
                charge.reset = True
                paid.update(charge.paid_by)
        for entry in data["allocation"]:
            assert entry["amount"] == paid[entry["grant_id"]], "a grant gets back what it paid"
            self.purses[entry["grant_id"]].returned += entry["amount"]
        self.debt[unit] -= data["debt_refunded"]
        self.used[unit, self.number] = self.charged[unit, self.number] = 0

    def _check_identities(self) -> None:
        held: Counter[str] = Counter()
        for work in self.works.values():
            for (_, grant_id), amount in work.pieces.items():
                assert amount >= 0
                held[grant_id] += amount
        for grant_id, purse in self.purses.items():
            spent = purse.consumed + purse.adjusted + purse.repaid + purse.rolled_over + purse.expired + purse.revoked
            spent += purse.remaining + purse.held
            assert purse.granted + purse.returned == spent, f"grant {grant_id} does not add up"
            assert purse.remaining >= 0 and purse.held >= 0, f"grant {grant_id} is overdrawn"
            assert purse.held == held[grant_id], f"grant {grant_id} holds what no hold has"
        for charge in self.charges.values():
            assert charge.refunded <= charge.charged
            assert charge.usage_returned <= charge.charged + charge.unfunded
            assert all(amount >= 0 for amount in charge.paid_by.values())

    def _check_balance(self, event: dict[str, Any]) -> None:
        units = {purse.unit for purse in self.purses.values()} | {unit for unit, debt in self.debt.items() if debt}
        assert units <= set(event["balance"]), "the balance after an event names every unit that ever had a credit"
        assert set(event["delta"]) == set(event["balance"])
        for unit, told in event["balance"].items():
            figures = self.figures(unit)
            before = self.balance.get(unit, dict.fromkeys(FIGURES, 0))
            assert told == figures, f"{event['kind']}: the balance is not what the grants sum up to"
            assert event["delta"][unit] == {name: figures[name] - before[name] for name in FIGURES}
            assert all(0 <= figure <= FIGURE_MAX for figure in figures.values())
            assert figures["debt"] == 0 or figures["available"] == 0, "with debt nothing general is available"
            assert figures["bonus"] <= figures["available"]
            self.balance[unit] = figures

    def check_settled(self) -> None:
        """Check what holds between commands: what ended has nothing left that could be drawn."""
        for grant_id, purse in self.purses.items():
            assert purse.state in ("active", "scheduled") or purse.remaining == 0, f"ended grant {grant_id} has credits"

    def check(self, state: State) -> None:
        """Compare the books with what the domain made of the same lines."""
        account = state.account
        assert account.events == self.events
        assert account.status == self.status
        assert set(account.figures) == set(self.balance)
        for unit, figures in account.figures.items():
            assert {name: getattr(figures, name) for name in FIGURES} == self.balance[unit]
            usage = account.usage.get(unit, NO_USAGE)
            period = (unit, self.number)
            assert (usage.used, usage.charged) == (self.used[period], self.charged[period])
            assert usage.allowed == self.allowed[period]
            assert usage.used >= 0 and usage.charged >= 0
            assert usage.charged == sum(usage.payers.values()) or usage.pages, "who paid is known"
        assert account.reclaim == self.reclaim
        occupied: Counter[str] = Counter()
        for work in self.works.values():
            occupied.update(work.occupies if work.is_open else {})
        assert account.occupied == {name: count for name, count in occupied.items() if count}
        assert account.open_holds == sum(work.is_open and work.ends for work in self.works.values())
        for grant_id, purse in self.purses.items():
            self._check_grant(purse, state.grant(grant_id))
        for work_id, work in self.works.items():
            self._check_hold(work, state.hold(work_id))
        for charge_id, charge in self.charges.items():
            self._check_consumption(charge, state.consumption(charge_id))

    def _check_grant(self, purse: Purse, grant: Grant | None) -> None:
        assert grant is not None
        counters = (
            "granted",
            "returned",
            "consumed",
            "adjusted",
            "repaid",
            "rolled_over",
            "expired",
            "revoked",
            "remaining",
            "held",
        )
        for counter in (*counters, "state", "unit", "period"):
            assert getattr(grant, counter) == getattr(purse, counter), f"{grant.id}: {counter}"

    def _check_hold(self, work: Work, hold: Hold | None) -> None:
        assert hold is not None
        assert (hold.state == "open") == work.is_open
        assert hold.held == work.pieces.total() == sum(line.held for line in hold.lines)
        assert (hold.charged, hold.unfunded) == (work.charged, work.unfunded)
        for index, line in enumerate(hold.lines):
            pieces = {grant_id: part for (at, grant_id), part in work.pieces.items() if at == index and part}
            assert line.held == sum(pieces.values())
            held: Counter[str] = Counter()
            for grant_id, amount in line.allocation:
                held[grant_id] += amount
            assert dict(held) == pieces
        assert sum(line.charged for line in hold.lines) == hold.charged, (
            "what the lines were charged is what the hold was"
        )

    def _check_consumption(self, charge: Charge, consumption: Consumption | None) -> None:
        assert consumption is not None
        assert (consumption.charged, consumption.unfunded) == (charge.charged, charge.unfunded)
        assert consumption.refunded == charge.refunded
        assert consumption.unit == charge.unit
