"""The accounts of a partition during a replay, in bounded memory.

A log may have far more accounts and work than fit into memory, and any of it may be named again at its very end. Work
that is over is put on the shelf as its stored bytes, a quarter of what it takes otherwise, and so are the accounts that
were in memory for longest, with all that is theirs. An account asks for what it lacks when it is named (`_Known`), so the
replay notices nothing of this.
"""

from __future__ import annotations

from collections.abc import Iterator

from events.account import Account, Item, ItemKind, Key, State
from events.evolve import evolve
from events.grants import Grant
from events.holds import Consumption, Hold
from events.payments import Paid
from events.recorded import Event
from events.spending import Payers, Resets
from service.auditing.shelf import Budget, Shelf

UNITS_IN_MEMORY_MAX = 10_000
"""Accounts, and items of theirs that are not on the shelf, together; each takes one to two KiB."""


class _Known(dict[Key, Item | None]):
    """The items of an account that are in memory; one that is asked for is brought from the shelf."""

    __slots__ = ("_account", "_brought", "_shelf")

    def __init__(self, account: str, shelf: Shelf, brought: list[Key]) -> None:
        super().__init__()
        self._account = account
        self._shelf = shelf
        self._brought = brought

    def __missing__(self, key: Key) -> Item | None:
        self._brought.append(key)
        item = self[key] = self._shelf.item((self._account, *key))
        return item


class States:
    """The states that a replay of one partition leads to; `close` removes what it put aside."""

    def __init__(self, units_max: int = UNITS_IN_MEMORY_MAX, budget: Budget | None = None) -> None:
        self._states: dict[str, State] = {}
        self._brought: list[Key] = []
        """What came from the shelf for the event that is replayed."""
        self._units = 0
        self.units_max = units_max
        self.shelf = Shelf(budget)
        self.accounts = 0

    def close(self) -> None:
        """Forget everything."""
        self._states.clear()
        self.shelf.close()

    def get(self, account: str) -> State:
        """Return the state of an account as it is so far; it is good until the next call."""
        if self._units > self.units_max:
            self._make_room()
        state = self._states.get(account)
        if state is not None:
            return state
        stored = self.shelf.account(account)
        self.accounts += stored is None
        known = _Known(account, self.shelf, self._brought)
        state = State(stored or Account(account), known, complete=True)
        self._states[account] = state
        self._units += 1
        return state

    def has(self, state: State, key: Key) -> bool:
        """Say whether an account has an item, wherever it is kept."""
        return state.known.get(key) is not None or self.shelf.stored((state.account.id, *key)) is not None

    def evolve(self, state: State, event: Event) -> None:
        """Change a state by an event, with the items that it needs; LookupError when it cannot have happened."""
        known, before = state.known, len(state.known)
        evolve(state, event)
        changed = state.changed
        for key, item in changed.items():
            if is_over(item):
                self.shelf.put(state.account.id, key, item)
                known.pop(key, None)
            else:
                known[key] = item
        if self._brought:
            for key in self._brought:
                if key not in changed:
                    known.pop(key, None)
            self._brought.clear()
        changed.clear()
        state.created.clear()
        self._units += len(known) - before

    def bring(self, state: State, event: Event) -> None:
        """Make sure that the items that an event names are in memory, as they are before it."""
        for key in _named(event):
            _ = state.known[key]  # brings it
        fork = state.fork()
        fork.account.figures = dict(fork.account.figures)
        evolve(fork, event)  # brings what else it needs

    def _make_room(self) -> None:
        """Put the accounts that came first aside, until half of the room is free; one that is busy soon comes back."""
        for account, state in list(self._states.items()):
            if self._units <= self.units_max // 2:
                break
            self._put(account, state)
            self._units -= len(state.known) + 1
            del self._states[account]

    def _put(self, account: str, state: State) -> None:
        for key, item in state.known.items():
            if item is not None:
                self.shelf.put(account, key, item)
        self.shelf.put_account(state.account)

    def finish(self) -> None:
        """Bring everything into one place, the shelf; call when no event follows."""
        for account, state in self._states.items():
            self._put(account, state)

    def stored(self, account: str) -> Account | None:
        """Return the account that the replay came to, or None when the log has no such account."""
        state = self._states.get(account)
        return state.account if state is not None else self.shelf.account(account)

    def all_accounts(self) -> Iterator[Account]:
        """Yield every account; after `finish`."""
        return self.shelf.accounts()


def is_over(item: Item) -> bool:
    """Say whether an item is work of which nothing is held or occupied any more."""
    return type(item) is Consumption or (type(item) is Hold and item.state != "open" and not item.held)


def _named(event: Event) -> list[Key]:
    """Return the items that an event names."""
    data = event.data
    keys: list[Key] = []
    for name in ("reservation_id", "consumption_id"):
        item_id: str | None = getattr(data, name, None)
        if item_id is not None:
            keys.append(("work", item_id))
    grant_id: str | None = getattr(data, "grant_id", None)
    if grant_id is not None:
        keys.append(("grant", grant_id))
    for name in ("allocation", "repaid"):
        keys.extend(("grant", entry.grant_id) for entry in getattr(data, name, ()))
    return keys


_KINDS: dict[type[Item], ItemKind] = {
    Hold: "work",
    Consumption: "work",
    Grant: "grant",
    Paid: "payment",
    Payers: "payers",
    Resets: "resets",
}


def key_of(item: Item) -> Key:
    """Return the key of an item."""
    return _KINDS[type(item)], item.id
