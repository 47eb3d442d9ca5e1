"""Turns: how many requests of each caller are worked on at once, so that one who floods does not keep the others waiting.

What is taken on is decided and written together, so a request waits for everything that was taken on before it. A caller
that is alone, or that is about as busy as another one, may have very much at work, which is how the ledger is fast. One
that asks for more than twice as much as the busiest of the others floods: it has half as many requests at work as that
one asks for, `LEAST` in any case, and a few more in the moments in which all others are idle. What is above waits in a
queue of its caller, and the queues are served in turn. A full queue is `overloaded`.

Who was seen in the last second or two is there. The figures are kept as requests come, so a request costs a look into
a dictionary; only a caller who has more than `LEAST` at work is compared with the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

from service.outages import Overloaded

AT_WORK_MAX = 1024
"""Of all callers together; who has less than `LEAST` at work is taken on even above it."""
LEAST = 4
IDLE_LEAST = 16
"""Of one who floods, while the others are idle: whoever of them comes waits for these first."""
IDLE_SECONDS = 0.02
"""A caller that sends its next request as soon as it has an answer is never idle for so long."""
WAITING_MAX = 2048
"""Of one caller."""
MEMORY_SECONDS = 1.0
CALLERS_MAX = 1000
"""More names than that share one queue: where nobody vouches for names, anybody can make some up."""


class Caller:
    """What a caller has at work, what of it waits, and how much it asked for at most, in this second and the last one."""

    __slots__ = ("asked", "asked_before", "at_work", "left_at", "waiting")

    def __init__(self) -> None:
        self.at_work = 0
        self.waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self.asked = 0
        self.asked_before = 0
        self.left_at = 0.0


class Turns:
    """Lets requests through: `at_once`, and else `wait`, before the work, `leave` behind it with what these returned."""

    def __init__(
        self,
        *,
        at_work_max: int = AT_WORK_MAX,
        least: int = LEAST,
        idle_least: int = IDLE_LEAST,
        waiting_max: int = WAITING_MAX,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._at_work_max = at_work_max
        self._least = least
        self._idle_least = idle_least
        self._waiting_max = waiting_max
        self._clock = clock
        self._callers: dict[str, Caller] = {}
        self._round: deque[Caller] = deque()
        self._turn_at = 0.0
        self.at_work = 0
        """The weight of everything that is being worked on."""
        self.turned_away = 0
        """How many requests were answered `overloaded`."""

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return sum(len(caller.waiting) for caller in self._round)

    def at_once(self, name: str, weight: int = 1) -> Caller | None:
        """Return a turn if there is one now; None for a request that has to `wait`.

        `weight` says how many commands a request stands for; one is always let through when its caller has nothing else.
        """
        now = self._clock()
        if now >= self._turn_at:
            self._turn(now)
        caller = self._callers.get(name) or self._meet(name)
        asked = caller.at_work + len(caller.waiting) + weight
        if asked > caller.asked:
            caller.asked = asked
            if self._round:  # the more one asks for, the more the others may have
                self._hand_on()
        if caller.waiting or not self._may(caller, weight):
            return None
        caller.at_work += weight
        self.at_work += weight
        return caller

    async def wait(self, name: str, weight: int = 1) -> Caller:
        """Wait for a turn that is not there at once; raises Overloaded when too many of this caller's requests wait."""
        caller = self._callers.get(name) or self._meet(name)
        if len(caller.waiting) >= self._waiting_max:
            self.turned_away += 1
            raise Overloaded(f"{self._waiting_max} requests of {name} are waiting: send fewer at a time")
        await self._wait(caller, weight)
        return caller

    def leave(self, caller: Caller, weight: int = 1) -> None:
        """Say that the work is done."""
        caller.at_work -= weight
        caller.left_at = self._clock()
        self.at_work -= weight
        if self._round:
            self._hand_on()

    async def _wait(self, caller: Caller, weight: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not caller.waiting:
            self._round.append(caller)
        caller.waiting.append((turn, weight))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                caller.waiting.remove((turn, weight))
                if not caller.waiting:
                    self._round.remove(caller)
                self._hand_on()
            else:  # it was given its turn in the same moment
                self.leave(caller, weight)
            raise

    def _hand_on(self) -> None:
        """Give turns to those who wait, one caller after the other, for as long as there are any."""
        passed_over = 0
        while passed_over < len(self._round):
            caller = self._round.popleft()
            turn, weight = caller.waiting[0]
            if turn.done() or not self._may(caller, weight):  # one that is done was cancelled, and removes itself
                self._round.append(caller)
                passed_over += 1
                continue
            caller.waiting.popleft()
            caller.at_work += weight
            self.at_work += weight
            turn.set_result(None)
            passed_over = 0
            if caller.waiting:
                self._round.append(caller)

    def _may(self, caller: Caller, weight: int) -> bool:
        """Say whether a caller may have so much more at work."""
        wanted = caller.at_work + weight
        if wanted <= self._least or caller.at_work == 0:
            return True
        return self.at_work + weight <= self._at_work_max and wanted <= self._share(caller)

    def _share(self, caller: Caller) -> int:
        """Return how much a caller may have at work beside the others that are there."""
        most, is_idle, now = 0, True, self._clock()
        for other in self._callers.values():
            if other is not caller:
                most = max(most, other.asked, other.asked_before)
                is_idle &= not (other.at_work or other.waiting or now - other.left_at < IDLE_SECONDS)
        if caller.asked <= 2 * most or not most:
            return self._at_work_max
        return max(self._idle_least, most) if is_idle else max(self._least, most // 2)

    def _meet(self, name: str) -> Caller:
        if len(self._callers) >= CALLERS_MAX:
            name = ""
        return self._callers.setdefault(name, Caller())

    def _turn(self, now: float) -> None:
        """Begin a new second, and forget who has not been there for one."""
        self._turn_at = now + MEMORY_SECONDS
        for name, caller in list(self._callers.items()):
            asks = caller.at_work + len(caller.waiting)
            if not asks and not caller.asked:
                del self._callers[name]
            caller.asked_before, caller.asked = caller.asked, asks
        if self._round:
            self._hand_on()
