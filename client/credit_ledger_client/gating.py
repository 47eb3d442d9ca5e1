"""Gating an endpoint in one line, whatever the web framework.

    gate = Gate(lambda request: request.app[LEDGER], account=lambda request: request["team"], denied=problem_response)

    @gate("generate_video")
    async def generate_video(request): ...

    @gate("generate_image", quantity=lambda request: request["count"])
    async def generate_images(request, hold): ...

Before the handler runs, credits are set aside; when it has done its work they are consumed, and when it fails, raises or
is cancelled they are released. A handler that puts the work on a queue has done its work when that is there: a failure
later is refunded by the consumption's id, which is `hold.id`. A handler whose worker is to consume after success takes
`hold` as an argument, puts `hold.hand_over()` on the queue, and the worker takes it over.

A result whose `status` or `status_code` is 400 or more is a failure too, and an exception that is a redirect is not.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, Generic, TypeVar, Unpack, cast

from credit_ledger_client.errors import LedgerError, Unavailable
from credit_ledger_client.fields import ReserveFields
from credit_ledger_client.holding import Hold
from credit_ledger_client.ledger import Ledger

Result = TypeVar("Result")
Response = TypeVar("Response")
Value = TypeVar("Value")
Told = Callable[..., Value | Awaitable[Value]]
"""Finds something out from the handler's arguments, perhaps with an await."""

_log = logging.getLogger(__name__)


class Gate(Generic[Response]):
    """Makes gated handlers: `account` and `ledger` are found out from the handler's arguments.

    `denied` makes an answer out of a LedgerError, whose `status`, `headers` and `body` are ready; without it the error
    is raised. `key`, when given, finds a key in the arguments: a request that is sent again with the key of one that was
    paid for is refused as `reservation_finalized`.
    """

    def __init__(
        self,
        ledger: Ledger | Callable[..., Ledger],
        *,
        account: Told[str],
        denied: Callable[[LedgerError], Response] | None = None,
        key: Told[str | None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._denied = denied
        self._key = key

    def __call__(
        self,
        operation: str | None = None,
        *,
        quantity: int | Told[int] | None = None,
        asking: Told[ReserveFields] | None = None,
        **fields: Unpack[ReserveFields],
    ) -> Callable[[Callable[..., Awaitable[Result]]], Callable[..., Awaitable[Result | Response]]]:
        """Return what gates a handler by an operation; `quantity` may be found out from the handler's arguments.

        `asking` finds out more fields of the reserve, the `lines` of a collection for example. The handler gets the hold
        when it has a parameter of that name.
        """

        def gated(handler: Callable[..., Awaitable[Result]]) -> Callable[..., Awaitable[Result | Response]]:
            parameters = inspect.signature(handler).parameters
            wants_hold = "hold" in parameters

            @wraps(handler)
            async def serve(*args: Any, **kwargs: Any) -> Result | Response:  # noqa: ANN401 - the handler's own
                found = partial(_found, args, kwargs)
                asked: ReserveFields = await found(asking) or {}
                more: ReserveFields = {**fields, **asked}
                if key := await found(self._key):
                    more["key"] = key
                ledger = self._ledger if isinstance(self._ledger, Ledger) else self._ledger(*args, **kwargs)
                count = quantity if isinstance(quantity, int) else await found(quantity)
                hold = ledger.hold(await found(self._account), operation, count, **more)
                own = {"hold": hold} if wants_hold else {}
                return await self._serve(hold, lambda: handler(*args, **kwargs, **own))

            if wants_hold:  # frameworks that look at the signature shall not ask the caller for it
                shown = [parameter for name, parameter in parameters.items() if name != "hold"]
                cast("Any", serve).__signature__ = inspect.Signature(shown)
            return serve

        return gated

    async def _serve(self, hold: Hold, work: Callable[[], Awaitable[Result]]) -> Result | Response:
        """Do the work on the hold; what the ledger refuses before or after it is answered by `denied`."""
        try:
            await hold.__aenter__()
        except LedgerError as error:
            return self._answer(error)
        try:
            result = await work()
        except BaseException as error:
            await hold.leave(None if _is_redirect(error) else type(error).__name__)
            raise
        status = _status(result)
        try:
            await hold.leave(f"status {status}" if status >= 400 else None)
        except Unavailable as error:  # the work is done and answered; its end is sent until it counts
            _log.warning("hold %s of %s is settled later: %s", hold.id, hold.account, error)
            hold.settle_later()
        except LedgerError as error:
            return self._answer(error)
        return result

    def _answer(self, error: LedgerError) -> Response:
        if self._denied is None:
            raise error
        return self._denied(error)


async def _found(args: tuple[Any, ...], kwargs: dict[str, Any], told: Callable[..., Any] | None) -> Any:  # noqa: ANN401 - what the caller's own function returns
    """Return what a function finds out from the handler's arguments; None when there is no such function."""
    value = None if told is None else told(*args, **kwargs)
    return await value if inspect.isawaitable(value) else value


def _status(result: object) -> int:
    """Return the status of a response, whichever way its framework names it; 200 for what has none."""
    for name in ("status", "status_code"):
        status = getattr(result, name, None)
        if isinstance(status, int):
            return status
    return 200


def _is_redirect(error: BaseException) -> bool:
    """Say whether an exception is a framework's way to answer something else than a failure."""
    status = getattr(error, "status", getattr(error, "status_code", None))
    return isinstance(error, Exception) and isinstance(status, int) and status < 400
