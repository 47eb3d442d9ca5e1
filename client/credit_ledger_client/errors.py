"""What can go wrong, as exceptions: one class for each stable code (the ledger's CONTRACT.md, "Errors").

    LedgerError
        Refused            the ledger understood and says no; sending the same again changes nothing by itself
            InsufficientCredits, CapacityExceeded, AccountNotFound, ...
        Unavailable        no answer within the caller's patience; a query, or a command that was not executed
            OutcomeUnknown a command that may or may not have been executed: look its key up, or send it again with it

Every one carries its problem document (RFC 9457), so a handler can pass it on: `status`, `headers` and `body` are the
answer that the ledger itself would give.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

PROBLEM_TYPE = "application/problem+json"


class LedgerError(Exception):
    """Something went wrong; `problem` is what there is to say about it, as JSON for a caller of yours."""

    code: str = "internal"
    status: int = 500
    title: str = "Internal error"

    def __init__(self, detail: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        given = dict(problem or {})
        self.code = str(given.get("code", self.code))
        self.status = int(given.get("status", self.status))
        self.title = str(given.get("title", self.title))
        about = {"type": f"urn:credit-ledger:problem:{self.code}", "title": self.title, "status": self.status}
        self.problem: dict[str, Any] = {**about, "code": self.code, "detail": detail, **given}

    @property
    def body(self) -> bytes:
        """The problem as the bytes of an HTTP answer."""
        return json.dumps(self.problem, separators=(",", ":")).encode()

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an HTTP answer that carries `body`."""
        return {"Content-Type": PROBLEM_TYPE}


class Refused(LedgerError):
    """The ledger refused; nothing was written. `fields` are those that help, beside the code and its words."""

    status = 409
    code = "refused"
    title = "Refused"

    @property
    def fields(self) -> dict[str, Any]:
        """What the problem says beside its type, title, status, code and detail."""
        return {name: value for name, value in self.problem.items() if name not in _ABOUT}


_ABOUT = frozenset({"type", "title", "status", "code", "detail"})


class InsufficientCredits(Refused):
    """The account's credits do not cover the cost; the catalog may give it another status and code than these."""

    code = "insufficient_credits"
    status = 402
    title = "Not enough credits"

    @property
    def cost(self) -> int:
        """What it would have cost."""
        return int(self.problem.get("cost", 0))

    @property
    def available(self) -> int:
        """What could be spent on it."""
        return int(self.problem.get("available", 0))

    @property
    def shortfall(self) -> int:
        """What is missing."""
        return int(self.problem.get("shortfall", 0))

    @property
    def max_affordable(self) -> int | None:
        """How much would pass: a quantity of an operation, credits of an amount, whole sets of lines."""
        value = self.problem.get("max_affordable")
        return None if value is None else int(value)

    @property
    def earliest_affordable_at(self) -> datetime | None:
        """When it would be covered if nothing else happened; None when that is not known."""
        value = self.problem.get("earliest_affordable_at")
        return None if value is None else datetime.fromisoformat(value)

    @property
    def upgrade(self) -> str | None:
        """The catalog's words for the account's owner."""
        return self.problem.get("upgrade")


class CapacityExceeded(Refused):
    """A capacity of the plan has no room."""

    code = "capacity_exceeded"
    status = 429
    title = "No room left in a capacity of the plan"

    @property
    def capacity(self) -> str:
        """Which capacity."""
        return str(self.problem.get("capacity", ""))

    @property
    def used(self) -> int:
        """What of it is occupied."""
        return int(self.problem.get("used", 0))

    @property
    def limit(self) -> int:
        """The plan's limit."""
        return int(self.problem.get("limit", 0))


class InvalidRequest(Refused):
    """The request is not valid."""

    code = "invalid_request"
    status = 422
    title = "The request is not valid"

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Each place and what is wrong with it."""
        return list(self.problem.get("errors", ()))


class ReservationFinalized(Refused):
    """The reservation has ended."""

    code = "reservation_finalized"
    title = "The reservation has ended"

    @property
    def state(self) -> str:
        """How it ended."""
        return str(self.problem.get("state", ""))


class Forbidden(Refused):
    """The token or caller lacks a scope."""

    code = "forbidden"
    status = 403
    title = "Not allowed"

    @property
    def scope(self) -> str:
        """The scope that it lacks."""
        return str(self.problem.get("scope", ""))


class InvalidJson(Refused):
    """The body is not JSON that the ledger reads."""

    code, status = "invalid_json", 400


class KeyRequired(Refused):
    """A mutation without an idempotency key."""

    code, status = "idempotency_key_required", 400


class InvalidCursor(Refused):
    """The cursor of a list is not one that the ledger gave."""

    code, status = "invalid_cursor", 400


class Unauthenticated(Refused):
    """There is no token, or none that the ledger knows."""

    code, status = "unauthenticated", 401


class NotFound(Refused):
    """Something that is named does not exist."""

    code, status = "not_found", 404


class AccountNotFound(NotFound):
    """The account is unknown, or out of the token's reach."""

    code = "account_not_found"


class ReservationNotFound(NotFound):
    """The account has no such reservation."""

    code = "reservation_not_found"


class ConsumptionNotFound(NotFound):
    """The account has no such consumption."""

    code = "consumption_not_found"


class GrantNotFound(NotFound):
    """The account has no such grant."""

    code = "grant_not_found"


class OperationNotFound(NotFound):
    """The catalog lists no such operation."""

    code = "operation_not_found"


class PlanNotFound(NotFound):
    """The catalog lists no such plan."""

    code = "plan_not_found"


class CommandNotFound(NotFound):
    """No command with this key was accepted, as of the token `as_of`."""

    code = "command_not_found"

    @property
    def refusal(self) -> Refused | None:
        """What a durable command with this key was refused with, when that was asked for and is still known."""
        told = self.problem.get("refusal")
        return None if told is None else refused(told)


class IdempotencyMismatch(Refused):
    """The key was used before for another command."""

    code = "idempotency_mismatch"


class ExceedsReservation(Refused):
    """The step is above what is held, and the hold's overage is `reject`; the hold stays open."""

    code = "exceeds_reservation"


class RefundExceedsConsumption(Refused):
    """More than what is left of the consumption's charge."""

    code = "refund_exceeds_consumption"


class AlreadyExists(Refused):
    """The id that was chosen is taken in this account."""

    code = "already_exists"


class AccountFrozen(Refused):
    """The account is frozen."""

    code = "account_frozen"


class AccountClosed(Refused):
    """The account is closed."""

    code = "account_closed"


class PeriodPassed(Refused):
    """The period to renew is over."""

    code = "period_passed"


class BatchAborted(Refused):
    """Another command of the atomic batch was refused."""

    code = "batch_aborted"


class ReservationExpired(Refused):
    """The reservation's time is over."""

    code, status = "reservation_expired", 410


class CommandExpired(Refused):
    """The command's deadline has passed; it was not executed."""

    code, status = "command_expired", 410


class TooLarge(Refused):
    """The body is larger than the ledger or the broker takes."""

    code, status = "too_large", 413


class TooManyHolds(Refused):
    """The account has as many open holds as its plan allows."""

    code, status = "too_many_holds", 429


class TooManyGrants(Refused):
    """The account has as many live grants as there may be."""

    code, status = "too_many_grants", 429


class Unsupported(LedgerError):
    """The transport cannot do this; the message names one that can."""

    code, status, title = "unsupported", 501, "Not supported by this transport"


class Unavailable(LedgerError):
    """The ledger gave no answer within the patience: a query, or a command that certainly was not executed."""

    code, status, title = "unavailable", 503, "Temporarily unavailable"
    retry_after_seconds: ClassVar[int] = 1

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an HTTP answer that carries `body`, with the hint when to try again."""
        return {**super().headers, "Retry-After": str(self.retry_after_seconds)}


class OutcomeUnknown(Unavailable):
    """A command may or may not have been executed: `ledger.outcome(account, key)` tells, or sending it again with `key`."""

    def __init__(self, detail: str, *, account: str, key: str) -> None:
        super().__init__(detail, {"account": account, "idempotency_key": key})
        self.account = account
        self.key = key


class HistoryError(LedgerError):
    """The stream of events cannot be followed any further."""

    code, title = "history_error", "The stream of events cannot be followed"


class GapFound(HistoryError):
    """Events of a partition are missing in the stream, and there was nothing to fill the gap from."""

    def __init__(self, partition: int, expected: int, found: int) -> None:
        super().__init__(
            f"partition {partition}: position {expected} should come, and {found} came; give `fill=` a ledger over HTTP "
            "whose token has the scope audit"
        )
        self.partition = partition
        self.expected = expected
        self.found = found


class HistoryChanged(HistoryError):
    """What came does not follow what was seen before: another ledger, a restored backup, or a forged event."""


def _all_below(kind: type[Refused]) -> list[type[Refused]]:
    return [kind, *(each for below in kind.__subclasses__() for each in _all_below(below))]


_BY_CODE: dict[str, type[Refused]] = {kind.code: kind for kind in _all_below(Refused)}


def refused(problem: Mapping[str, Any]) -> Refused:
    """Return the exception for a problem document of the ledger; one of an unknown code is a plain Refused."""
    kind = _BY_CODE.get(str(problem.get("code")))
    if kind is None:  # the catalog may name it otherwise; nothing else has these two
        kind = InsufficientCredits if {"shortfall", "max_affordable"} <= problem.keys() else Refused
    return kind(str(problem.get("detail", problem.get("title", "refused"))), problem)
