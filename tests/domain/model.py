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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

DEBT = "a coin that was owed"
WEEK = 7 * 86_400
DAY = 86_400
PRIORITY = {
    "rollover": 10,
    "refund_regrant": 10,
    "plan": 20,
    "trial": 30,
    "promo": 30,
    "adjustment": 40,
    "purchase": 50,
}
OVER = ("over", "revoked")
UNITS = ("credits", "minutes")
Charge = tuple[int | None, int]


def _merged(before: dict[str, int], asked: dict[str, int | None]) -> dict[str, int]:
    """Limits with those that are asked for; None takes one away."""
    return {name: n for name, n in {**before, **asked}.items() if n is not None}


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
    period: int | None = None
    """The instant at which the period began whose allowance it is."""

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
    period: int
    """The number of the period in which it was written."""
    given_back: bool = False


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
    renewal: str = "auto"
    half_rolls_over_to: int = 0
    """Half of what is left of the allowance rolls over, up to so much."""
    clears_bonus: bool = False
    grace: int = 0


@dataclass
class Model:
    """The account."""

    plans: dict[str, Plan]
    default: str
    grid: Callable[[int, int], int]
    """The start of a period: from the anchor, so many periods on."""
    now: int = 0
    plan: str | None = None
    status: str = "active"
    anchor: int = 0
    place: int = 0
    """Which period from the anchor on it is."""
    periods: int = 0
    """How many periods there were."""
    own: dict[str, int] = field(default_factory=dict)
    """The plan's allowance as it was when the period began or the plan changed."""
    overrides: dict[str, int] = field(default_factory=dict)
    more_room: dict[str, int] = field(default_factory=dict)
    """The limits that override the plan's."""
    pending: str | None = None
    reclaim: Counter[str] = field(default_factory=Counter)
    references: set[str] = field(default_factory=set)
    paid: set[int] = field(default_factory=set)
    pots_from: int = 0
    """Pots born before are of a period that began at the same instant as this one."""
    is_paid: bool = False
    ahead: dict[str, int] | None = None
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

    @property
    def start(self) -> int:
        """When the present period began."""
        return self.grid(self.anchor, self.place)

    @property
    def end(self) -> int:
        """When the present period ends."""
        return self.grid(self.anchor, self.place + 1)

    def place_of(self, instant: int) -> int:
        """Which period contains an instant that is not before the anchor."""
        place = 0
        while self.grid(self.anchor, place + 1) <= instant:
            place += 1
        return place

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
        turns = [] if self.plan is None else [self.end]
        return sorted({at for at in (*jobs, *ends, *starts, *turns, *lates) if at is not None and at > self.now})

    # -- time ------------------------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """Let time pass, one happening after the other."""
        while due := self._due(now):
            self.now, what, name = min(due)
            if what == 0:
                self.jobs[name].state = "expired"
                self.jobs[name].lapsed = [len(line) for line in self.jobs[name].coins]
                self._return(self.jobs[name])
                continue
            if what == 1:
                self._turn(int(name))
                continue
            pot = next(pot for pot in self.pots if pot.name == name)
            if what == 2:
                self._end(pot)
            else:
                pot.state = "live"
                if self._is_allowance(pot):
                    self.allowed[pot.unit] += pot.coins
                self._pay_debt(pot.unit)
        self.now = now

    def _due(self, now: int) -> list[tuple[int, int, str]]:
        """What happens until `now`: when, in which order at one instant, and to what."""
        due: list[tuple[int, int, str]] = []
        for name, job in self.jobs.items():
            if job.state == "open" and job.dies is not None and job.dies <= now:
                due.append((job.dies, 0, name))
        turn = self._due_turn(now)
        if turn is not None:
            due.append((self.grid(self.anchor, turn), 1, str(turn)))
        for pot in self.pots:
            if pot.state in ("live", "waiting") and pot.ends is not None and pot.ends <= now:
                due.append((pot.ends, 2, pot.name))
            if pot.state == "waiting" and pot.starts <= now:
                due.append((pot.starts, 3, pot.name))
        return due

    # -- periods ---------------------------------------------------------------------------------------------------

    def _due_turn(self, now: int) -> int | None:
        """Which period begins by itself until `now`."""
        if self.plan is None or self.end > now or self.status == "closed":
            return None
        to = self.plans[self.pending or self.plan]
        if "auto" not in (to.renewal, self.plans[self.plan].renewal) and self.ahead is None:
            return None
        return self.place_of(now) if to.renewal == "auto" else self.place + 1

    def _turn(self, place: int, plan: str | None = None) -> None:
        """Begin a later period of the grid, on another plan perhaps."""
        assert self.plan is not None
        old = self.plans[self.plan]
        ahead = self.ahead if self.ahead is not None and place == self.place + 1 else None
        carried = {} if place != self.place + 1 else self._carry(old)
        if plan is not None or self.pending is not None:
            self.overrides, self.more_room = {}, {}
        self.plan, self.pending = plan or self.pending or self.plan, None
        self._begin(self.anchor, place, paid=ahead is not None)
        self.pots_from = 0
        self._end_old(old)
        for unit, coins in carried.items():
            self.minted[unit] -= coins
            self._mint("rollover", unit, coins, ends=self.end)
        before = ahead or {}
        for unit in sorted([*self._allowance(), *(unit for unit in before if unit not in self._allowance())]):
            more = self._allowance().get(unit, 0) - before.get(unit, 0)
            self._allow(unit, more)
            for pot in self.pots:
                if self._is_allowance(pot) and pot.state == "waiting" and pot.unit == unit and more < 0:
                    taken = min(pot.coins, -more)
                    pot.coins -= taken
                    self.burnt[unit] += taken
                    more += taken
                    pot.state = "waiting" if pot.coins else "revoked"

    def _begin(self, anchor: int, place: int, *, paid: bool) -> None:
        assert self.plan is not None
        self.anchor, self.place = anchor, place
        self.periods += 1
        for counter in (self.used, self.charged, self.allowed, self.reclaim):
            counter.clear()
        self.own = dict(self.plans[self.plan].allowance)
        self.ahead = None
        self.is_paid = paid

    def _end_old(self, old: Plan) -> None:
        """End the allowance, and bonus when the plan clears it; what rolled over before has an end of its own."""
        ending = ("plan", "trial", "promo") if old.clears_bonus else ("plan",)
        for pot in self.pots:
            if pot.state == "live" and pot.kind in ending and not self._is_drained(pot):
                self._end(pot)

    def _carry(self, old: Plan) -> dict[str, int]:
        """Take out of the allowance what rolls over."""
        carried: dict[str, int] = {}
        for unit in ("credits", "minutes"):
            pots = [pot for pot in self.pots if pot.unit == unit and pot.kind == "plan" and pot.state == "live"]
            count = min(old.half_rolls_over_to, sum(pot.coins for pot in pots) // 2)
            left = count
            for pot in sorted(pots, key=Pot.rank):
                taken = min(pot.coins, left)
                pot.coins -= taken
                left -= taken
            if count:
                carried[unit] = count
        return carried

    def _end(self, pot: Pot, state: str = "over") -> None:
        self.burnt[pot.unit] += pot.coins
        pot.coins, pot.state = 0, state

    def _allowance(self) -> dict[str, int]:
        return {**self.own, **self.overrides}

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
        period: int | None = None,
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
                period=period,
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
        self._put_back(job.unit, [coin for line in job.coins for coin in line], held=True)
        for line in job.coins:
            line.clear()
        self._pay_debt(job.unit)

    def _pot(self, name: str) -> Pot:
        return next(pot for pot in self.pots if pot.name == name)

    def _put_back(self, unit: str, coins: Iterable[str], *, held: bool = False) -> None:
        """Put coins back where they came from, pot by pot; those that are reclaimed or whose pot has ended are gone."""
        for name, count in Counter(coins).items():
            pot = self._pot(name)
            if self._is_over(pot):
                self.burnt[unit] += count
                if held and pot.state == "revoked" and self._is_allowance(pot):
                    self.allowed[unit] -= count
                continue
            gone = min(count, self.reclaim[unit]) if self._is_allowance(pot) else 0
            self.reclaim[unit] -= gone
            self.allowed[unit] -= gone
            self.burnt[unit] += gone
            pot.coins += count - gone

    def _is_drained(self, pot: Pot) -> bool:
        """Whether nothing of a pot is left, nor held by a job."""
        held = any(pot.name in line for job in self.jobs.values() for line in job.coins)
        return pot.coins == 0 and not held

    def _is_over(self, pot: Pot) -> bool:
        """Whether a pot can have no coins any more; a drained allowance ends with its period."""
        if pot.kind == "plan" and pot.state == "live" and not self._is_allowance(pot):
            return self._is_drained(pot)
        return pot.state != "live"

    def _is_allowance(self, pot: Pot) -> bool:
        """Whether a pot is allowance of the present period."""
        return pot.kind == "plan" and pot.period == self.start and pot.born >= self.pots_from

    # -- commands --------------------------------------------------------------------------------------------------

    def open(self, plan: str, reference: str | None = None, allowance: dict[str, int] | None = None) -> None:
        """The first command of an account."""
        self.plan = plan
        self._begin(self.now, 0, paid=False)
        self.overrides = dict(allowance or {})
        self._pay(self.start, reference)
        for unit, amount in sorted(self._allowance().items()):
            self._allow(unit, amount)
        if self.plans[plan].trial:
            seconds = self.plans[plan].trial_seconds
            self._mint("trial", "credits", self.plans[plan].trial, ends=None if seconds is None else self.now + seconds)

    def _pay(self, start: int, reference: str | None) -> None:
        """Remember a payment; the first one of a period counts."""
        if reference is not None:
            self.references.add(reference)
        if not self.is_paid:
            self.is_paid = True
            self.paid.add(start)

    def _allow(self, unit: str, amount: int) -> None:
        """Mint allowance of the present period, if it would not have ended already."""
        assert self.plan is not None
        ends = self.end + self.plans[self.plan].grace
        if amount > 0 and ends > self.now:
            self._mint("plan", unit, amount, ends=ends, period=self.start)
            self.allowed[unit] += amount

    def change_plan(
        self, plan: str, when: str | None = None, *, reset: bool = False, reference: str | None = None
    ) -> str | None:
        """Open on a plan, or change to it now or later."""
        if self.plan is None:
            self.open(plan, reference)
            return None
        if reset and reference in self.references:
            return "counted"
        if self.status == "closed":
            return "account_closed"
        if plan == self.plan and not reset:
            self.pending = None
            return None
        higher = self.plans[plan].rank >= self.plans[self.plan].rank
        if reset:
            if when == "next_period" or not higher:
                return "invalid_request"
            self._reset(plan, reference)
        elif (when or ("now" if higher else "next_period")) == "next_period":
            if self.end <= self.now and self.plans[plan].renewal == "auto":
                self._turn_now(plan, reference)
            else:
                self.pending = plan
        elif self.end <= self.now:
            self._turn_now(plan, reference)
        else:
            self.plan, self.pending = plan, None
            self.own, self.overrides, self.more_room = dict(self.plans[plan].allowance), {}, {}
            self._move(UNITS, down=not higher)
            if higher and reference is not None and reference not in self.references:
                self._pay(self.start, reference)
        return None

    def _turn_now(self, plan: str, reference: str | None) -> None:
        self._turn(self.place_of(self.now), plan)
        if reference is not None and reference not in self.references:
            self._pay(self.start, reference)

    def _reset(self, plan: str, reference: str | None) -> None:
        old = [pot for pot in self.pots if pot.kind == "plan" and pot.state == "live" and not self._is_drained(pot)]
        same_start = self.start == self.now
        self.plan, self.pending, self.overrides, self.more_room = plan, None, {}, {}
        self._begin(self.now, 0, paid=False)
        self.pots_from = len(self.pots) if same_start else 0
        self._pay(self.now, reference)
        for pot in old:
            self._end(pot, "revoked")
        for unit, amount in sorted(self._allowance().items()):
            self._allow(unit, amount)

    def _move(self, units: Iterable[str], *, down: bool) -> None:
        """Bring what was granted in this period up to the allowance, or down to it."""
        for unit in units:
            granted = self.allowed[unit] - self.reclaim[unit]
            more = self._allowance().get(unit, 0) - granted
            if more > 0:
                kept = min(self.reclaim[unit], more)
                self.reclaim[unit] -= kept
                self._allow(unit, more - kept)
            elif down:
                mine = [
                    pot for pot in self.pots if self._is_allowance(pot) and pot.unit == unit and pot.state == "live"
                ]
                for pot in sorted(mine, key=Pot.rank, reverse=True):
                    taken = min(pot.coins, -more)
                    pot.coins -= taken
                    self.burnt[unit] += taken
                    self.allowed[unit] -= taken
                    more += taken
                self.reclaim[unit] -= more

    def limits(self, allowance: dict[str, int | None], room: dict[str, int | None]) -> str | None:
        """Override limits by name."""
        if self.plan is None:
            self.open(self.default, None, {unit: n for unit, n in allowance.items() if n is not None})
        elif self.status == "closed":
            return "account_closed"
        elif (after := _merged(self.overrides, allowance)) != self.overrides or _merged(
            self.more_room, room
        ) != self.more_room:
            self.overrides = after
            self._move(sorted(allowance), down=True)
        self.more_room = _merged(self.more_room, room)
        return None

    def renew(self, reference: str, start: int | None) -> str | None:
        """Count a payment."""
        if self.plan is None:
            return "account_not_found"
        if reference in self.references:
            return "counted"
        if self.status == "closed":
            return "account_closed"
        over = self.end <= self.now
        present = self.grid(self.anchor, self.place_of(self.now)) if over else self.start
        near = self.now >= self.end - min(3 * 86_400, (self.end - self.start) // 4)
        if start is None:
            start = self.end if not over and self.is_paid and near else present
        if start in self.paid:
            return "counted"
        if start < self.anchor or self.grid(self.anchor, self.place_of(start)) != start:
            return "invalid_request"
        if start < present:
            return "period_passed"
        if over and start == present:
            self._turn(self.place_of(self.now))
        elif not over and start == self.end and near:
            self._pay_ahead(start)
            self.references.add(reference)
            return None
        elif start != present:
            return "invalid_request"
        self._pay(start, reference)
        return None

    def _pay_ahead(self, start: int) -> None:
        to = self.plans[self.pending or self.plan or ""]
        self.ahead = dict(to.allowance) if self.pending else {**to.allowance, **self.overrides}
        self.paid.add(start)
        for unit, amount in sorted(self.ahead.items()):
            if amount:
                ends = self.grid(self.anchor, self.place + 2) + to.grace
                self._mint("plan", unit, amount, starts=start, ends=ends, period=start)

    def reset_usage(self, unit: str | None) -> str | None:
        """Give back what this period's bills paid."""
        if self.plan is None:
            return "account_not_found"
        if self.status == "closed":
            return "account_closed"
        for each in [unit] if unit is not None else UNITS:
            coins: list[str] = []
            for bill in self.bills.values():
                if bill.unit == each and bill.period == self.periods and not bill.given_back:
                    bill.given_back = True
                    coins += bill.coins
                    bill.coins = []
            coins.sort(key=lambda coin: -1 if coin == DEBT else self._pot(coin).born)
            self._restore(each, coins)
            self.used[each] = self.charged[each] = 0
        return None

    def _restore(self, unit: str, coins: list[str]) -> None:
        """Give back coins that were paid: owed ones lower the debt, those of ended pots are minted anew."""
        owed = coins.count(DEBT)
        lowered = min(owed, self.debt[unit])
        self.debt[unit] -= lowered
        anew = Counter(
            coin
            for coin in coins
            if coin != DEBT and self._pot(coin).state != "revoked" and self._is_over(self._pot(coin))
        )
        self._put_back(unit, [coin for coin in coins if coin != DEBT])
        self._pay_debt(unit)
        if owed > lowered:
            self._mint("refund_regrant", unit, owed - lowered)
        for source, count in anew.items():
            pot = self._pot(source)
            ends = None if pot.ends is None else max(pot.ends, self.now + WEEK)
            self._mint("refund_regrant", unit, count, ends=ends, scope=pot.scope)

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
        limits, used = {**self.plans[self.plan].limits, **self.more_room}, self.occupied()
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
        self.bills[name] = Bill(unit, coins, unfunded, self.periods)
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
        if self._is_allowance(pot) and pot.state == "live":
            self.allowed[pot.unit] -= pot.coins
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
        opens = self.status == "closed" and status != "closed"
        self.status = status
        if opens:
            self._reopen()
        return None

    def _reopen(self) -> None:
        """Begin a period now in an account that was closed."""
        assert self.plan is not None
        old = self.plans[self.plan]
        same_start = self.start == self.now
        if self.pending is not None:
            self.overrides, self.more_room = {}, {}
        self.plan, self.pending = self.pending or self.plan, None
        self._begin(self.now, 0, paid=False)
        self.pots_from = len(self.pots) if same_start else 0
        self._pay(self.now, None)
        self._end_old(old)
        for unit, amount in sorted(self._allowance().items()):
            self._allow(unit, amount)

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
        if bill.given_back or count > left or (left == 0 and bill.unfunded == 0):
            return "refund_exceeds_consumption"
        if count == 0 and left:
            return "invalid_request"
        self._restore(bill.unit, [bill.coins.pop() for _ in range(count)])
        if bill.period != self.periods:
            bill.unfunded = 0 if not bill.coins else bill.unfunded
            return None
        self.used[bill.unit] -= count
        self.charged[bill.unit] -= count
        if not bill.coins:
            self.used[bill.unit] -= bill.unfunded
            bill.unfunded = 0
        return None
