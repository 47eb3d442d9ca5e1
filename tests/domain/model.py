"""A ledger so simple that it can be believed: one account whose credits are single coins.

A grant is a pot with a number of coins, a hold keeps for each of its lines a list with the pot of each coin it took, and
a bill (a consumption) keeps the list of the coins it was paid with, in order. Drawing takes one coin after the other,
charging takes coins from the front of a list, refunding takes them from the end; coins that were owed are called DEBT.
There are no events, no allocations, no deltas and no snapshots, and time is a number of seconds. Written from
SEMANTICS.md, it shares nothing with the domain that it is compared to.

A method that stands for a command returns None, or the code of the refusal; what a refused one leaves behind is thrown
away by the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

DEBT = "a coin that was owed"
WEEK = 7 * 86_400
DAY = 86_400
PRIORITY = {"refund_regrant": 10, "plan": 20, "trial": 30, "promo": 30, "adjustment": 40, "purchase": 50}
OVER = ("over", "revoked")
Charge = tuple[int | None, int]


@dataclass
class Pot:
    """A grant: its coins are what remains of it."""

    name: str
    unit: str
    kind: str
    coins: int
    starts: int
    ends: int | None
    scope: tuple[str, ...] | None
    priority: int
    born: int
    state: str = "live"

    def rank(self) -> tuple[object, ...]:
        """Its place in the order of drawing."""
        never = float("inf")
        return (
            self.priority,
            never if self.ends is None else self.ends,
            self.scope is None,
            self.kind == "purchase",
            self.starts,
            self.born,
        )


@dataclass
class Job:
    """A hold: the coins of each line, and what it came to."""

    unit: str
    operations: list[str | None]
    coins: list[list[str]]
    occupies: dict[str, int]
    dies: int | None
    overage: str
    ends: int | None = None
    """When its time is over, before the grace."""
    begun: int = 0
    state: str = "open"
    lapsed: list[int] = field(default_factory=list)
    """How many coins each line had when the job expired, less what was done of it since."""
    steps: int = 0
    charged: int = 0
    unfunded: int = 0

    @property
    def held(self) -> int:
        """How many coins it holds."""
        return sum(len(line) for line in self.coins)


@dataclass
class Bill:
    """A consumption: the coins that were paid and not refunded yet."""

    unit: str
    coins: list[str]
    unfunded: int


@dataclass
class Plan:
    """What an account may do on it."""

    rank: int
    allowance: dict[str, int]
    limits: dict[str, int]
    overdraft: int
    holds_max: int
    trial: int = 0
    trial_seconds: int | None = None
    late_seconds: int = 72 * 3600


@dataclass
class Model:
    """The account."""

    plans: dict[str, Plan]
    default: str
    period: int
    now: int = 0
    plan: str | None = None
    opened: int = 0
    status: str = "active"
    pots: list[Pot] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    bills: dict[str, Bill] = field(default_factory=dict)
    debt: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    charged: Counter[str] = field(default_factory=Counter)
    allowed: Counter[str] = field(default_factory=Counter)
    minted: Counter[str] = field(default_factory=Counter)
    burnt: Counter[str] = field(default_factory=Counter)
    """Coins that are gone for good: expired, revoked, taken, or given for debt."""

    # -- what can be seen ------------------------------------------------------------------------------------------

    def figures(self, unit: str) -> dict[str, int]:
        """The balance of a unit."""
        pots = [pot for pot in self.pots if pot.unit == unit]
        live = [pot for pot in pots if pot.state == "live"]
        return {
            "available": sum(pot.coins for pot in live if pot.scope is None),
            "scoped": sum(pot.coins for pot in live if pot.scope is not None),
            "scheduled": sum(pot.coins for pot in pots if pot.state == "waiting"),
            "reserved": sum(job.held for job in self.jobs.values() if job.unit == unit),
            "debt": self.debt[unit],
            "bonus": sum(pot.coins for pot in live if pot.scope is None and pot.kind not in ("plan", "purchase")),
        }

    def occupied(self) -> dict[str, int]:
        """What open jobs occupy."""
        used: Counter[str] = Counter()
        for job in self.jobs.values():
            if job.state == "open":
                used.update(job.occupies)
        return {name: count for name, count in used.items() if count}

    def conserved(self) -> bool:
        """Whether every coin that ever was is in a pot, in a job, in a bill, or gone for good."""
        for unit in {pot.unit for pot in self.pots}:
            figures = self.figures(unit)
            paid = sum(len([c for c in bill.coins if c != DEBT]) for bill in self.bills.values() if bill.unit == unit)
            there = figures["available"] + figures["scoped"] + figures["scheduled"] + figures["reserved"]
            if self.minted[unit] != there + paid + self.burnt[unit]:
                return False
        return True

    def boundaries(self) -> list[int]:
        """The instants at which time alone will change something."""
        jobs = [job.dies for job in self.jobs.values() if job.state == "open"]
        ends = [pot.ends for pot in self.pots if pot.state not in OVER]
        lates = [self._late_until(job) for job in self.jobs.values() if job.state == "expired"]
        starts = [pot.starts for pot in self.pots if pot.state == "waiting"]
        return sorted({at for at in (*jobs, *ends, *starts, *lates) if at is not None and at > self.now})

    # -- time ------------------------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """Let time pass, one happening after the other."""
        while True:
            due: list[tuple[int, int, str]] = []
            for name, job in self.jobs.items():
                if job.state == "open" and job.dies is not None and job.dies <= now:
                    due.append((job.dies, 0, name))
            for pot in self.pots:
                if pot.state not in OVER and pot.ends is not None and pot.ends <= now:
                    due.append((pot.ends, 1, pot.name))
                if pot.state == "waiting" and pot.starts <= now:
                    due.append((pot.starts, 2, pot.name))
            if not due:
                break
            self.now, what, name = min(due)
            if what == 0:
                self.jobs[name].state = "expired"
                self.jobs[name].lapsed = [len(line) for line in self.jobs[name].coins]
                self._return(self.jobs[name])
                continue
            pot = next(pot for pot in self.pots if pot.name == name)
            if what == 1:
                self.burnt[pot.unit] += pot.coins
                pot.coins, pot.state = 0, "over"
            else:
                pot.state = "live"
                self._pay_debt(pot.unit)
        self.now = now

    # -- coins -----------------------------------------------------------------------------------------------------

    def _mint(
        self,
        kind: str,
        unit: str,
        coins: int,
        *,
        name: str | None = None,
        starts: int | None = None,
        ends: int | None = None,
        scope: tuple[str, ...] | None = None,
        priority: int | None = None,
    ) -> None:
        waits = starts is not None and starts > self.now
        self.pots.append(
            Pot(
                name=name or f"pot {len(self.pots)}",
                unit=unit,
                kind=kind,
                coins=coins,
                starts=starts if starts is not None and waits else self.now,
                ends=ends,
                scope=scope,
                priority=PRIORITY[kind] if priority is None else priority,
                born=len(self.pots),
                state="waiting" if waits else "live",
            )
        )
        self.minted[unit] += coins
        self._pay_debt(unit)

    def _pay_debt(self, unit: str) -> None:
        while self.debt[unit] and self._take(unit, 1, None):
            self.debt[unit] -= 1
            self.burnt[unit] += 1

    def _take(self, unit: str, count: int, operation: str | None) -> list[str]:
        """Take up to `count` coins that the operation may use, each from the first pot that has one."""
        coins: list[str] = []
        for _ in range(count):
            pots = [
                pot
                for pot in self.pots
                if pot.unit == unit
                and pot.state == "live"
                and pot.coins
                and (pot.scope is None or (operation is not None and operation in pot.scope))
            ]
            if not pots:
                break
            first = min(pots, key=Pot.rank)
            first.coins -= 1
            coins.append(first.name)
        return coins

    def _return(self, job: Job) -> None:
        """Give back all coins of a job that ended."""
        for line in job.coins:
            for coin in line:
                pot = next(pot for pot in self.pots if pot.name == coin)
                if pot.state in OVER:
                    self.burnt[job.unit] += 1
                    self.allowed[job.unit] -= 1 if pot.state == "revoked" and pot.kind == "plan" else 0
                else:
                    pot.coins += 1
            line.clear()
        self._pay_debt(job.unit)

    # -- commands --------------------------------------------------------------------------------------------------

    def open(self, plan: str) -> None:
        """The first command of an account."""
        self.plan, self.opened = plan, self.now
        for unit, amount in self.plans[plan].allowance.items():
            self._allow(unit, amount)
        if self.plans[plan].trial:
            seconds = self.plans[plan].trial_seconds
            self._mint("trial", "credits", self.plans[plan].trial, ends=None if seconds is None else self.now + seconds)

    def _allow(self, unit: str, amount: int) -> None:
        if amount > 0:
            self._mint("plan", unit, amount, ends=self.opened + self.period)
            self.allowed[unit] += amount

    def change_plan(self, plan: str) -> str | None:
        """Open on a plan, or go up to it."""
        if self.plan is None:
            self.open(plan)
            return None
        if self.status == "closed":
            return "account_closed"
        if self.plans[plan].rank < self.plans[self.plan].rank:
            return "invalid_request"
        if plan != self.plan:
            self.plan = plan
            for unit, amount in self.plans[plan].allowance.items():
                self._allow(unit, amount - self.allowed[unit])
        return None

    def grant(
        self,
        name: str,
        unit: str,
        coins: int,
        kind: str,
        *,
        starts: int | None,
        ends: int | None,
        scope: tuple[str, ...] | None,
        priority: int | None,
    ) -> str | None:
        """Give coins."""
        if self.plan is None:
            return "account_not_found"
        if self.status == "closed":
            return "account_closed"
        if ends is not None and (ends <= self.now or (starts is not None and ends <= starts)):
            return "invalid_request"
        self._mint(kind, unit, coins, name=name, starts=starts, ends=ends, scope=scope, priority=priority)
        return None

    def _cover(self, unit: str, lines: Sequence[tuple[str | None, int]]) -> list[list[str]] | None:
        coins = [self._take(unit, amount, operation) for operation, amount in lines]
        return coins if all(len(got) == amount for got, (_, amount) in zip(coins, lines, strict=True)) else None

    def _fits(self, occupies: dict[str, int]) -> bool:
        assert self.plan is not None
        limits, used = self.plans[self.plan].limits, self.occupied()
        return all(used.get(name, 0) + n <= limits.get(name, 10**9) for name, n in occupies.items() if n)

    def reserve(
        self,
        name: str,
        unit: str,
        lines: Sequence[tuple[str | None, int]],
        occupies: dict[str, int],
        *,
        dies: int | None,
        overage: str,
        ends: int | None = None,
    ) -> str | None:
        """Hold coins for each line."""
        if self.plan is None:
            self.open(self.default)
        assert self.plan is not None
        if self.status != "active":
            return f"account_{self.status}"
        if name in self.jobs or name in self.bills:
            return "already_exists"
        ending = [job for job in self.jobs.values() if job.state == "open" and job.dies is not None]
        if dies is not None and len(ending) >= self.plans[self.plan].holds_max:
            return "too_many_holds"
        if not self._fits(occupies):
            return "capacity_exceeded"
        coins = self._cover(unit, lines)
        if coins is None:
            return "insufficient_credits"
        operations = [operation for operation, _ in lines]
        self.jobs[name] = Job(unit, operations, coins, occupies, dies, overage, ends, self.now)
        return None

    def direct(
        self, name: str, unit: str, lines: Sequence[tuple[str | None, int]], occupies: dict[str, int]
    ) -> str | None:
        """Pay at once."""
        if self.plan is None:
            self.open(self.default)
        if self.status != "active":
            return f"account_{self.status}"
        if name in self.jobs or name in self.bills:
            return "already_exists"
        if not self._fits(occupies):
            return "capacity_exceeded"
        coins = self._cover(unit, lines)
        if coins is None:
            return "insufficient_credits"
        self._book(name, unit, [coin for line in coins for coin in line], 0)
        return None

    def _book(self, name: str, unit: str, coins: list[str], unfunded: int) -> None:
        self.bills[name] = Bill(unit, coins, unfunded)
        self.used[unit] += len(coins) + unfunded
        self.charged[unit] += len(coins)

    def _ended(self, name: str) -> str | None:
        if self.plan is None:
            return "account_not_found"
        if name not in self.jobs:
            return "reservation_not_found"
        return None if self.jobs[name].state == "open" else "reservation_finalized"

    def release(self, name: str) -> str | None:
        """Give up a job."""
        refused = self._ended(name)
        if refused is None:
            self.jobs[name].state = "released"
            self._return(self.jobs[name])
        return refused

    def consume(self, name: str, charges: Sequence[Charge] | None, *, final: bool) -> str | None:
        """Charge a step: lines by their number, or None for all in order; without charges all that is held."""
        if name in self.jobs and self.jobs[name].state == "expired":
            return self._consume_late(name, charges, final=final)
        refused = self._ended(name)
        if refused is not None:
            return refused
        job = self.jobs[name]
        charges = [(None, job.held)] if charges is None else charges
        if not final and not any(amount for _, amount in charges):
            return "invalid_request"
        coins, excess = self._charge(job, charges)
        missing = sum(amount for _, amount in excess)
        if missing and job.overage == "reject":
            return "exceeds_reservation"
        if job.overage == "draw":
            for line, amount in excess:
                operation = None if line is None else job.operations[line]
                coins += self._take(job.unit, amount, operation)
            assert self.plan is not None
            missing = sum(amount for _, amount in charges) - len(coins)
            owed = min(missing, max(0, self.plans[self.plan].overdraft - self.debt[job.unit]))
            self.debt[job.unit] += owed
            coins += [DEBT] * owed
            missing -= owed
        job.charged += len(coins)
        job.unfunded += missing
        job.steps += 0 if final else 1
        self._book(name if final else f"{name}:{job.steps}", job.unit, coins, missing)
        if final:
            job.state = "settled"
            self._return(job)
        return None

    def _late_until(self, job: Job) -> int | None:
        assert self.plan is not None
        return None if job.dies is None else job.dies + self.plans[self.plan].late_seconds

    def _consume_late(self, name: str, charges: Sequence[Charge] | None, *, final: bool) -> str | None:
        """Charge a job whose coins went back: what it had of each line first, as far as there are coins now."""
        assert self.plan is not None
        job = self.jobs[name]
        until = self._late_until(job)
        if until is None or self.now >= until:
            return "reservation_expired"
        charges = [(None, sum(job.lapsed))] if charges is None else charges
        actual = sum(amount for _, amount in charges)
        if not final and actual == 0:
            return "invalid_request"
        wanted: list[Charge] = []
        beyond: list[Charge] = []
        for line, amount in charges:
            missing = amount
            for index in range(len(job.lapsed)) if line is None else [line]:
                part = min(missing, job.lapsed[index])
                job.lapsed[index] -= part
                missing -= part
                wanted.append((index, part))
            beyond += [(line, missing)] if missing else []
        if beyond and job.overage == "reject":
            return "exceeds_reservation"
        coins: list[str] = []
        for line, amount in wanted + (beyond if job.overage == "draw" else []):
            coins += self._take(job.unit, amount, None if line is None else job.operations[line])
        room = 0 if job.overage == "cap" else max(0, self.plans[self.plan].overdraft - self.debt[job.unit])
        owed = min(actual - len(coins), room)
        self.debt[job.unit] += owed
        coins += [DEBT] * owed
        job.charged += len(coins)
        job.unfunded += actual - len(coins)
        job.steps += 0 if final else 1
        job.state = "settled_late" if final else "expired"
        self._book(name if final else f"{name}:{job.steps}", job.unit, coins, actual - len(coins))
        return None

    def extend(self, name: str, ttl: int | None, amount: int, occupies: dict[str, int] | None) -> str | None:
        """Give a job more time, more coins, and other room."""
        if self.plan is None:
            return "account_not_found"
        if self.status == "closed" or (self.status == "frozen" and amount):
            return f"account_{self.status}"
        if name not in self.jobs:
            return "reservation_not_found"
        job = self.jobs[name]
        in_time = job.state == "open" and (job.ends is None or self.now < job.ends)
        if job.state == "expired" or (job.state == "open" and not in_time):
            return "reservation_expired"
        if job.state != "open":
            return "reservation_finalized"
        if job.ends is None and amount:
            return "invalid_request"
        if not self._live_on(job, ttl, modest=bool(amount) or occupies is not None):
            return "invalid_request"
        named = occupies or {}
        if not self._fits({room: max(0, count - job.occupies.get(room, 0)) for room, count in named.items()}):
            return "capacity_exceeded"
        job.occupies = {**job.occupies, **named}
        for _ in range(amount):
            pots = [pot for pot in self.pots if pot.unit == job.unit and pot.state == "live" and pot.coins]
            pots = [pot for pot in pots if self._first_line(job, pot) < len(job.operations)]
            if not pots:
                return "insufficient_credits"
            first = min(pots, key=Pot.rank)
            first.coins -= 1
            job.coins[self._first_line(job, first)].append(first.name)
        return None

    def _live_on(self, job: Job, ttl: int | None, *, modest: bool) -> bool:
        """Let a job live longer, a day at most; a modest one that asked for no time takes what there is."""
        if job.ends is None or job.dies is None:
            return True
        last, end = job.begun + DAY, self.now + (300 if ttl is None else ttl)
        if end > last and ttl is None and modest:
            end = last
        job.ends, job.dies = max(job.ends, end), job.dies - job.ends + max(job.ends, end)
        return end <= last

    def _first_line(self, job: Job, pot: Pot) -> int:
        """The first line of a job that may use a pot; beyond the last when none may."""
        if pot.scope is None:
            return 0
        fitting = [index for index, operation in enumerate(job.operations) if operation in pot.scope]
        return min(fitting, default=len(job.operations))

    def revoke(self, name: str) -> str | None:
        """Take what is left in a pot, and end it."""
        if self.plan is None:
            return "account_not_found"
        if self.status == "closed":
            return "account_closed"
        pot = next((pot for pot in self.pots if pot.name == name), None)
        if pot is None:
            return "grant_not_found"
        self.burnt[pot.unit] += pot.coins
        self.allowed[pot.unit] -= pot.coins if pot.kind == "plan" else 0
        pot.coins, pot.state = 0, "revoked"
        return None

    def adjust(self, name: str, unit: str, amount: int, insufficient: str | None) -> str | None:
        """Add coins, or take some."""
        if self.plan is None:
            return "account_not_found"
        if self.status == "closed":
            return "account_closed"
        if amount > 0:
            self._mint("adjustment", unit, amount, name=name)
            return None
        missing = -amount - len(self._take(unit, -amount, None))
        if missing and insufficient not in ("clamp", "debt"):
            return "insufficient_credits"
        self.burnt[unit] += -amount - missing
        self.debt[unit] += missing if insufficient == "debt" else 0
        return None

    def set_status(self, status: str) -> str | None:
        """Freeze the account, close it, or open it again."""
        if self.plan is None:
            return "account_not_found"
        self.status = status
        return None

    def _charge(self, job: Job, charges: Sequence[Charge]) -> tuple[list[str], list[Charge]]:
        """Take coins of the job, first drawn first; say what it had not."""
        coins: list[str] = []
        excess: list[Charge] = []
        for line, amount in charges:
            missing = amount
            for held in job.coins if line is None else [job.coins[line]]:
                while missing and held:
                    coins.append(held.pop(0))
                    missing -= 1
            if missing:
                excess.append((line, missing))
        return coins, excess

    def refund(self, name: str, amount: int | None) -> str | None:
        """Give coins of a bill back, the last one first."""
        if self.plan is None:
            return "account_not_found"
        if name not in self.bills:
            return "consumption_not_found"
        bill = self.bills[name]
        left = len(bill.coins)
        count = left if amount is None else amount
        if count > left or (left == 0 and bill.unfunded == 0):
            return "refund_exceeds_consumption"
        if count == 0 and left:
            return "invalid_request"
        owed, anew = 0, Counter[str]()
        for _ in range(count):
            coin = bill.coins.pop()
            if coin == DEBT:
                owed += 1
                continue
            pot = next(pot for pot in self.pots if pot.name == coin)
            if pot.state == "live":
                pot.coins += 1
            elif pot.state == "revoked":
                self.burnt[bill.unit] += 1
            else:
                anew[coin] += 1
                self.burnt[bill.unit] += 1
        lowered = min(owed, self.debt[bill.unit])
        self.debt[bill.unit] -= lowered
        self._pay_debt(bill.unit)
        if owed > lowered:
            self._mint("refund_regrant", bill.unit, owed - lowered)
        for source, coins in anew.items():
            pot = next(pot for pot in self.pots if pot.name == source)
            assert pot.ends is not None
            ends = max(pot.ends, self.now + WEEK)
            self._mint("refund_regrant", bill.unit, coins, ends=ends, scope=pot.scope)
        self.used[bill.unit] -= count
        self.charged[bill.unit] -= count
        if not bill.coins:
            self.used[bill.unit] -= bill.unfunded
            bill.unfunded = 0
        return None
