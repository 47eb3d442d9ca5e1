"""The recent states of a partition's accounts: what its writer knows, bounded.

An entry is right as long as no other writer touched the account behind the head that the writer knows; the writer drops
what it cannot vouch for. The least recently used accounts leave first. An account keeps its snapshot, its open holds and
its latest items; the others are loaded again when they are asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

from events.account import Item, Key, State
from events.holds import Hold

ACCOUNTS_MAX = 4096
ITEMS_MAX = 16_384
"""Of all accounts together; one of them may have half of it."""
LATEST_KEPT = 8
"""Of an account that is made lighter, beside its open holds."""


class StateCache:
    """States by account."""

    def __init__(self, accounts_max: int = ACCOUNTS_MAX, items_max: int = ITEMS_MAX) -> None:
        self._states: OrderedDict[str, State] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._room: dict[str, int] = {}
        """How many items an account may have until it is made lighter, if it was before."""
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
            self._let_go(oldest)

    def lighter(self, account: str, state: State) -> dict[Key, Item | None] | None:
        """Return the items to go on with when a state has become too heavy, else None.

        What is over is seldom asked for again: open holds stay, and the latest of the others. There must be about twice
        as many before it is done again, so that each item is looked at a few times only.
        """
        size = len(state.known)
        if size <= self._room.get(account, 2 * LATEST_KEPT):
            return None
        items = state.known.items()
        kept: dict[Key, Item | None] = {
            key: item for key, item in items if isinstance(item, Hold) and item.state == "open"
        }
        kept.update(islice(items, max(0, size - LATEST_KEPT), None))
        if len(kept) > self._items_max // 2:
            kept = dict(islice(kept.items(), len(kept) - self._items_max // 4, None))
        self._room[account] = 2 * max(LATEST_KEPT, len(kept))
        return kept

    def drop(self, accounts: Iterable[str]) -> None:
        """Forget some accounts."""
        for account in accounts:
            if self._states.pop(account, None) is not None:
                self._let_go(account)

    def _let_go(self, account: str) -> None:
        self._items -= self._sizes.pop(account)
        self._room.pop(account, None)

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()
        self._sizes.clear()
        self._room.clear()
        self._items = 0
