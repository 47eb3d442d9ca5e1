"""The first event where something stored parts from the replay.

What is stored of an account or an item was right after some event, or after none. Its events are replayed, and of the
values that differ in the end it is looked for the last event after which they agreed: the next one that changed them is
where the two part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec

from events.account import Account, Item, Key, State
from events.recorded import Event

_NOT_COMPARED = "due_at"
"""A bound that a fold finds less often than a decision."""

Leaves = dict[tuple[object, ...], object]


class Parting:
    """Follows one thing through its account's events; `event` is the first one where the stored one parts from it."""

    def __init__(self, stored: msgspec.Struct, replayed: msgspec.Struct, found: Callable[[State], object]) -> None:
        one, other = _leaves(stored), _leaves(replayed)
        self._stored = {path: one.get(path) for path in {**one, **other} if one.get(path) != other.get(path)}
        self._found = found
        self._before: Leaves | None = None
        self.event: Event | None = None

    def follow(self, state: State, event: Event) -> None:
        """Look at the account after an event."""
        leaves = _leaves(self._found(state))
        now = {path: leaves.get(path) for path in self._stored}
        if now == self._before:
            return
        self._before = now
        if now == self._stored:
            self.event = None
        elif self.event is None:
            self.event = event


def of_account(stored: Account, replayed: Account) -> Parting:
    """Return what follows a stored account."""
    return Parting(stored, replayed, lambda state: state.account)


def of_item(key: Key, stored: Item, replayed: Item) -> Parting:
    """Return what follows a stored item."""
    return Parting(stored, replayed, lambda state: state.item(*key))


def _leaves(value: object) -> Leaves:
    """Return everything that a value holds, by where it stands."""
    return dict(_walk((), value))


def _walk(path: tuple[object, ...], value: object) -> Iterator[tuple[tuple[object, ...], object]]:
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            if name != _NOT_COMPARED:
                yield from _walk((*path, name), getattr(value, name))
    elif isinstance(value, dict):
        for key, each in cast("dict[Any, object]", value).items():
            yield from _walk((*path, key), each)
    else:
        yield path, value
