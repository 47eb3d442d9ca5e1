"""Reads: what the ledger answers when it is asked, always including every command that was answered before.

Balances come from the inline snapshots, with the facts that are due applied in memory, so a read at an instant says the
same as a replay until that instant would. A past instant is answered by that replay. Lists walk the log itself; what is
added up over time comes from projections, which say how far they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple, assert_never

from events.account import Account, Missing, State
from events.catalog import Catalog
from events.checking import check
from events.decide import due_facts
from events.draft import Draft
from events.errors import AccountNotFound, InvalidRequest
from events.evolve import evolve
from events.facts import Fact
from events.instants import Instant
from events.plans import capacity_limits
from events.quoting import quote
from events.recorded import decode
from projections import accounts, finance, holds, usage
from projections.balance import account_balance, account_view, quota_view
from projections.quote import catalog_view, quote_view, verdict_view
from service.access import Forbidden
from service.account_list import AccountList
from service.checkpoints.statements import SignedStatements, require_signing
from service.explanations import Explanations
from service.gathering import Snapshots
from service.ledger import Ledger
from service.lists import ItemsQuery, Lists
from service.outages import Unavailable
from service.outcomes import Outcomes
from service.queries import (
    AccountQuery,
    AccountsQuery,
    AuditQuery,
    BalanceQuery,
    CatalogQuery,
    CheckQuery,
    ConsumptionsQuery,
    ExplainQuery,
    FinanceQuery,
    ForecastQuery,
    GrantsQuery,
    HoldLeaksQuery,
    OutcomeQuery,
    Query,
    QuotaQuery,
    QuoteQuery,
    ReservationsQuery,
    ReserveHintsQuery,
    StatementQuery,
    TransactionsQuery,
    UsageOfAllQuery,
    UsageQuery,
)
from service.reports import Reports
from service.snapshots import decode_account, decode_item
from service.statement import Statements
from service.store.views import Views
from service.summaries import Summaries

TOKEN_WAIT_SECONDS = 2.0
TOKEN_POLL_SECONDS = 0.02
REPLAY_PAGE = 1000
AUDIT_ENTRIES_INCLUDED = 10

View = dict[str, object]


class Settled(NamedTuple):
    """An account at an instant: as its last event left it, as it is seen then, and the facts between the two."""

    written: State
    seen: State
    due: list[Fact]


class Reads:
    """Answers queries; every answer is a JSON object and the status that belongs to it."""

    def __init__(self, ledger: Ledger, signed: SignedStatements | None = None) -> None:
        self._ledger = ledger
        self._signed = signed
        self._log = ledger.log
        self._snapshots = Snapshots(ledger.log)
        self._lists = Lists(ledger.log)
        self._explanations = Explanations(ledger.log, ledger.partitions)
        self._statements = Statements(ledger.log)
        self._summaries = Summaries(ledger.log)
        self._accounts = AccountList(ledger.log)
        self._reports = Reports(ledger.log)
        self._views = Views(ledger.log)
        self.outcomes = Outcomes(ledger)

    @property
    def _catalog(self) -> Catalog:
        return self._ledger.catalog

    def _due_facts(self, state: State, at: Instant) -> tuple[State, list[Fact]]:
        """Return the account with what is due at an instant, under the catalogs that were in force until then."""
        history = self._ledger.history
        return due_facts(state, at, history.at(at, self._catalog), history)

    async def answer(self, name: str, query: Query, prefixes: Sequence[str] | None = None) -> tuple[int, View]:
        """Return the status and the answer of the query `name`; raises Refusal and Outage.

        `prefixes` are those of the accounts in reach of whoever asks about all; whether an account that is named is in
        reach was asked before.
        """
        match query:
            case CatalogQuery():
                return 200, catalog_view(self._catalog)
            case QuoteQuery():
                return 200, self._quote(query)
            case OutcomeQuery():
                await self._reach(query.account, query.min_token)
                return await self.outcomes.of(query)
            case BalanceQuery() | AccountQuery() | QuotaQuery():
                return 200, await self._figures(query)
            case CheckQuery():
                return 200, await self._check(query)
            case ExplainQuery():
                await self._reach(query.account, query.min_token)
                return 200, await self._explanations.of(query)
            case ReservationsQuery() | ConsumptionsQuery() | GrantsQuery() | TransactionsQuery() | AuditQuery():
                return 200, await self._list(name, query)
            case StatementQuery():
                return 200, await self._statement(query)
            case UsageQuery():
                self._require_unit(query.unit, (await self.state(query.account)).account)
                await self._reach_view(usage.NAME, query.min_token, account=query.account)
                return 200, await self._summaries.usage(query, self._ledger.partition(query.account))
            case ForecastQuery():
                return 200, await self._forecast(query)
            case UsageOfAllQuery() | FinanceQuery() | AccountsQuery() | ReserveHintsQuery() | HoldLeaksQuery():
                return 200, await self._of_all(query, prefixes)
            case _:
                assert_never(query)

    def _require_unit(self, unit: str | None, account: Account) -> None:
        """Raise InvalidRequest for a unit that neither the catalog nor the account has."""
        if unit is not None and unit not in self._catalog.units and unit not in account.figures:
            raise InvalidRequest.at("unit", f"the catalog has no unit {unit}")

    async def _of_all(
        self,
        query: UsageOfAllQuery | FinanceQuery | AccountsQuery | ReserveHintsQuery | HoldLeaksQuery,
        prefixes: Sequence[str] | None,
    ) -> View:
        if isinstance(query, UsageOfAllQuery):
            await self._reach_view(usage.NAME, query.min_token)
            return await self._summaries.usage_of_all(query, prefixes)
        if isinstance(query, AccountsQuery):
            await self._reach_view(accounts.NAME, query.min_token)
            return await self._accounts.page(query, prefixes, self._listed)
        if prefixes is not None:
            raise Forbidden("the token reaches some accounts only, and this adds up all", scope="admin:read")
        if isinstance(query, FinanceQuery):
            await self._reach_view(finance.NAME, query.min_token)
            return await self._summaries.finance(query)
        await self._reach_view(holds.NAME, query.min_token)
        if isinstance(query, ReserveHintsQuery):
            return await self._reports.reserve_hints(query)
        return await self._reports.hold_leaks(query, self._ledger.clock())

    async def _forecast(self, query: ForecastQuery) -> View:
        await self._reach_view(usage.NAME, query.min_token, account=query.account)
        now = self._ledger.clock()
        state = await self.state(query.account, now)
        self._require_unit(query.unit, state.account)
        partition = self._ledger.partition(query.account)
        return await self._reports.forecast(
            query, state=state, partition=partition, now=now, catalog=self._catalog, history=self._ledger.history
        )

    async def _listed(self, ids: Sequence[str]) -> list[View]:
        """Return accounts as they are now."""
        now = self._ledger.clock()
        states = await asyncio.gather(*(self.state(account, now) for account in ids))
        return [self._account_view(state, now) for state in states]

    def _account_view(self, state: State, now: Instant) -> View:
        limits = capacity_limits(Draft(state, now, self._catalog, ""))
        token = f"{self._ledger.partition(state.account.id)}-{state.account.position}"
        return account_view(state.account, limits, as_of=now, token=token)

    async def _list(self, name: str, query: ItemsQuery | TransactionsQuery | AuditQuery) -> View:
        partition = self._ledger.partition(query.account)
        await self._reach(query.account, query.min_token)
        snapshot = await self._snapshots.read(partition, query.account)
        if snapshot is None:
            raise not_found(query.account)
        settled = await self._settled(snapshot, self._ledger.clock())
        return await self._lists.page(name, query, settled.seen, partition, settled.due)

    async def _statement(self, query: StatementQuery) -> View:
        await self._reach(query.account, query.min_token)
        partition, now = self._ledger.partition(query.account), self._ledger.clock()
        snapshot = await self._snapshots.read(partition, query.account)
        if snapshot is None:
            raise not_found(query.account)
        self._require_unit(query.unit, snapshot)
        written, _, due = await self._settled(snapshot, now)
        view = await self._statements.page(query, written, due, partition, now)
        return await require_signing(self._signed).sign(view) if query.proof else view

    def _quote(self, query: QuoteQuery) -> View:
        return quote_view(quote(self._catalog, query))

    async def _figures(self, query: BalanceQuery | AccountQuery | QuotaQuery) -> View:
        if query.min_token is not None:
            await self._reach(query.account, query.min_token)
        if isinstance(query, BalanceQuery) and query.at is not None:
            as_of = query.at
            state = await self._state_at(query.account, as_of)
        else:
            as_of = self._ledger.clock()
            state = await self.state(query.account, as_of)
        account = state.account
        catalog = self._ledger.history.at(as_of, self._catalog)
        limits = capacity_limits(Draft(state, as_of, catalog, ""))
        token = f"{self._ledger.partition(account.id)}-{account.position}"
        if isinstance(query, AccountQuery):
            view = account_view(account, limits, as_of=as_of, token=token)
            if "quota" in (query.include or ""):
                view["quota"] = quota_view(account, "credits", limits, as_of=as_of, token=token)
            if "audit" in (query.include or ""):
                last = AuditQuery(account=account.id, limit=AUDIT_ENTRIES_INCLUDED)
                page = await self._lists.page("audit", last, state, self._ledger.partition(account.id))
                view["audit"] = page["entries"]
            return view
        self._require_unit(query.unit, account)
        unit = query.unit or "credits"
        view = account_balance if isinstance(query, BalanceQuery) else quota_view
        return view(account, unit, limits, as_of=as_of, token=token)

    async def _check(self, query: CheckQuery) -> View:
        await self._reach(query.account, query.min_token)
        now = self._ledger.clock()
        snapshot = await self._snapshots.read(self._ledger.partition(query.account), query.account)
        state = State.unknown(query.account) if snapshot is None else (await self._settled(snapshot, now)).seen
        verdict = check(Draft(state, now, self._catalog, "check", self._ledger.history), query)
        return verdict_view(query.account, verdict)

    async def state(self, account: str, now: Instant | None = None) -> State:
        """Return an account as it is now, due facts applied; raises AccountNotFound."""
        snapshot = await self._snapshots.read(self._ledger.partition(account), account)
        if snapshot is None:
            raise not_found(account)
        return (await self._settled(snapshot, now or self._ledger.clock())).seen

    async def _settled(self, snapshot: Account, now: Instant) -> Settled:
        """Apply the facts that are due, with the holds that they are about; returns them too."""
        written = State(snapshot)
        if snapshot.due_at is None or now < snapshot.due_at:
            return Settled(written, written, [])
        try:
            return Settled(written, *self._due_facts(written, now))
        except Missing:
            written = await self._with_due_holds(snapshot.id, now)
            return Settled(written, *self._due_facts(written, now))

    async def _with_due_holds(self, account: str, now: Instant) -> State:
        """Return an account with its holds that are due, all as of one moment: the sweeper may be writing them."""
        rows = await self._log.load(self._ledger.partition(account), [account], [], {account: now})
        state = State(next(decode_account(row.state) for row in rows if row.what == "account"))
        for row in rows:
            if row.what == "item":
                state.known["work", row.id] = decode_item(row.state)
            elif row.what == "next_due":
                state.holds_due = (now, row.due_at)
        return state

    async def _state_at(self, account: str, at: Instant) -> State:
        """Return an account as a read at a past instant saw it: the fold until then, and what was due."""
        if at > self._ledger.clock():
            raise InvalidRequest.at("at", "is in the future")
        partition = self._ledger.partition(account)
        state, position = State.unknown(account), 0
        while True:
            page = await self._log.account_lines(partition, account, after=position, until=at, limit=REPLAY_PAGE)
            for _, stored in page:
                evolve(state, decode(stored.line))
                state.settle()
            position = state.account.position
            if len(page) < REPLAY_PAGE:
                break
            await asyncio.sleep(0)
        if not state.exists:
            raise not_found(account)
        return self._due_facts(state, at)[0]

    async def _reach(self, account: str, token: str | None) -> None:
        """Wait until this reader has what the token stands for, 2 s at most."""
        if token is None:
            return
        partition, position = (int(part) for part in token.split("-"))
        if partition != self._ledger.partition(account):
            raise InvalidRequest.at("min_token", f"is of another partition than account {account}")
        deadline = monotonic() + TOKEN_WAIT_SECONDS
        while (await self._log.head(partition)).position < position:
            if monotonic() > deadline:
                raise Unavailable(f"the log has not reached {token}")
            await asyncio.sleep(TOKEN_POLL_SECONDS)

    async def _reach_view(self, name: str, tokens: str | None, *, account: str | None = None) -> None:
        """Wait until a projection has what tokens stand for, 2 s at most; `account` is the only one that is asked for."""
        deadline = monotonic() + TOKEN_WAIT_SECONDS
        for token in tokens.split(",") if tokens is not None else ():
            partition, position = (int(part) for part in token.split("-"))
            if partition >= self._ledger.partitions:
                raise InvalidRequest.at("min_token", f"there are {self._ledger.partitions} partitions, from 0")
            if account is not None and partition != self._ledger.partition(account):
                raise InvalidRequest.at("min_token", f"is of another partition than account {account}")
            while await self._views.reached(name, partition) < position:
                if monotonic() > deadline:
                    raise Unavailable(f"the projection {name} has not reached {token}")
                await asyncio.sleep(TOKEN_POLL_SECONDS)


def not_found(account: str) -> AccountNotFound:
    """Return the refusal of a read of an account that was never opened."""
    return AccountNotFound(f"there is no account {account}", account=account)
