"""The accounts of a partition during a replay, in bounded memory.

A log may have far more accounts and holds than fit into memory, and any of them may be named again at its very end. The
least recently used ones go to a temporary file, and come back by the ids that an event names.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import msgspec

from events.account import Account, Item, ItemKind, Key, Missing, State
from events.evolve import evolve
from events.grants import Grant
from events.holds import Consumption, Hold
from events.payments import Paid
from events.recorded import Event
from events.spending import Payers, Resets

UNITS_IN_MEMORY_MAX = 10_000
"""Accounts and items together; each takes one to two KiB."""
_CACHE_KIB = 2_048
_NAME_ALL = frozenset(
    {
        *("hold", "extend", "settle", "partial", "direct", "late", "release", "hold_expired", "consumption"),
        *("plan", "trial", "promo", "purchase", "rollover", "refund_regrant", "adjustment", "activated", "expired"),
        "revoked",
    }
)
"""Kinds of events that name every item that they touch."""

_encode = msgspec.msgpack.Encoder().encode
_account = msgspec.msgpack.Decoder(Account)
_item: msgspec.msgpack.Decoder[Item] = msgspec.msgpack.Decoder(Item)


class States:
    """The states that a replay of one partition leads to; `close` removes its file."""

    def __init__(self, units_max: int = UNITS_IN_MEMORY_MAX) -> None:
        self._states: OrderedDict[str, State] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._units = 0
        self.units_max = units_max
        self._file: _File | None = None
        self.accounts = 0

    def close(self) -> None:
        """Forget everything and remove the file."""
        self._states.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def get(self, account: str) -> State:
        """Return the state of an account as it is so far; it is good until the next call."""
        if self._units > self.units_max:
            self._make_room()
        state = self._states.get(account)
        if state is not None:
            self._states.move_to_end(account)
            return state
        stored = None if self._file is None else self._file.account(account)
        state = State.unknown(account) if stored is None else State(stored)
        self.accounts += stored is None
        self._states[account] = state
        return state

    def has(self, state: State, key: Key) -> bool:
        """Say whether an account has an item, wherever it is kept."""
        self._bring(state, (key,))
        return state.known.get(key) is not None

    def evolve(self, state: State, event: Event) -> None:
        """Change a state by an event, with the items that it needs; LookupError when it cannot have happened."""
        if state.complete:
            evolve(state, event)
        else:
            self._evolve_partly_known(state, event)
        state.settle()
        account, size = event.account, len(state.known) + 1
        before = self._sizes.get(account, 0)
        if size != before:
            self._units += size - before
            self._sizes[account] = size

    def bring(self, state: State, event: Event) -> None:
        """Make sure that the items that an event names are in memory, as they are before it."""
        self._bring(state, _named(event))
        while not state.complete:
            try:
                evolve(_trial(state), event)
            except Missing as missing:
                self._bring(state, missing.keys)
            else:
                return

    def _evolve_partly_known(self, state: State, event: Event) -> None:
        self._bring(state, _named(event))
        if event.kind in _NAME_ALL:
            evolve(state, event)
            return
        while True:
            fork = _trial(state)  # what is missing may be noticed in the middle of a change
            try:
                evolve(fork, event)
            except Missing as missing:
                self._bring(state, missing.keys)
                continue
            state.account = fork.account
            state.changed, state.created = fork.changed, fork.created
            return

    def _bring(self, state: State, keys: Iterable[Key]) -> None:
        """Make sure that it is known of some items what they are, or that there are none."""
        if state.complete:
            return
        for key in keys:
            if key not in state.known:
                state.known[key] = None if self._file is None else self._file.item(state.account.id, key)

    def _make_room(self) -> None:
        """Let the accounts that were not used for longest go to the file, until half of the room is free."""
        if self._file is None:
            self._file = _File()
        while self._units > self.units_max // 2:
            account, state = self._states.popitem(last=False)
            self._file.put(state)
            self._units -= self._sizes.pop(account)

    def finish(self) -> None:
        """Bring everything into one place; call before `stored` and `items_of`."""
        if self._file is not None:
            for state in self._states.values():
                self._file.put(state)

    def stored(self, account: str) -> Account | None:
        """Return the account that the replay came to, or None when the log has no such account."""
        state = self._states.get(account)
        if state is not None:
            return state.account
        return None if self._file is None else self._file.account(account)

    def item(self, account: str, key: Key) -> Item | None:
        """Return the item that the replay came to, or None when the log has none."""
        state = self._states.get(account)
        if state is not None and (state.complete or key in state.known):
            return state.known.get(key)
        return None if self._file is None else self._file.item(account, key)

    def all_accounts(self) -> Iterator[Account]:
        """Yield every account; after `finish`."""
        if self._file is None:
            yield from (state.account for state in self._states.values())
        else:
            yield from self._file.accounts()

    def all_items(self) -> Iterator[tuple[str, Item]]:
        """Yield every item with its account; after `finish`."""
        if self._file is None:
            for account, state in self._states.items():
                for item in state.known.values():
                    if item is not None:
                        yield account, item
        else:
            yield from self._file.items()


def _trial(state: State) -> State:
    """Return a state that may be changed and thrown away."""
    fork = state.fork()
    fork.account.figures = dict(fork.account.figures)
    return fork


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


class _File:
    """A temporary SQLite database without any promise of durability: a hash table that need not fit into memory."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ledger-audit-")
        self._sqlite = sqlite3.connect(Path(self._folder.name) / "states", isolation_level=None)
        for pragma in ("journal_mode = off", "synchronous = off", f"cache_size = -{_CACHE_KIB}", "temp_store = memory"):
            self._sqlite.execute(f"pragma {pragma}")
        self._sqlite.execute("create table account (id text primary key, state blob) without rowid")
        self._sqlite.execute(
            "create table item (account text, kind text, id text, state blob, primary key (account, kind, id)) without rowid"
        )
        self._sqlite.execute("begin")

    def close(self) -> None:
        self._sqlite.close()
        self._folder.cleanup()

    def put(self, state: State) -> None:
        """Keep a state and all its items that are in memory."""
        account = state.account.id
        self._sqlite.execute("insert or replace into account values (?, ?)", (account, _encode(state.account)))
        self._sqlite.executemany(
            "insert or replace into item values (?, ?, ?, ?)",
            [
                (account, kind, item_id, _encode(item))
                for (kind, item_id), item in state.known.items()
                if item is not None
            ],
        )

    def account(self, account: str) -> Account | None:
        row = self._sqlite.execute("select state from account where id = ?", (account,)).fetchone()
        return None if row is None else _account.decode(row[0])

    def item(self, account: str, key: Key) -> Item | None:
        row = self._sqlite.execute(
            "select state from item where account = ? and kind = ? and id = ?", (account, *key)
        ).fetchone()
        return None if row is None else _item.decode(row[0])

    def accounts(self) -> Iterator[Account]:
        for row in self._sqlite.execute("select state from account"):
            yield _account.decode(row[0])

    def items(self) -> Iterator[tuple[str, Item]]:
        for account, state in self._sqlite.execute("select account, state from item"):
            yield cast("str", account), _item.decode(state)


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
