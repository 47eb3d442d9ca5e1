"""The recent states of a partition's accounts: what its writer knows, bounded.

An entry is right as long as no other writer touched the account behind the head that the writer knows; the writer drops
what it cannot vouch for. The least recently used accounts leave first. An account with very many items in memory keeps
its snapshot and its latest items; the others are loaded again when they are asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

from events.account import Item, Key, State

ACCOUNTS_MAX = 4096
ITEMS_MAX = 16_384
"""Of all accounts together; one of them may have half of it."""


class StateCache:
    """States by account."""

    def __init__(self, accounts_max: int = ACCOUNTS_MAX, items_max: int = ITEMS_MAX) -> None:
        self._states: OrderedDict[str, State] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._items = 0
        self._accounts_max = accounts_max
        self._items_max = items_max

    def get(self, account: str) -> State | None:
        """Return the state of an account."""
        return self._states.get(account)

    def put(self, account: str, state: State) -> None:
        """Keep a state; its account is now the most recently used."""
        self._states[account] = state
        self._states.move_to_end(account)
        size = len(state.known)
        before = self._sizes.get(account)
        if size != before:
            self._items += size - (before or 0)
            self._sizes[account] = size
        while len(self._states) > self._accounts_max or self._items > self._items_max:
            oldest, _ = self._states.popitem(last=False)
            self._items -= self._sizes.pop(oldest)

    def latest(self, state: State) -> dict[Key, Item | None] | None:
        """Return the items to go on with when a state has too many of them, else None."""
        if len(state.known) <= self._items_max // 2:
            return None
        left = len(state.known) - self._items_max // 4
        return dict(islice(state.known.items(), left, None))

    def drop(self, accounts: Iterable[str]) -> None:
        """Forget some accounts."""
        for account in accounts:
            if self._states.pop(account, None) is not None:
                self._items -= self._sizes.pop(account)

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()
        self._sizes.clear()
        self._items = 0
