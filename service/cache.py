"""The recent states of a partition's accounts: what its writer knows, bounded.

An entry is right as long as no other writer touched the account behind the head that the writer knows; the writer drops
what it cannot vouch for. The least recently used accounts leave first. An account with very many items in memory keeps
its snapshot and forgets the items, which are loaded again when they are asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from events.account import State

ACCOUNTS_MAX = 4096
ITEMS_OF_ACCOUNT_MAX = 4096


class StateCache:
    """States by account."""

    def __init__(self, accounts_max: int = ACCOUNTS_MAX, items_max: int = ITEMS_OF_ACCOUNT_MAX) -> None:
        self._states: OrderedDict[str, State] = OrderedDict()
        self._accounts_max = accounts_max
        self._items_max = items_max

    def get(self, account: str) -> State | None:
        """Return the state of an account, which is now the most recently used."""
        state = self._states.get(account)
        if state is not None:
            self._states.move_to_end(account)
        return state

    def put(self, account: str, state: State) -> None:
        """Keep a state."""
        if len(state.known) > self._items_max:
            state = State(state.account)
        self._states[account] = state
        self._states.move_to_end(account)
        if len(self._states) > self._accounts_max:
            self._states.popitem(last=False)

    def drop(self, accounts: Iterable[str]) -> None:
        """Forget some accounts."""
        for account in accounts:
            self._states.pop(account, None)

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()
