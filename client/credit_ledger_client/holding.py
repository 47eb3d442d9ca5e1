"""A hold as a block: credits are set aside before the work, and settled by how the block ends.

    async with ledger.hold("team-42", "generate_image", quantity=4) as hold:
        ...                      # renewed while this runs

The block ends well: what is held is consumed, or what `hold.amount` or `hold.quantity` says. It raises, or is
cancelled: released. A hold that is handed over is left as it is, for somebody else to take over by its id. Settling is
carried through even when the task is cancelled meanwhile. Its key is made from the hold's id, so whoever sends it again,
here or elsewhere, it counts once: `{id}:consume`, `{id}:release`.

A hold that could not be renewed in time is told by `hold.lost`. The block goes on: work that is done after a hold ran
out is booked late by the ledger, up to its late window.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, Unpack

from credit_ledger_client.answers import Answer, Reservation
from credit_ledger_client.asking import new_key
from credit_ledger_client.errors import LedgerError, Refused, Unavailable
from credit_ledger_client.fields import Charge, ExtendFields, LineCharge, Params, ReleaseFields, SettleFields
from credit_ledger_client.transport import Transport

RENEW_AFTER_SHARE = 0.5
"""Which part of its time a hold has lived when it is renewed; what is left is for retries."""
RETRY_AFTER_SHARE = 0.05
SETTLE_PAUSE_SECONDS = 2.0
TTL_SECONDS_MAX = 86_400

_log = logging.getLogger(__name__)


Begin = Callable[[], Awaitable[tuple[Answer, float | None]]]
"""Makes or takes over a hold: returns the answer that shows it, and for how many seconds it lives if that is bounded."""


class Holding(Protocol):
    """What a hold needs of the facade."""

    transport: Transport

    def keep(self, task: asyncio.Future[Any]) -> None:
        """Wait for this task before the ledger is closed."""
        ...

    async def settle(self, account: str, reservation_id: str, **fields: Unpack[SettleFields]) -> Answer:
        """Consume a step of a reservation."""
        ...

    async def release(self, account: str, reservation_id: str, **fields: Unpack[ReleaseFields]) -> Answer:
        """End a reservation without a charge."""
        ...

    async def extend(self, account: str, reservation_id: str, **fields: Unpack[ExtendFields]) -> Answer:
        """Let a reservation live longer."""
        ...


class Hold:
    """One hold, as an asynchronous context manager; `ledger.hold` and `ledger.take_over` make them.

    Set `amount`, `quantity` (with `params`) or `lines` to have the end of the block charge that instead of all that is
    held. A free operation has no reservation: `id` is empty, and everything is a matter of nothing.
    """

    def __init__(self, ledger: Holding, account: str, begin: Begin, *, renew: bool = True) -> None:
        self.account = account
        self.id = ""
        self.answer: Answer | None = None
        """What the reserve answered."""
        self.settled: Answer | None = None
        """What the end of the hold answered, once it has one."""
        self.lost: LedgerError | None = None
        """Why the hold could not be renewed."""
        self.amount: int | None = None
        self.quantity: int | None = None
        self.params: Params | None = None
        self.lines: Sequence[LineCharge] | None = None
        self._ledger = ledger
        self._begin = begin
        self._renews = renew
        self._renewal: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def reservation(self) -> Reservation | None:
        """The reservation as its last answer showed it; None for a free operation."""
        return None if self.answer is None else self.answer.reservation

    # -- the block -------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        beginning = asyncio.ensure_future(self._begin())
        try:
            answer, ttl = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            self._ledger.keep(asyncio.create_task(self._undo(beginning)))
            raise
        self._take(answer)
        if self._renews and self.id and ttl is not None:
            self._renewal = asyncio.create_task(self._renew(ttl))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.leave(None if kind is None else kind.__name__)

    async def leave(self, failure: str | None) -> None:
        """End the block: consume when nothing failed, release otherwise; nothing when it was ended or handed over."""
        self._stop_renewing()
        if self._ended or not self.id:
            return
        if failure is None:
            await self._through(self.consume())
            return
        try:
            await self._through(self.release(reason=f"the work failed: {failure}"[:500]))
        except LedgerError as error:  # the block's own error is the one to raise; the hold runs out by itself
            _log.warning("hold %s of %s could not be released: %s", self.id, self.account, error)

    def settle_later(self) -> None:
        """Consume in the background, again and again until the ledger says yes or no; for work that is done.

        The ledger takes it while the hold is open and up to its late window. It lasts as long as this process.
        """
        if self.id and not self._ended:
            self._ledger.keep(asyncio.create_task(self._settle_at_last()))

    async def _settle_at_last(self) -> None:
        while not self._ended:
            try:
                await self.consume()
            except Unavailable as error:
                _log.info("hold %s of %s is not settled yet: %s", self.id, self.account, error)
                await self._ledger.transport.sleep(SETTLE_PAUSE_SECONDS)
            except LedgerError:
                _log.exception("hold %s of %s: work that was done is not counted", self.id, self.account)
                return

    async def _through(self, ending: Awaitable[Answer | None]) -> None:
        """Carry the end of the hold through, whatever happens to the task meanwhile."""
        task = asyncio.ensure_future(ending)
        self._ledger.keep(task)
        await asyncio.shield(task)

    # -- what the work may do --------------------------------------------------------------------------------------

    def hand_over(self) -> str:
        """Leave the hold to somebody else, who takes it over by the id that is returned; nothing happens at the end."""
        self._stop_renewing()
        self._ended = True
        return self.id

    async def consume(self, **charge: Unpack[Charge]) -> Answer | None:
        """End the hold with a charge: what is given here, else what was set on the hold, else all that is held."""
        given: dict[str, Any] = dict(charge) or self._set()
        return await self._end(lambda: self._ledger.settle(self.account, self.id, key=f"{self.id}:consume", **given))

    async def release(self, *, reason: str | None = None) -> Answer | None:
        """End the hold without a charge."""
        return await self._end(
            lambda: self._ledger.release(self.account, self.id, key=f"{self.id}:release", reason=reason)
        )

    async def step(self, *, key: str | None = None, **charge: Unpack[Charge]) -> Answer | None:
        """Charge a step and keep the hold open; with a key of your own, a step that is sent again counts once."""
        if not self.id:
            return None
        answer = await self._ledger.settle(self.account, self.id, key=key or new_key(), final=False, **charge)
        self.answer = answer
        return answer

    async def extend(
        self, ttl_seconds: int | None = None, *, amount: int | None = None, occupies: Mapping[str, int] | None = None
    ) -> Answer | None:
        """Let the hold live longer, hold more, or occupy other capacity."""
        if not self.id:
            return None
        fields: ExtendFields = {"amount": amount, "occupies": occupies}
        if ttl_seconds is not None:
            fields["ttl_seconds"] = ttl_seconds
        answer = await self._ledger.extend(self.account, self.id, **fields)
        self.answer = answer
        return answer

    # -- inside ----------------------------------------------------------------------------------------------------

    def _take(self, answer: Answer) -> None:
        self.answer = answer
        if answer.reservation is not None:
            self.id = answer.reservation.id or ""

    def _set(self) -> dict[str, Any]:
        given = {"amount": self.amount, "quantity": self.quantity, "params": self.params, "lines": self.lines}
        return {name: value for name, value in given.items() if value is not None}

    async def _end(self, work: Callable[[], Awaitable[Answer]]) -> Answer | None:
        self._stop_renewing()
        if not self.id:
            self._ended = True
            return None
        self.settled = await work()
        self._ended = True
        return self.settled

    async def _undo(self, beginning: asyncio.Future[tuple[Answer, float | None]]) -> None:
        """Give back what a reserve set aside for somebody who did not wait for it."""
        try:
            self._take((await beginning)[0])
            await self.release(reason="the caller was cancelled")
        except LedgerError as error:
            _log.warning("a hold of %s was not released after its caller was cancelled: %s", self.account, error)

    def _stop_renewing(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    async def _renew(self, ttl: float) -> None:
        """Extend the hold whenever half of its time is over, until it is ended or cannot be extended."""
        pause = ttl * RENEW_AFTER_SHARE
        while True:
            await self._ledger.transport.sleep(pause)
            pause = ttl * RENEW_AFTER_SHARE
            try:
                answer = await self._ledger.extend(
                    self.account,
                    self.id,
                    ttl_seconds=min(TTL_SECONDS_MAX, max(1, round(ttl))),
                    key=new_key(),
                )
                self.answer, self.lost = answer, None
            except Refused as refusal:
                self.lost = refusal
                _log.warning("hold %s of %s cannot be renewed: %s", self.id, self.account, refusal)
                return
            except LedgerError as error:
                self.lost = error
                pause = ttl * RETRY_AFTER_SHARE
                _log.warning("hold %s of %s was not renewed: %s", self.id, self.account, error)


def lives_for(held: Reservation) -> float | None:
    """Return for how many seconds a hold was made; None for one without an end.

    Both are the ledger's instants, so our own clock does not matter.
    """
    return None if held.expires_at is None else max(1.0, (held.expires_at - held.created_at).total_seconds())
