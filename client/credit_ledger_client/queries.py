"""The queries of the facade: one method for each, typed. A read includes every command that was answered before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from credit_ledger_client.answers import (
    Account,
    AccountBalance,
    Accounts,
    Answer,
    Audit,
    Catalog,
    Consumptions,
    Grants,
    Quota,
    Quote,
    Reservations,
    Statement,
    Transactions,
    Usage,
    Verdict,
    View,
)
from credit_ledger_client.asking import Asking, read
from credit_ledger_client.errors import CommandNotFound
from credit_ledger_client.fields import (
    AccountsFields,
    BalanceFields,
    CheckFields,
    FinanceFields,
    Fresh,
    ItemFields,
    Line,
    Params,
    QuotaFields,
    RangeFields,
    StatementFields,
    TransactionsFields,
    UsageFields,
    wire,
)
from credit_ledger_client.transport import Request


class Queries(Asking):
    """What a service may ask the ledger."""

    async def check(
        self, account: str, operation: str | None = None, quantity: int | None = None, **fields: Unpack[CheckFields]
    ) -> Verdict:
        """Say whether a reserve would pass now, and what would help if not; an unknown account as if it were opened."""
        return await self._query(Verdict, "check", fields, account=account, operation=operation, quantity=quantity)

    async def quote(
        self,
        operation: str | None = None,
        quantity: int | None = None,
        *,
        params: Params | None = None,
        lines: Sequence[Line] | None = None,
    ) -> Quote:
        """Return what operations cost, for nobody in particular."""
        return await self._query(Quote, "quote", {}, operation=operation, quantity=quantity, params=params, lines=lines)

    async def balance(self, account: str, **fields: Unpack[BalanceFields]) -> AccountBalance:
        """Return the balance of one unit, now or at a past instant."""
        return await self._query(AccountBalance, "balance", fields, account=account)

    async def quota(self, account: str, **fields: Unpack[QuotaFields]) -> Quota:
        """Return how much of the present period's credits is used."""
        return await self._query(Quota, "quota", fields, account=account)

    async def account(self, account: str, *, include: Sequence[str] = (), **fields: Unpack[Fresh]) -> Account:
        """Return an account; `include` may name `quota` and `audit`."""
        return await self._query(Account, "account", fields, account=account, include=",".join(include) or None)

    async def outcome(self, account: str, key: str, *, submitted_seconds_ago: int | None = None) -> Answer | None:
        """Return what a command with this key led to first, or None while it is being worked on.

        Raises CommandNotFound when none was accepted so far: one that is still on its way may be accepted later. Of a
        durable command say how long ago it was submitted, at most: then `refusal` of that error is what it was told.
        """
        fields = wire({"account": account, "idempotency_key": key, "submitted_seconds_ago": submitted_seconds_ago})
        reply = await self._send(Request("query", "outcome", fields))
        return None if reply.status == 202 else read(Answer, reply)

    async def was_accepted(self, account: str, key: str) -> bool:
        """Say whether a command with this key was accepted so far."""
        try:
            return await self.outcome(account, key) is not None
        except CommandNotFound:
            return False

    async def reservations(self, account: str, **fields: Unpack[ItemFields]) -> Reservations:
        """Return a page of an account's reservations, newest first."""
        return await self._query(Reservations, "reservations", fields, account=account)

    async def consumptions(self, account: str, **fields: Unpack[ItemFields]) -> Consumptions:
        """Return a page of an account's consumptions, newest first."""
        return await self._query(Consumptions, "consumptions", fields, account=account)

    async def grants(self, account: str, **fields: Unpack[ItemFields]) -> Grants:
        """Return a page of an account's grants, newest first."""
        return await self._query(Grants, "grants", fields, account=account)

    async def transactions(self, account: str, **fields: Unpack[TransactionsFields]) -> Transactions:
        """Return a page of an account's events, newest first."""
        return await self._query(Transactions, "transactions", fields, account=account)

    async def usage(self, account: str, **fields: Unpack[UsageFields]) -> Usage:
        """Return an account's work by time."""
        return await self._query(Usage, "usage", fields, account=account)

    async def statement(self, account: str, **fields: Unpack[StatementFields]) -> Statement:
        """Return what moved in an account, oldest first, with the balance before and after."""
        return await self._query(Statement, "statement", fields, account=account)

    async def audit(self, account: str, **fields: Unpack[RangeFields]) -> Audit:
        """Return a page of what admins did to an account, newest first."""
        return await self._query(Audit, "audit", fields, account=account)

    async def explain(self, account: str, event: str, **fields: Unpack[Fresh]) -> View:
        """Return why an event of an account is as it is."""
        return await self._query(View, "explain", fields, account=account, event=event)

    async def accounts(self, **fields: Unpack[AccountsFields]) -> Accounts:
        """Return a page of all accounts."""
        return await self._query(Accounts, "accounts", fields)

    async def usage_of_all(self, **fields: Unpack[UsageFields]) -> Usage:
        """Return the work of all accounts by time."""
        return await self._query(Usage, "usage_of_all", fields)

    async def finance_summary(self, **fields: Unpack[FinanceFields]) -> View:
        """Return where the credits of all accounts came from and went."""
        return await self._query(View, "finance_summary", fields)

    async def catalog(self) -> Catalog:
        """Return the catalog in force: units, plans, operations and packs."""
        return await self._query(Catalog, "catalog", {})
