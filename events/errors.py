"""Refusals: the ledger's ways of saying no, each with its stable code (CONTRACT.md, "Errors").

A refusal is final for the command as it stands: the caller must change something (fund the account, name another id)
before it can pass, and nothing was written. It is raised by `decide` and carried to the caller as a problem document,
the same over HTTP and NATS. A conflict between writers or an outage is not a refusal; those have types of their own in
the service. The class is the table: code, status and title stand together here and nowhere else.
"""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    """The command was understood and is not allowed; `fields` holds the figures that help the caller."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "Refused"

    def __init__(self, detail: str, **fields: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields


class InvalidRequest(Refusal):
    """The body has the right JSON types but not a meaning; `errors` lists each place and what is wrong with it."""

    code = "invalid_request"
    status = 422
    title = "The request is not valid"

    @classmethod
    def at(cls, loc: str, msg: str) -> InvalidRequest:
        """Return the refusal for one field."""
        return cls(f"{loc}: {msg}", errors=[{"loc": [loc], "msg": msg}])


class NotFound(Refusal):
    """There is no such command, query or page."""

    code = "not_found"
    status = 404
    title = "Not found"


class KeyRequired(Refusal):
    """A mutation without an idempotency key."""

    code = "idempotency_key_required"
    status = 400
    title = "An idempotency key is required"


class InsufficientCredits(Refusal):
    """The credits that the command may use do not cover its cost."""

    code = "insufficient_credits"
    status = 402
    title = "Not enough credits"


class CapacityExceeded(Refusal):
    """A capacity of the plan has no room for what the hold would occupy."""

    code = "capacity_exceeded"
    status = 429
    title = "No room left in a capacity of the plan"


class TooManyHolds(Refusal):
    """The account has as many open holds with a TTL as its plan allows."""

    code = "too_many_holds"
    status = 429
    title = "Too many open holds"


class TooManyGrants(Refusal):
    """The account has 256 live grants."""

    code = "too_many_grants"
    status = 429
    title = "Too many live grants"


class AccountNotFound(Refusal):
    """The account is unknown, and the command does not open one."""

    code = "account_not_found"
    status = 404
    title = "Account not found"


class ReservationNotFound(Refusal):
    """The account has no reservation of this id."""

    code = "reservation_not_found"
    status = 404
    title = "Reservation not found"


class ConsumptionNotFound(Refusal):
    """The account has no consumption of this id."""

    code = "consumption_not_found"
    status = 404
    title = "Consumption not found"


class GrantNotFound(Refusal):
    """The account has no grant of this id."""

    code = "grant_not_found"
    status = 404
    title = "Grant not found"


class OperationNotFound(Refusal):
    """The catalog lists no such operation, so that a typing error is never free."""

    code = "operation_not_found"
    status = 404
    title = "Operation not found"


class PlanNotFound(Refusal):
    """The catalog lists no such plan."""

    code = "plan_not_found"
    status = 404
    title = "Plan not found"


class CommandNotFound(Refusal):
    """No command with this key was accepted for the account."""

    code = "command_not_found"
    status = 404
    title = "Command not found"


class IdempotencyMismatch(Refusal):
    """The key was used before for another command."""

    code = "idempotency_mismatch"
    status = 409
    title = "The idempotency key belongs to another command"


class ReservationFinalized(Refusal):
    """The reservation has ended; `state` says how."""

    code = "reservation_finalized"
    status = 409
    title = "The reservation has ended"


class ExceedsReservation(Refusal):
    """The step is above what is held, and the hold's overage is `reject`."""

    code = "exceeds_reservation"
    status = 409
    title = "More than the reservation holds"


class RefundExceedsConsumption(Refusal):
    """More than what is left of the consumption's charge."""

    code = "refund_exceeds_consumption"
    status = 409
    title = "More than the consumption charged"


class AlreadyExists(Refusal):
    """The id that the caller chose is taken in this account."""

    code = "already_exists"
    status = 409
    title = "The id is taken"


class AccountFrozen(Refusal):
    """The account is frozen."""

    code = "account_frozen"
    status = 409
    title = "The account is frozen"


class AccountClosed(Refusal):
    """The account is closed."""

    code = "account_closed"
    status = 409
    title = "The account is closed"


class PeriodPassed(Refusal):
    """The period to renew is over."""

    code = "period_passed"
    status = 409
    title = "The period has passed"


class BatchAborted(Refusal):
    """Another command of the atomic batch was refused."""

    code = "batch_aborted"
    status = 409
    title = "The batch was aborted"


class ReservationExpired(Refusal):
    """The reservation's time is over."""

    code = "reservation_expired"
    status = 410
    title = "The reservation has expired"


class CommandExpired(Refusal):
    """The command's deadline has passed."""

    code = "command_expired"
    status = 410
    title = "The command's deadline has passed"
