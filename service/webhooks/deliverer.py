"""The deliverer: every alert at every receiver that wants it, at least once, and no receiver in the way of another.

Each receiver has a task of its own, which takes what is due for it from the database, a few at a time, sends these side
by side, and writes down what became of each. What failed is due again later and later, for three days; then it is given
up, and `credit-ledger webhooks replay` sends it again. A receiver that failed some times in a row is away: it is asked
with one message at a time until it answers, and then everything that waits for it is due at once.

What is taken is taken for a minute. So several processes share the work, and what a process that was killed had taken
comes up again; the receiver sees the same `webhook-id` then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from random import random
from typing import NamedTuple, Protocol

from events.instants import Instant, instant, moment, plus
from service.alert_messages import alert_event
from service.ending import ended
from service.outages import Outage
from service.store.outgoing import Due, Outgoing, Result
from service.telemetry.metrics import Metrics
from service.webhooks.receivers import Receiver
from service.webhooks.schedule import GIVE_UP_SECONDS, wait_seconds
from service.webhooks.signing import signed

AT_ONCE_MAX = 4
"""How many messages a receiver is sent side by side."""
TAKEN_SECONDS = 60
AWAY_AFTER = 5
"""After so many failures in a row a receiver is away."""
POLL_SECONDS = 0.5
OUTAGE_SECONDS = 5.0
GONE = 410

_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What a receiver answered: a status, or an error in words; and for how many seconds it wants to be left alone."""

    status: int | None
    error: str | None = None
    retry_after_seconds: float | None = None


class Sender(Protocol):
    """What posts a body to a URL; it never raises for the receiver's sake."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Return what was answered."""
        ...


class Deliverer:
    """Sends alerts to receivers until it is stopped."""

    def __init__(
        self,
        outgoing: Outgoing,
        receivers: Sequence[Receiver],
        sender: Sender,
        *,
        source: str,
        clock: Callable[[], Instant],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._outgoing = outgoing
        self._receivers = receivers
        self._sender = sender
        self._source = source
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._failures = {receiver.name: 0 for receiver in receivers}
        self._registered: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.counts = {
            (receiver.name, state): 0 for receiver in receivers for state in ("delivered", "failed", "given_up")
        }

    def start(self) -> None:
        """Begin to send."""
        self._tasks = [asyncio.create_task(self._run(receiver)) for receiver in self._receivers]

    async def stop(self) -> None:
        """Stop; what is under way comes up again in a minute."""
        await ended(self._tasks)

    def measure(self, metrics: Metrics) -> None:
        """Add what there is to know about webhooks."""
        sent = metrics.number(
            *("counter", "credit_ledger_webhook_attempts_total", "Webhooks that were sent, by what became of them."),
            *("endpoint", "result"),
        )
        waiting = metrics.number("gauge", "credit_ledger_webhook_backlog", "Webhooks not delivered yet.", "endpoint")
        oldest = metrics.number(
            "gauge", "credit_ledger_webhook_oldest_seconds", "For how long the first of them has waited.", "endpoint"
        )
        away = metrics.number("gauge", "credit_ledger_webhook_away", "1 while a receiver does not answer.", "endpoint")

        async def show() -> None:
            for (name, result), count in self.counts.items():
                sent.labels(name, result).value = count
            for name, failures in self._failures.items():
                away.labels(name).value = int(failures >= AWAY_AFTER)
            waiting.clear()
            oldest.clear()
            now = moment(self._clock())
            for name, backlog in (await self._outgoing.backlog()).items():
                waiting.labels(name).value = backlog.number
                age = 0.0 if backlog.oldest is None else (now - moment(backlog.oldest)).total_seconds()
                oldest.labels(name).value = max(0.0, age)

        metrics.probe(show)

    async def deliver(self, receiver: Receiver) -> int:
        """Send what is due for a receiver, a few at most; returns how many messages were sent. Raises Unavailable."""
        await self._register(receiver)
        await self._outgoing.number()
        while await self._outgoing.hand(receiver.name, self._clock(), age_seconds_max=GIVE_UP_SECONDS):
            pass
        now = self._clock()
        is_away = self._failures[receiver.name] >= AWAY_AFTER
        until = plus(now, seconds=TAKEN_SECONDS)
        due = await self._outgoing.claim(receiver.name, now, until, 1 if is_away else AT_ONCE_MAX)
        outcomes = await asyncio.gather(*(self._attempt(receiver, each) for each in due), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        if is_away and self._failures[receiver.name] == 0:
            _log.warning("the webhook receiver %s answers again", receiver.name)
            await self._outgoing.hasten(receiver.name, self._clock())
        return len(due)

    async def _register(self, receiver: Receiver) -> None:
        if receiver.name not in self._registered:
            while await self._outgoing.number():
                pass  # a new receiver hears what comes from now on
            await self._outgoing.register(receiver.name, receiver.kinds, receiver.accounts)
            self._registered.add(receiver.name)

    async def _attempt(self, receiver: Receiver, due: Due) -> None:
        body = alert_event(due.alert, self._source)
        seconds = int(moment(self._clock()).timestamp())
        headers = {"Content-Type": "application/json", **signed(due.alert.id, seconds, body, receiver.keys)}
        answer = await self._sender.post(receiver.url, body, headers)
        result = self._result(due, answer)
        self._count(receiver.name, result)
        await self._outgoing.settle(receiver.name, due, result)

    def _result(self, due: Due, answer: Answer) -> Result:
        now = self._clock()
        error = answer.error
        if answer.status is not None:
            if 200 <= answer.status < 300:
                return Result("delivered", now, now, answer.status, None)
            error = f"answered {answer.status}"
        wait = wait_seconds(due.attempt, random(), answer.retry_after_seconds)  # noqa: S311 - only spreads the load
        next_at = instant(moment(now) + timedelta(seconds=wait))
        is_over = answer.status == GONE or next_at > plus(due.begun_at, seconds=GIVE_UP_SECONDS)
        return Result("given_up" if is_over else "pending", next_at, now, answer.status, error)

    def _count(self, name: str, result: Result) -> None:
        if result.state == "delivered":
            self._failures[name] = 0
        else:
            self._failures[name] += 1
            if self._failures[name] == AWAY_AFTER:
                _log.warning("the webhook receiver %s is away: %s", name, result.error)
        if result.state == "given_up":
            _log.error("a webhook to %s was given up: %s", name, result.error)
        self.counts[name, "failed" if result.state == "pending" else result.state] += 1

    async def _run(self, receiver: Receiver) -> None:
        while True:
            wait = self._poll_seconds
            try:
                if await self.deliver(receiver) and self._failures[receiver.name] < AWAY_AFTER:
                    continue  # there may be more
            except Outage as outage:
                _log.warning("no webhooks are sent to %s now: %s", receiver.name, outage)
                wait = OUTAGE_SECONDS
            except Exception:  # noqa: BLE001 - the next round may fare better; the metrics tell what waits
                _log.exception("webhooks could not be sent to %s", receiver.name)
                wait = OUTAGE_SECONDS
            await asyncio.sleep(wait)
