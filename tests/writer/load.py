"""Customers: each works through commands of every kind on some accounts, one at a time, and remembers what it was told.

A customer that is told of an outage sends the same command again with its key, as the contract asks. Now and then it
sends an old command again, which must lead to the first outcome. It knows only what it was told, so what it remembers
can be held against the log.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from service.ledger import Ledger
from tests.writer.asking import Said, Wish, said
from tests.writer.auditing import Book

OUTAGES = {"unavailable", "overloaded", "clock_skew"}
RETRY_SECONDS = 0.02
Execute = Callable[[Wish], Awaitable[Said]]


@dataclass
class Customer:
    """One caller with a name that nobody else has."""

    name: str
    accounts: Sequence[str]
    random: Random
    told: dict[tuple[str, str], Said] = field(default_factory=dict[tuple[str, str], Said])
    sent: int = 0
    _written: list[Wish] = field(default_factory=list[Wish])
    _holds: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    _charges: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    _grants: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def next(self) -> Wish:
        """The next command."""
        self.sent += 1
        number = self.random.random()
        if number < 0.05 and self._written:
            return self.random.choice(self._written)
        key = f"{self.name}:{self.sent}"
        account = self.random.choice(self.accounts)
        if number < 0.40 and self._holds:
            return self._step(key)
        if number < 0.50 and self._charges:
            account, charge = self._charges.pop()
            return Wish("refund", account, key, {"consumption_id": charge})
        if number < 0.52:
            return Wish("adjust", account, key, {"amount": self.random.choice([-3, 4]), "reason": "counted again"})
        if number < 0.53 and self._grants:
            account, grant = self._grants.pop()
            return Wish("revoke", account, key, {"grant_id": grant, "reason": "bounced"})
        if number < 0.55:
            return Wish("grant", account, key, {"amount": self.random.randint(1, 50), "grant_id": key})
        if number < 0.60:
            return Wish("reserve", account, key, {"amount": 10**12})
        if number < 0.75:
            return Wish("consume", account, key, {"amount": self.random.randint(1, 9), "consumption_id": key})
        return Wish("reserve", account, key, {"amount": self.random.randint(1, 9), "reservation_id": key})

    def _step(self, key: str) -> Wish:
        account, hold = self._holds[-1]
        number = self.random.random()
        if number < 0.2:
            return Wish("consume", account, key, {"reservation_id": hold, "amount": 1, "final": False})
        if number < 0.3:
            return Wish("extend", account, key, {"reservation_id": hold, "amount": 1})
        self._holds.pop()
        if number < 0.5:
            return Wish("release", account, key, {"reservation_id": hold})
        self._charges.append((account, hold))
        return Wish("consume", account, key, {"reservation_id": hold, "amount": 2})

    def hear(self, wish: Wish, answer: Said) -> None:
        """Remember what was told, which must not differ from what was told before."""
        command = (wish.account, wish.key)
        before = self.told.get(command)
        if before is not None and before.written:
            assert answer.events == before.events, f"{command} was {before} and is now {answer}"
        self.told[command] = answer
        if not answer.written:
            return
        self._written.append(wish)
        if wish.fields.get("reservation_id") == wish.key:
            self._holds.append(command)
        elif wish.fields.get("consumption_id") == wish.key:
            self._charges.append(command)
        elif wish.fields.get("grant_id") == wish.key:
            self._grants.append(command)

    async def work(self, execute: Execute, goes_on: Callable[[], bool]) -> None:
        """Send one command after the other."""
        while goes_on():
            wish = self.next()
            self.hear(wish, await insist(execute, wish))


async def insist(execute: Execute, wish: Wish) -> Said:
    """Send a command until it is known what became of it, as the contract asks of callers."""
    answer = await execute(wish)
    while answer.code in OUTAGES:
        await asyncio.sleep(RETRY_SECONDS)  # as a caller does who is told to try again
        answer = await execute(wish)
    return answer


def crowd(size: int, accounts: Sequence[str], *, seed: int = 0, name: str = "c") -> list[Customer]:
    """Some customers of the same accounts, who do the same with the same seed."""
    return [Customer(f"{name}{n}", accounts, Random(seed * 1000 + n)) for n in range(size)]


async def work_through(ledgers: Sequence[Ledger], customers: Iterable[Customer], commands: int) -> None:
    """Lets each customer send that many commands, each to any of the ledgers."""

    async def work(customer: Customer) -> None:
        def execute(wish: Wish) -> Awaitable[Said]:
            return said(customer.random.choice(ledgers), wish.request())

        await customer.work(execute, lambda: customer.sent < commands)

    await asyncio.gather(*(work(customer) for customer in customers))


def assert_told_the_truth(book: Book, told: Iterable[tuple[tuple[str, str], Said]]) -> None:
    """Every command that was acknowledged stands in the log, with those very events; every refused one does not."""
    for command, answer in told:
        assert answer.code not in OUTAGES, f"nobody knows what became of {command}"
        assert book.hashes(*command) == answer.events, f"{command} was {answer}"
