"""The facade: a ledger, whatever the transport.

    async with Ledger.over_nats("nats://127.0.0.1:4222", caller="studio") as ledger:
        async with ledger.hold("team-42", "generate_image", quantity=4):
            await generate()

Its commands are in `commands.py`, its queries in `queries.py`; here is what makes gating one line, and what outlives a
single request: holds, durable commands and the stream of events.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from copy import copy
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from credit_ledger_client.answers import Answer, Reservation
from credit_ledger_client.asking import new_key
from credit_ledger_client.commands import Commands
from credit_ledger_client.errors import ConsumptionNotFound, ReservationExpired, ReservationFinalized, Unavailable
from credit_ledger_client.fields import Priced, RefundFields, ReleaseFields, ReserveFields
from credit_ledger_client.following import Following
from credit_ledger_client.holding import TTL_SECONDS_MAX, Hold, lives_for
from credit_ledger_client.patience import Patience
from credit_ledger_client.queries import Queries
from credit_ledger_client.submitting import Submitting
from credit_ledger_client.transport import Transport, Unreached

if TYPE_CHECKING:
    import aiohttp

CLOSE_SECONDS_MAX = 10.0
CONSUMPTION_LOOKS = 10
LOOK_SECONDS = 0.1
_PAID = frozenset({"settled", "settled_late"})

_log = logging.getLogger(__name__)


class Ledger(Commands, Queries, Submitting):
    """A ledger to ask; an asynchronous context manager that connects and lets go."""

    def __init__(
        self, transport: Transport, patience: Patience | None = None, *, on_behalf_of: str | None = None
    ) -> None:
        super().__init__(transport, patience, on_behalf_of=on_behalf_of)
        self._kept: set[asyncio.Future[Any]] = set()

    @classmethod
    def over_nats(
        cls,
        servers: str,
        *,
        caller: str,
        prefix: str = "credits",
        credentials: str | None = None,
        patience: Patience | None = None,
    ) -> Self:
        """Return a ledger that is reached over NATS.

        `servers` is a URL, several with commas, perhaps with user and password; `credentials` names a file. `caller` is
        the name that the broker lets these credentials use.
        """
        from credit_ledger_client.over_nats import NatsTransport  # noqa: PLC0415 - each transport is loaded when it is used

        return cls(NatsTransport(servers, caller=caller, prefix=prefix, credentials=credentials), patience)

    @classmethod
    def over_http(
        cls,
        url: str,
        *,
        token: str | None = None,
        session: aiohttp.ClientSession | None = None,
        patience: Patience | None = None,
    ) -> Self:
        """Return a ledger that is reached over HTTP, which needs the extra `http`; a session that is given stays open."""
        from credit_ledger_client.over_http import HttpTransport  # noqa: PLC0415 - aiohttp is an extra

        return cls(HttpTransport(url, token=token, session=session), patience)

    async def __aenter__(self) -> Self:
        try:
            await self.transport.open()
        except Unreached as error:
            raise Unavailable(str(error)) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait until holds that were left are settled, some seconds at most, and let go of the connection."""
        if self._kept:
            _, late = await asyncio.wait(self._kept, timeout=CLOSE_SECONDS_MAX)
            for task in late:
                task.cancel()
        await self.transport.close()

    def on_behalf_of(self, name: str) -> Self:
        """Return the same ledger, whose commands say for whom they are sent; it must not outlive this one."""
        other = copy(self)
        other._on_behalf_of = name  # noqa: SLF001 - a copy of this very object
        return other

    def keep(self, task: asyncio.Future[Any]) -> None:
        """Wait for this task before the ledger is closed."""
        self._kept.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._kept.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("a hold's end failed: %s", error)  # whoever waits for it has it too

    # -- gating ----------------------------------------------------------------------------------------------------

    async def enforce(
        self,
        account: str,
        operation: str | None = None,
        quantity: int | None = None,
        *,
        occupies: Mapping[str, int] | None = None,
        **fields: Unpack[Priced],
    ) -> None:
        """Raise what a reserve would be refused with now, word for word, and set nothing aside.

        Between this and the work somebody else may spend the credits; `hold` and `consume` leave no such gap.
        """
        await self.reserve(account, operation, quantity, occupies=occupies, dry_run=True, **fields)

    def hold(
        self,
        account: str,
        operation: str | None = None,
        quantity: int | None = None,
        *,
        renew: bool = True,
        **fields: Unpack[ReserveFields],
    ) -> Hold:
        """Return a block that holds credits while it runs: consumed when it ends well, released when it does not.

        With a `key` of your own a block that runs again goes on with its hold while that is open, and gets a new one when
        that was released or ran out; when it was paid for, entering raises ReservationFinalized. So a job that is tried
        again never holds or pays twice.
        """
        key = fields.get("key") or new_key()

        async def begin() -> tuple[Answer, float | None]:
            for attempt in itertools.count(1):
                asked: ReserveFields = {**fields, "key": key if attempt == 1 else f"{key}:{attempt}"}
                answer = await self.reserve(account, operation, quantity, **asked)
                held = answer.reservation
                if held is None or not answer.replayed:
                    return answer, None if held is None else lives_for(held)
                try:
                    return await self._go_on(account, held)
                except (ReservationFinalized, ReservationExpired) as ended:
                    if ended.problem.get("state") in _PAID or fields.get("reservation_id"):
                        raise
            raise AssertionError("counting does not end")

        return Hold(self, account, begin, renew=renew)

    async def _go_on(self, account: str, held: Reservation) -> tuple[Answer, float | None]:
        """Give a hold that was made before its whole time again; raises what says that it is over."""
        ttl = lives_for(held)
        if ttl is None:
            return await self.extend(account, held.id or ""), None
        return await self.extend(account, held.id or "", ttl_seconds=min(TTL_SECONDS_MAX, round(ttl))), ttl

    def take_over(self, account: str, reservation_id: str, *, ttl_seconds: int = 300, renew: bool = True) -> Hold:
        """Return a block on a hold that somebody else made and handed over, kept alive and settled like one's own.

        Raises ReservationFinalized on entering when it has ended, and ReservationExpired when its time is over.
        """

        async def begin() -> tuple[Answer, float | None]:
            answer = await self.extend(account, reservation_id, ttl_seconds=ttl_seconds)
            ends = answer.reservation is not None and answer.reservation.expires_at is not None
            return answer, ttl_seconds if ends else None

        return Hold(self, account, begin, renew=renew)

    async def give_back(self, account: str, consumption_id: str, **fields: Unpack[RefundFields]) -> Answer:
        """Refund work that failed after it was paid for, or while that was on its way; the id is that of its hold.

        A job that was queued may fail before the block that queued it has ended, or before a durable consume is executed:
        so a consumption that is not there yet is waited for, a second. When it does not come the hold is released; then
        nothing was paid, and nothing will be. Raises Refused: ReservationNotFound when there is no such hold either.
        """
        given: RefundFields = {**fields, "key": fields.get("key") or self._key_of_refund(consumption_id, fields)}
        for _ in range(CONSUMPTION_LOOKS):
            with suppress(ConsumptionNotFound):
                return await self.refund(account, consumption_id, **given)
            await asyncio.sleep(LOOK_SECONDS)
        released: ReleaseFields = {"key": f"{consumption_id}:release"}
        if (reason := fields.get("reason")) is not None:
            released["reason"] = reason
        try:
            return await self.release(account, consumption_id, **released)
        except ReservationFinalized:  # it was paid for at last
            return await self.refund(account, consumption_id, **given)

    @staticmethod
    def _key_of_refund(consumption_id: str, fields: RefundFields) -> str:
        """Return a key: all of a consumption is given back once, parts of it as often as they are asked for."""
        return f"{consumption_id}:refund" if fields.get("amount") is None else new_key()

    # -- the stream of events --------------------------------------------------------------------------------------

    def events(
        self,
        after: str | None = None,
        *,
        begin: Literal["first", "new"] = "first",
        partitions: tuple[int, ...] | None = None,
        fill: Ledger | None = None,
    ) -> AbstractAsyncContextManager[Following]:
        """Return the stream of events, to be iterated: every event once, in the order of its partition.

        `after` is a `cursor` that was kept; without one it begins with the `first` event, or with what is `new`. `fill`
        is a ledger over HTTP that missing events are read from.
        """
        return Following(self.transport, after, only_new=begin == "new", partitions=partitions, fill=fill)

    async def log(self, partition: int, *, after: int = 0, limit: int = 1000) -> AsyncIterator[bytes]:
        """Yield lines of the log as they are stored, over HTTP, from behind a position of a partition."""
        async for line in self.transport.log(partition, after, limit):
            yield line
