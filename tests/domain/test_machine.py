"""The law of all laws: whatever commands come, whatever the clock does, the domain and a ledger of coins agree.

Hypothesis makes up catalogs, commands and jumps of the clock (onto the very instants at which holds, grants and periods
end, and just before them). After every step the domain's account must look like the model's (`tests.domain.model`), and
every check of a story holds: identities, replay, snapshots, cold decisions, answers, hash chain. Before a reserve, a
check is asked, and must have told what comes.

The clock starts on the 31st of a month, so that periods of a month end on other days. Two catalogs take turns.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from events.account import NO_USAGE, ZERO
from events.catalog import Catalog
from events.decide import Decision, due_facts
from events.facts import Granted
from events.grants import Grant
from events.instants import Instant, plus
from tests.domain.books import FIGURES
from tests.domain.model import Model, Plan
from tests.domain.scenario import Story, judged
from tests.domain.shop import (
    adjust,
    catalog,
    change_plan,
    consume,
    direct,
    extend,
    granted,
    limits,
    line,
    part,
    refund,
    release,
    renew,
    reserve,
    reset_usage,
    revoke,
    status,
)

DAY = 86_400
START = Instant("2028-01-31T09:30:00.000000Z")
PERIOD = 10 * DAY
UNITS = ("credits", "minutes")
DEFAULT_TTL = {"reel": 50, "video": 100}
PRICE: dict[str, Callable[[int, bool], int]] = {
    "image": lambda quantity, hd: quantity,
    "reel": lambda quantity, hd: 2 * quantity,
    "video": lambda quantity, hd: (1 + 3 * quantity) * (2 if hd else 1),
    "export": lambda quantity, hd: quantity,
    "upload": lambda quantity, hd: 0,
}
OPERATIONS = sorted(PRICE)

amounts = st.integers(1, 12)
plans = st.sampled_from(["free", "plus", "twin"])
payments = st.sampled_from([None, None, "p1", "p2", "p3"])
renewals = st.sampled_from(["auto", "external"])
quantities = st.integers(1, 4)
picks = st.integers(0, 99)
overages = st.sampled_from([None, "draw", "reject", "cap"])
scopes = st.sampled_from([None, None, ("image",), ("image", "reel"), ("export",)])
ttls = st.sampled_from([-1, -1, 1, 60, 3600, DAY])
priced_lines = st.lists(st.tuples(st.sampled_from(["image", "reel", "video"]), quantities), min_size=1, max_size=3)


def at(seconds: int) -> Instant:
    return plus(START, seconds=seconds)


def ten_days(anchor: int, count: int) -> int:
    """The start of a period of ten days."""
    return anchor + count * PERIOD


def a_month(anchor: int, count: int) -> int:
    """The start of a period of a month: the same day as the anchor's, or the month's last one."""
    zero = datetime(2028, 1, 31, 9, 30)  # noqa: DTZ001 - only differences count
    begun = zero + timedelta(seconds=anchor)
    year, month = divmod(begun.year * 12 + begun.month - 1 + count, 12)
    day = min(begun.day, monthrange(year, month + 1)[1])
    return int((begun.replace(year=year, month=month + 1, day=day) - zero).total_seconds())


class Accounts(RuleBasedStateMachine):
    """One account, twice."""

    sound = False
    """Whether nothing has been found wrong so far, so that there is something to be checked at the end."""

    @initialize(
        allowance=st.integers(0, 15),
        minutes=st.integers(0, 3),
        trial=st.integers(0, 5),
        overdraft=st.sampled_from([0, 4, 30]),
        jobs=st.integers(0, 2),
        holds=st.integers(1, 6),
        grace=st.sampled_from([0, 20]),
        late=st.sampled_from([1, 72, 72]),
        renewals=st.tuples(renewals, renewals),
        rolls=st.sampled_from([0, 2, 9]),
        clears=st.booleans(),
        month=st.booleans(),
    )
    def begin(
        self,
        allowance: int,
        minutes: int,
        trial: int,
        overdraft: int,
        jobs: int,
        holds: int,
        grace: int,
        late: int,
        renewals: tuple[str, str],
        rolls: int,
        clears: bool,
        month: bool,
    ) -> None:
        """Two catalogs, of which the second is more generous and rolls nothing over."""
        self.interval = "month" if month else "10d"
        figures = (trial, jobs, holds, grace, late)
        self.grace = {"reel": grace}
        self.catalogs = [
            self.made(allowance, minutes, overdraft, figures, renewals, rolls, clears=clears),
            self.made(allowance + 4, minutes + 1, overdraft + 2, figures, renewals, 0, clears=not clears),
        ]
        self.story = Story(self.catalogs[0][0], at=START, thorough=False)
        self.model = Model(self.catalogs[0][1], "free", a_month if month else ten_days)
        self.now = 0
        self.names = 0

    def made(
        self,
        allowance: int,
        minutes: int,
        overdraft: int,
        figures: tuple[int, int, int, int, int],
        renewals: tuple[str, str],
        rolls: int,
        *,
        clears: bool,
    ) -> tuple[Catalog, dict[str, Plan]]:
        """A catalog, and its plans as the model knows them."""
        trial, jobs, holds, grace, late = figures
        common = f'interval = "{self.interval}"\nmax_open_holds = {holds}\nlate_window_hours = {late}'
        paid = f'renewal = "{renewals[1]}"\nclear_bonus = {str(clears).lower()}\n{common}'
        common = f'renewal = "{renewals[0]}"\nrollover = {{ share = "0.5", cap = {rolls} }}\n{common}'
        text = f"""
            default_plan = "free"
            [units.minutes]
            [capacities.jobs]
            [capacities.slots]
            [plans.free]
            rank = 0
            allowance = {{ credits = {allowance}, minutes = {minutes} }}
            capacity.jobs = {jobs}
            trial = {{ credits = {trial}, expires_days = 2 }}
            overdraft_limit = {overdraft}
            {common}
            [plans.plus]
            rank = 1
            allowance = {{ credits = {2 * allowance} }}
            capacity = {{ jobs = {jobs + 1}, slots = 3 }}
            {paid}
            [plans.twin]
            rank = 1
            allowance = {{ credits = {allowance + 3}, minutes = {minutes + 2} }}
            overdraft_limit = {2 * overdraft}
            rollover = {{ share = "0.5", cap = {rolls} }}
            {paid}
            [operations.image]
            each = "1"
            [operations.reel]
            each = "2"
            ttl_seconds = {DEFAULT_TTL["reel"]}
            grace_seconds = {grace}
            [operations.video]
            base = "1"
            each = "3"
            multipliers.quality = {{ standard = "1", hd = "2" }}
            occupies.jobs = 1
            ttl_seconds = {DEFAULT_TTL["video"]}
            [operations.export]
            unit = "minutes"
            each = "1"
            [operations.upload]
            occupies_each.slots = 1
        """
        waits = [3 * DAY if renewal == "external" else 0 for renewal in renewals]  # days of grace for the payment
        free = Plan(0, {"credits": allowance, "minutes": minutes}, {"jobs": jobs}, overdraft, holds, trial, 2 * DAY)
        free.renewal, free.grace, free.half_rolls_over_to = renewals[0], waits[0], rolls
        plus_ = Plan(1, {"credits": 2 * allowance}, {"jobs": jobs + 1, "slots": 3}, 0, holds)
        twin = Plan(1, {"credits": allowance + 3, "minutes": minutes + 2}, {}, 2 * overdraft, holds)
        twin.half_rolls_over_to = rolls
        for plan in (plus_, twin):
            plan.renewal, plan.grace, plan.clears_bonus = renewals[1], waits[1], clears
        for plan in (free, plus_, twin):
            plan.late_seconds = late * 3600
        return catalog(text), {"free": free, "plus": plus_, "twin": twin}

    def fresh(self) -> str:
        """An id that nobody has."""
        self.names += 1
        return f"n{self.names}"

    def run(self, command: Any, act: Callable[[Model], str | None]) -> str | None:
        """Let both do the same, and compare."""
        model = deepcopy(self.model)
        model.tick(self.now)
        code = act(model)
        self.sound = False
        refusal = self.story.attempt(command)
        decision = self.story.decision
        told = refusal.code if refusal else "counted" if decision is not None and decision.counted else None
        assert told == code
        event(f"{command.name}: {code or 'accepted'}")
        if code is None:
            self.model = model
        self.compare()
        self.sound = True
        return code

    def compare(self) -> None:
        """Both look the same to a read now."""
        model = deepcopy(self.model)
        model.tick(self.now)
        assert model.conserved()
        account = self.story.read().account
        for unit in UNITS:
            told = account.figures.get(unit, ZERO)
            assert {name: getattr(told, name) for name in FIGURES} == model.figures(unit)
            usage = account.usage.get(unit, NO_USAGE)
            assert (usage.used, usage.charged, usage.allowed) == (
                model.used[unit],
                model.charged[unit],
                model.allowed[unit],
            )
        assert account.occupied == model.occupied()
        assert account.reclaim == {unit: n for unit, n in model.reclaim.items() if n}
        assert account.plan == model.plan
        if model.plan is not None:
            assert (account.period_start, account.period_end) == (at(model.start), at(model.end))
        assert self.pots(account.grants.values()) == self.model_pots(model)

    def pots(self, grants: Any) -> list[tuple[object, ...]]:
        """What can be drawn, in the order in which it is drawn."""
        live: list[Grant] = [grant for grant in grants if grant.state in {"active", "scheduled"} and grant.remaining]
        return [
            (each.kind, each.unit, each.state == "active", each.remaining, each.expires_at, each.operations)
            for each in live
        ]

    def model_pots(self, model: Model) -> list[tuple[object, ...]]:
        live = sorted((pot for pot in model.pots if pot.coins), key=lambda pot: pot.rank())
        return [
            (pot.kind, pot.unit, pot.state == "live", pot.coins, None if pot.ends is None else at(pot.ends), pot.scope)
            for pot in live
        ]

    # -- time ------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 19, 31, 60, 3600, DAY]))
    def time_passes(self, seconds: int) -> None:
        self.to(self.now + seconds)

    @rule(pick=picks, before=st.sampled_from([0, 0, 0, 1]))
    def something_is_due(self, pick: int, before: int) -> None:
        """The clock jumps onto one of the next instants at which something happens, or to a second before it."""
        model = deepcopy(self.model)
        model.tick(self.now)
        boundaries = model.boundaries()[:3]
        if boundaries:
            self.to(max(self.now, boundaries[pick % len(boundaries)] - before))

    def to(self, seconds: int) -> None:
        self.now = seconds
        self.story.at(at(seconds))
        self.compare()

    # -- plans and grants ------------------------------------------------------------------------------------------

    @rule(plan=plans, when=st.sampled_from([None, None, "now", "next_period"]), payment=payments)
    def the_plan_changes(self, plan: str, when: Any, payment: str | None) -> None:
        command = change_plan(plan, when=when, reference=payment)
        self.run(command, lambda model: model.change_plan(plan, when, reference=payment))

    @rule(plan=plans, payment=st.sampled_from(["p1", "p2", "p3"]))
    def the_plan_is_bought_anew(self, plan: str, payment: str) -> None:
        command = change_plan(plan, mode="reset", reference=payment)
        self.run(command, lambda model: model.change_plan(plan, reset=True, reference=payment))

    @rule(
        credits_=st.one_of(st.none(), st.integers(0, 20)),
        minutes=st.sampled_from([-1, -1, None, 4]),
        jobs=st.booleans(),
    )
    def limits_are_overridden(self, credits_: int | None, minutes: int | None, jobs: bool) -> None:
        allowance: dict[str, int | None] = {"credits": credits_}
        if minutes != -1:
            allowance["minutes"] = minutes
        room: dict[str, int | None] = {"jobs": 2} if jobs else {"jobs": None}
        self.run(limits(allowance=allowance, capacity=room), lambda model: model.limits(allowance, room))

    @rule(payment=payments, place=st.sampled_from([None, None, None, -1, 0, 1, 2]), off=st.sampled_from([0, 0, 0, 1]))
    def a_payment_comes(self, payment: str | None, place: int | None, off: int) -> None:
        model = deepcopy(self.model)
        model.tick(self.now)
        start = None if place is None else model.grid(model.anchor, max(0, model.place + place)) + off
        reference = payment or self.fresh()
        command = renew(reference, None if start is None else at(start))
        self.run(command, lambda model: model.renew(reference, start))

    @rule(unit=st.sampled_from([None, "credits", "minutes"]))
    def the_usage_is_reset(self, unit: str | None) -> None:
        self.run(reset_usage(unit=unit), lambda model: model.reset_usage(unit))

    @rule(which=st.sampled_from([0, 1]))
    def another_catalog_comes_into_force(self, which: int) -> None:
        self.story.under(self.catalogs[which][0])
        self.model.plans = self.catalogs[which][1]
        self.compare()

    @precondition(lambda self: self.model.plan is not None)
    @rule(periods=st.sampled_from([1, 1, 2, 13]), before=st.sampled_from([0, 1, DAY, 2 * DAY]))
    def periods_pass(self, periods: int, before: int) -> None:
        model = deepcopy(self.model)
        model.tick(self.now)
        self.to(max(self.now, model.grid(model.anchor, model.place + periods) - before))

    @rule(
        amount=amounts,
        unit=st.sampled_from(["credits", "credits", "credits", "minutes"]),
        kind=st.sampled_from(["promo", "purchase", "trial"]),
        priority=st.sampled_from([None, None, 20, 30]),
        starts=st.sampled_from([None, None, -5, 0, 60, 3600, DAY]),
        ends=st.sampled_from([None, None, 0, 60, 61, 3600, DAY, PERIOD]),
        scope=scopes,
    )
    def credits_are_granted(
        self,
        amount: int,
        unit: str,
        kind: Any,
        priority: int | None,
        starts: int | None,
        ends: int | None,
        scope: tuple[str, ...] | None,
    ) -> None:
        name = self.fresh()
        begin = None if starts is None else self.now + starts
        end = None if ends is None else self.now + ends
        command = granted(
            name,
            amount,
            unit=unit,
            kind=kind,
            priority=priority,
            effective_at=None if begin is None else at(begin),
            expires_at=None if end is None else at(end),
            operations=scope,
        )
        self.run(
            command,
            lambda model: model.grant(name, unit, amount, kind, starts=begin, ends=end, scope=scope, priority=priority),
        )

    @precondition(lambda self: self.model.plan is not None and len(self.model.pots) > 2)
    @rule(pick=picks, latest=st.booleans())
    def a_grant_is_revoked(self, pick: int, latest: bool) -> None:
        """Any grant, however it came to be: the n-th pot of the model is the n-th grant of the log."""
        due = due_facts(self.story.state, self.story.now, self.story.catalog)[1] if self.story.state.exists else []
        told = [(line.event.kind, line.event.data) for line in self.story.log]
        made = [
            data.grant_id
            for kind, data in (*told, *((fact.kind, fact.data) for fact in due))
            if isinstance(data, Granted)
            and data.grant_id is not None
            and kind not in {"activated", "expired", "revoked"}
        ]
        model = deepcopy(self.model)
        model.tick(self.now)
        assert len(made) == len(model.pots)
        index = len(made) - 1 if latest else pick % (len(made) + 1)
        if index < len(made):
            pot = model.pots[index].name
            self.run(revoke(made[index] or ""), lambda model: model.revoke(pot))
        else:
            self.run(revoke("none"), lambda model: model.revoke("none"))

    @rule(
        amount=st.sampled_from([-30, -9, -4, -3, -1, 2, 5, 12]),
        unit=st.sampled_from(["credits", "credits", "minutes"]),
        insufficient=st.sampled_from([None, "reject", "clamp", "debt"]),
    )
    def the_balance_is_adjusted(self, amount: int, unit: str, insufficient: Any) -> None:
        name = self.fresh()
        command = adjust(amount, unit=unit, insufficient=insufficient)
        self.run(command, lambda model: model.adjust(name, unit, amount, insufficient))

    @precondition(lambda self: self.model.plan is not None)
    @rule(to=st.sampled_from(["active", "active", "active", "active", "frozen", "closed"]))
    def the_status_is_set(self, to: str) -> None:
        self.run(status(to), lambda model: model.set_status(to))

    # -- holds -----------------------------------------------------------------------------------------------------

    def ends(self, ttl: int | None, lines: list[tuple[str | None, int]]) -> int | None:
        """When the time of a hold is over, before its grace."""
        known = [DEFAULT_TTL[name] for name, _ in lines if name in DEFAULT_TTL]
        return None if ttl is None else self.now + (max(known, default=300) if ttl == -1 else ttl)

    def dies(self, ttl: int | None, operations: list[str]) -> int | None:
        """When a hold expires for good."""
        if ttl is None:
            return None
        known = [DEFAULT_TTL[name] for name in operations if name in DEFAULT_TTL]
        grace = max((self.grace.get(name, 30) for name in operations), default=30)
        return self.now + (max(known, default=300) if ttl == -1 else ttl) + grace

    def hold(self, asked: dict[str, Any], occupies: dict[str, int] | None, **fields: Any) -> None:
        """Reserve what is asked for, after a check that must agree."""
        name = self.fresh()
        unit, lines, needs = self.priced(asked)
        all_needs = dict(needs)
        for capacity, count in (occupies or {}).items():
            all_needs[capacity] = all_needs.get(capacity, 0) + count
        ttl, overage = fields["ttl_seconds"], fields["overage"]
        dies = self.dies(ttl, [operation for operation, _ in lines if operation is not None])
        verdict = None if ttl is None else self.story.check(**asked, capacity=occupies)
        command = reserve(name, **asked, occupies=occupies, **fields)
        code = self.run(
            command,
            lambda model: model.reserve(
                name, unit, lines, all_needs, dies=dies, overage=overage or "draw", ends=self.ends(ttl, lines)
            ),
        )
        if verdict is None:
            return
        assert verdict.allowed == (code is None)
        assert verdict.cost == sum(amount for _, amount in lines)
        assert code is None or verdict.reasons[0] == code
        if code == "insufficient_credits":
            self.promised(command, verdict.earliest_affordable_at)

    def priced(self, asked: dict[str, Any]) -> tuple[str, list[tuple[str | None, int]], dict[str, int]]:
        """The unit, the amount of each line and what they occupy, by the catalog of this machine."""
        if "amount" in asked:
            return asked["unit"], [(None, asked["amount"])], {}
        each = asked.get("lines") or [asked]
        lines: list[tuple[str | None, int]] = []
        needs: dict[str, int] = {}
        for entry in each:
            fields = entry if isinstance(entry, dict) else {"operation": entry.operation, "quantity": entry.quantity}
            operation, quantity = fields["operation"], fields["quantity"]
            lines.append((operation, PRICE[operation](quantity, bool(fields.get("params")))))
            if operation == "video":
                needs["jobs"] = needs.get("jobs", 0) + 1
            if operation == "upload":
                needs["slots"] = needs.get("slots", 0) + quantity
        return "minutes" if lines[0][0] == "export" else "credits", lines, needs

    def promised(self, command: Any, earliest: Instant | None) -> None:
        """What a denial says about the future comes true, if nothing else happens before the period ends."""
        end = self.story.read().account.period_end or at(self.now + PERIOD)
        if not self.story.state.exists:
            return
        told = judged(self.story.state, command, earliest, self.story.catalog, "n") if earliest else None
        if earliest is not None and earliest < end:
            assert isinstance(told, Decision), "it was promised to be affordable by then"
        for pot in self.model.pots:
            if pot.state != "waiting" or pot.starts <= self.now or at(pot.starts) >= min(earliest or end, end):
                continue
            if all(job.dies is None or job.dies > pot.starts for job in self.model.jobs.values() if job.held):
                sooner = judged(self.story.state, command, at(pot.starts), self.story.catalog, "n")
                assert not isinstance(sooner, Decision), "it is affordable sooner than was promised"

    @rule(
        amount=st.integers(0, 12),
        unit=st.sampled_from(["credits", "credits", "minutes"]),
        occupies=st.sampled_from([{"jobs": 1}, {"slots": 2}, {"jobs": 1, "slots": 1}]),
        bare=st.booleans(),
        ttl=ttls,
        overage=overages,
    )
    def an_amount_is_held(
        self, amount: int, unit: str, occupies: dict[str, int], bare: bool, ttl: int, overage: str | None
    ) -> None:
        self.hold(
            {"amount": amount, "unit": unit}, None if bare and amount else occupies, ttl_seconds=ttl, overage=overage
        )

    @rule(name=st.sampled_from(OPERATIONS), quantity=quantities, hd=st.booleans(), ttl=ttls, overage=overages)
    def an_operation_is_held(self, name: str, quantity: int, hd: bool, ttl: int, overage: str | None) -> None:
        params = {"quality": "hd"} if hd and name == "video" else None
        asked = {"operation": name, "quantity": quantity, "params": params}
        self.hold(asked, None, ttl_seconds=ttl, overage=overage)

    @rule(lines=priced_lines, ttl=ttls, overage=overages)
    def several_operations_are_held(self, lines: list[tuple[str, int]], ttl: int, overage: str | None) -> None:
        self.hold({"lines": tuple(line(*each) for each in lines)}, None, ttl_seconds=ttl, overage=overage)

    @rule(quantity=st.integers(1, 3))
    def a_slot_is_taken(self, quantity: int) -> None:
        self.hold({"operation": "upload", "quantity": quantity, "params": None}, None, ttl_seconds=None, overage=None)

    def some_job(self, pick: int, *, rarely_ended: bool = True) -> str:
        """The id of a hold, mostly of an open one."""
        model = deepcopy(self.model)
        model.tick(self.now)
        alive = [name for name, job in model.jobs.items() if job.state == "open"]
        jobs = alive if alive and not (rarely_ended and pick % 10 == 0) else list(model.jobs)
        return jobs[pick % len(jobs)] if jobs else "none"

    @precondition(lambda self: self.model.jobs)
    @rule(pick=picks, amount=st.one_of(st.none(), st.integers(0, 15)), final=st.booleans())
    def a_step_is_charged(self, pick: int, amount: int | None, final: bool) -> None:
        name = self.some_job(pick)
        if amount == 0 and not final:
            amount = None
        charges = None if amount is None else [(None, amount)]
        self.run(consume(name, amount=amount, final=final), lambda model: model.consume(name, charges, final=final))

    @precondition(lambda self: self.model.jobs)
    @rule(
        pick=picks,
        amounts=st.lists(st.integers(0, 9), min_size=1, max_size=3),
        turned=st.booleans(),
        final=st.booleans(),
    )
    def lines_are_charged(self, pick: int, amounts: list[int], turned: bool, final: bool) -> None:
        name = self.some_job(pick)
        count = len(self.model.jobs[name].coins) if name in self.model.jobs else 1
        charges: list[tuple[int | None, int]] = list(enumerate(amounts[:count]))
        if turned:
            charges.reverse()
        parts = tuple(part(index or 0, amount) for index, amount in charges)
        self.run(consume(name, lines=parts, final=final), lambda model: model.consume(name, charges, final=final))

    @precondition(lambda self: any(job.operations[0] == "reel" for job in self.model.jobs.values()))
    @rule(pick=picks, quantity=quantities, final=st.booleans())
    def a_quantity_is_charged(self, pick: int, quantity: int, final: bool) -> None:
        jobs = [name for name, job in self.model.jobs.items() if job.operations == ["reel"]]
        if jobs:
            name = jobs[pick % len(jobs)]
            charges: list[tuple[int | None, int]] = [(0, 2 * quantity)]
            command = consume(name, quantity=quantity, final=final)
            self.run(command, lambda model: model.consume(name, charges, final=final))

    @precondition(lambda self: self.model.jobs)
    @rule(pick=picks, amount=st.one_of(st.none(), amounts))
    def an_expired_hold_is_charged(self, pick: int, amount: int | None) -> None:
        model = deepcopy(self.model)
        model.tick(self.now)
        expired = [name for name, job in model.jobs.items() if job.state == "expired"]
        if expired:
            name = expired[pick % len(expired)]
            charges = None if amount is None else [(None, amount)]
            self.run(consume(name, amount=amount), lambda model: model.consume(name, charges, final=True))

    @precondition(lambda self: self.model.jobs)
    @rule(
        pick=picks,
        ttl=st.sampled_from([None, 1, 60, 3600, DAY - 60, DAY]),
        amount=st.sampled_from([None, None, 0, 1, 3, 8]),
        occupies=st.sampled_from([None, None, {}, {"jobs": 0}, {"jobs": 2}, {"slots": 1}, {"jobs": 1, "slots": 0}]),
    )
    def a_hold_is_extended(
        self, pick: int, ttl: int | None, amount: int | None, occupies: dict[str, int] | None
    ) -> None:
        name = self.some_job(pick)
        command = extend(name, ttl_seconds=ttl, amount=amount, occupies=occupies)
        self.run(command, lambda model: model.extend(name, ttl, amount or 0, occupies))

    @precondition(lambda self: self.model.jobs)
    @rule(pick=picks)
    def a_hold_is_released(self, pick: int) -> None:
        name = self.some_job(pick)
        self.run(release(name), lambda model: model.release(name))

    # -- consumption -----------------------------------------------------------------------------------------------

    @rule(lines=priced_lines, amount=st.one_of(st.none(), amounts), export=st.booleans())
    def work_is_paid_at_once(self, lines: list[tuple[str, int]], amount: int | None, export: bool) -> None:
        name = self.fresh()
        asked: dict[str, Any] = {"lines": tuple(line(*each) for each in lines)}
        if export:
            asked = {"operation": "export", "quantity": lines[0][1]}
        elif amount is not None:
            asked = {"amount": amount, "unit": "credits"}
        unit, priced, needs = self.priced(asked)
        self.run(direct(name, **asked), lambda model: model.direct(name, unit, priced, needs))

    @precondition(lambda self: self.model.bills)
    @rule(pick=picks, amount=st.one_of(st.none(), st.integers(0, 9)), latest=st.booleans())
    def work_is_refunded(self, pick: int, amount: int | None, latest: bool) -> None:
        names = list(self.model.bills)
        name = names[-1] if latest else names[pick % len(names)]
        self.run(refund(name, amount=amount), lambda model: model.refund(name, amount))

    @precondition(lambda self: self.model.jobs or self.model.bills)
    @rule(pick=picks, hold=st.booleans())
    def an_id_is_used_again(self, pick: int, hold: bool) -> None:
        names = [*self.model.jobs, *(name for name in self.model.bills if ":" not in name)]
        name = names[pick % len(names)]
        lines: list[tuple[str | None, int]] = [(None, 1)]
        dies = self.now + 90
        if hold:
            self.run(
                reserve(name, amount=1, ttl_seconds=60),
                lambda model: model.reserve(name, "credits", lines, {}, dies=dies, overage="draw", ends=dies - 30),
            )
        else:
            self.run(direct(name, amount=1), lambda model: model.direct(name, "credits", lines, {}))

    def teardown(self) -> None:
        """At the end the whole log is read again, and every answer built again."""
        if self.sound:
            self.story.check_history()


@pytest.mark.timeout(600)  # a failure is made small before it is told
class TestAccounts(Accounts.TestCase):
    settings = settings(max_examples=250, stateful_step_count=40, deadline=None)


@pytest.mark.soak
class TestAccountsForLong(Accounts.TestCase):
    settings = settings(max_examples=5_000, stateful_step_count=60, deadline=None)
