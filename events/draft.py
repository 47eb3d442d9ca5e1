"""A draft: the facts of one decision as they are found, each applied at once to a fork of the account.

Rules that need several facts (a first reserve opens the account, grants its allowance and then holds) read the draft's
state between them as if the earlier ones had happened. When the rule refuses, the draft is thrown away and nothing has
happened.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from msgspec.structs import replace

from events.account import ZERO, State
from events.catalog import Catalog, Plan
from events.errors import InvalidRequest
from events.evolve import apply
from events.facts import FIGURE_MAX, Consumed, Data, Fact, Figures, Kind, Refunded, Reserved
from events.history import NO_HISTORY, History
from events.instants import Instant

LEDGER = "ledger"
"""What the ids of the ledger's own grants begin with, before a colon; a caller may not choose such an id."""

_OF_HOLDS = (Consumed, Refunded, Reserved)


class Draft:
    """The decision in the making: its state, its instant, the catalog in force, and an id that nobody else has.

    `history` has the catalogs that were in force before, for what is decided later than it holds.
    """

    __slots__ = ("catalog", "facts", "history", "new_id", "now", "state")

    def __init__(
        self, state: State, now: Instant, catalog: Catalog, new_id: str, history: History = NO_HISTORY
    ) -> None:
        self.state = state.fork()
        self.now = now
        self.catalog = catalog
        self.history = history
        self.new_id = new_id
        self.facts: list[Fact] = []

    def add(self, kind: Kind, data: Data, *, effective_at: Instant | None = None, system_id: str | None = None) -> None:
        """Let one fact happen; raises InvalidRequest when a figure would leave its bounds (SEMANTICS.md section 1)."""
        account = self.state.account
        before = account.figures
        account.figures = balance = dict(before)  # evolve changes in place, and the last fact keeps its balance
        apply(self.state, kind, data, effective_at or self.now, system=system_id is not None)
        delta: dict[str, Figures] = {}
        for unit, after in balance.items():
            old = before.get(unit, ZERO)
            delta[unit] = ZERO if after is old else _difference(after, old)
        data = self._with_totals(kind, data)
        if isinstance(data, Consumed):
            _require_countable(data, account.usage[data.unit].used)
        self.facts.append(Fact(kind, data, delta, balance, effective_at, system_id))

    def _with_totals(self, kind: Kind, data: Data) -> Data:
        """Add how the hold and the consumption stand now, so that answers are rebuilt from the event alone."""
        if isinstance(data, _OF_HOLDS) and kind != "hold" and data.reservation_id is not None:
            hold = self.state.hold(data.reservation_id)
            data = replace(data, hold=hold.figures() if hold else None)
        if isinstance(data, Refunded) and data.consumption_id is not None:
            consumption = self.state.consumption(data.consumption_id)
            data = replace(data, refunded=consumption.refunded if consumption else 0)
        return data

    @contextmanager
    def under(self, catalog: Catalog) -> Generator[None]:
        """Let another catalog be in force for a while."""
        present, self.catalog = self.catalog, catalog
        try:
            yield
        finally:
            self.catalog = present

    def figures(self, unit: str) -> Figures:
        """Return the balance of a unit as it stands now."""
        return self.state.account.figures.get(unit, ZERO)

    def plan(self) -> Plan | None:
        """Return the account's plan as the catalog has it, or None when the plan left the catalog."""
        name = self.state.account.plan
        return self.catalog.plans.get(name) if name is not None else None

    def next_id(self, *, system: bool = False) -> str:
        """Return an id for a grant that the ledger makes itself, unique in the account and the same at each attempt.

        What a due fact makes has an id by its place alone, whoever comes to write it.
        """
        return f"{LEDGER if system else self.new_id}:{self.state.account.events}"


def _require_countable(data: Consumed, used: int) -> None:
    """Refuse the step that would bring the period's usage, or what its hold came to, above the largest figure."""
    if used > FIGURE_MAX or (data.hold is not None and data.hold.charged + data.hold.unfunded > FIGURE_MAX):
        raise InvalidRequest.at("amount", f"the usage would be above {FIGURE_MAX}")


def _difference(after: Figures, before: Figures) -> Figures:
    # Together, because time turns each of the four into available: a due fact must never be the one that is refused.
    if after.available + after.reserved + after.scheduled + after.scoped > FIGURE_MAX or after.debt > FIGURE_MAX:
        raise InvalidRequest.at("amount", f"the balance would be above {FIGURE_MAX}")
    return Figures(
        available=after.available - before.available,
        reserved=after.reserved - before.reserved,
        debt=after.debt - before.debt,
        scheduled=after.scheduled - before.scheduled,
        scoped=after.scoped - before.scoped,
        bonus=after.bonus - before.bonus,
    )
