"""The commands of the facade: one method for each, typed (the ledger's CONTRACT.md and SEMANTICS.md have the rules).

Each gets a key before it is first sent and is sent again with it until there is an answer; so it counts once. Raises
the Refused of its code, Unavailable when it was not executed, and OutcomeUnknown when nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack

from credit_ledger_client.answers import Answer
from credit_ledger_client.asking import Asking, new_key, read
from credit_ledger_client.errors import LedgerError, refused
from credit_ledger_client.fields import (
    AdjustFields,
    ChangePlanFields,
    ConsumeFields,
    ExtendFields,
    GrantFields,
    RefundFields,
    ReleaseFields,
    RenewFields,
    ReserveFields,
    ResetUsageFields,
    Sending,
    SettleFields,
    wire,
)
from credit_ledger_client.transport import Request


class Commands(Asking):
    """What a service may ask the ledger to do."""

    async def _command(self, name: str, account: str, given: Mapping[str, Any], **fields: object) -> Answer:
        request = self._request(name, account, given, **fields)
        return read(Answer, await self._send(request, given.get("within")))

    async def reserve(
        self,
        account: str,
        operation: str | None = None,
        quantity: int | None = None,
        **fields: Unpack[ReserveFields],
    ) -> Answer:
        """Set credits aside and occupy capacity for work that is about to be done."""
        return await self._command("reserve", account, fields, operation=operation, quantity=quantity)

    async def settle(self, account: str, reservation_id: str, **fields: Unpack[SettleFields]) -> Answer:
        """Consume a step of a reservation: all that is held, unless told otherwise; `final=False` keeps it open."""
        return await self._command("consume", account, fields, reservation_id=reservation_id)

    async def consume(
        self,
        account: str,
        operation: str | None = None,
        quantity: int | None = None,
        **fields: Unpack[ConsumeFields],
    ) -> Answer:
        """Check and charge in one step, without a reservation; the count is 1 unless told otherwise."""
        return await self._command("consume", account, fields, operation=operation, quantity=quantity)

    async def release(self, account: str, reservation_id: str, **fields: Unpack[ReleaseFields]) -> Answer:
        """End a reservation without a charge."""
        return await self._command("release", account, fields, reservation_id=reservation_id)

    async def extend(self, account: str, reservation_id: str, **fields: Unpack[ExtendFields]) -> Answer:
        """Let a reservation live longer, hold more, or occupy other capacity."""
        return await self._command("extend", account, fields, reservation_id=reservation_id)

    async def refund(self, account: str, consumption_id: str, **fields: Unpack[RefundFields]) -> Answer:
        """Give back all or a part of a consumption; that of a hold's final step has the hold's id."""
        return await self._command("refund", account, fields, consumption_id=consumption_id)

    async def grant(self, account: str, amount: int, **fields: Unpack[GrantFields]) -> Answer:
        """Give credits to an account."""
        return await self._command("grant", account, fields, amount=amount)

    async def revoke(self, account: str, grant_id: str, reason: str, **fields: Unpack[Sending]) -> Answer:
        """Take back what is left of a grant."""
        return await self._command("revoke", account, fields, grant_id=grant_id, reason=reason)

    async def adjust(self, account: str, amount: int, reason: str, **fields: Unpack[AdjustFields]) -> Answer:
        """Add credits, or take some away with a negative amount."""
        return await self._command("adjust", account, fields, amount=amount, reason=reason)

    async def change_plan(self, account: str, plan: str | None = None, **fields: Unpack[ChangePlanFields]) -> Answer:
        """Open an account on a plan, or change its plan or limits."""
        return await self._command("change_plan", account, fields, plan=plan)

    async def renew(self, account: str, reference: str, **fields: Unpack[RenewFields]) -> Answer:
        """Count a payment for the present period, or shortly before its end for the next one."""
        return await self._command("renew", account, fields, reference=reference)

    async def reset_usage(self, account: str, reason: str, **fields: Unpack[ResetUsageFields]) -> Answer:
        """Give back all that the present period consumed."""
        return await self._command("reset_usage", account, fields, reason=reason)

    async def set_status(
        self, account: str, status: Literal["active", "frozen", "closed"], reason: str, **fields: Unpack[Sending]
    ) -> Answer:
        """Freeze an account, close it, or let it be active again."""
        return await self._command("set_status", account, fields, status=status, reason=reason)

    async def batch(
        self,
        commands: Sequence[Mapping[str, Any]],
        *,
        mode: Literal["independent", "atomic"] = "independent",
        dry_run: bool = False,
        within: float | None = None,
    ) -> list[Answer | LedgerError]:
        """Send up to 1000 commands at once, each `{"command": ..., "account": ..., ...}`; returns a result for each.

        A command without a `key` gets one, the same at each attempt. Raises what is wrong with the batch as
        a whole; what is wrong with one command is its result.
        """
        keyed = [{"idempotency_key": command.get("key") or new_key(), **wire(command)} for command in commands]
        fields = {"mode": mode, "commands": keyed}
        request = Request("batch", "batch", fields, dry_run=dry_run, on_behalf_of=self._on_behalf_of)
        reply = await self._send(request, within)
        if reply.status >= 300:
            raise refused(reply.json)
        return [_result(result) for result in reply.json["results"]]


def _result(result: Mapping[str, Any]) -> Answer | LedgerError:
    """Return one result of a batch."""
    problem = result.get("problem")
    return Answer.model_validate(result) if problem is None else refused(problem)
