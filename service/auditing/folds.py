"""The projections as folds that an auditor adds up in memory, row by row as they are stored, down to their digests.

Rows that no later event changes are let go of at once: what is kept of them is a sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from hashlib import md5

import orjson

from events.recorded import Event
from projections import accounts, alerts, finance, history, holds, usage
from service.store.auditing_projections import Sources
from service.store.raising import encode

Key = tuple[object, ...]
Row = tuple[object, ...]


class Folded(ABC):
    """One projection as a fold of lines; `take` returns the rows that changed, as they are now."""

    name = ""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self._sum = 0

    @abstractmethod
    def take(self, events: Sequence[Event], following: Event | None, sources: Sources) -> Iterable[Key]:
        """Add the next events, `following` is the one behind them; returns the keys of the rows that changed."""

    def settle(self, hour: str) -> None:  # noqa: B027 - most projections have no such rows
        """Let go of rows that no event of this hour or a later one changes."""

    def put_away(self, keys: Iterable[Key]) -> None:
        """Add rows that will not change any more to the digest."""
        total = 0
        for key in keys:
            text = "|".join([*self.named(key), *map(text_of, self.rows.pop(key))])
            total += int.from_bytes(md5(text.encode(), usedforsecurity=False).digest()[:8], signed=True)
        self._sum += total

    def named(self, key: Key) -> Iterable[str]:
        """Return what stands of a key in the digest."""
        return map(text_of, key)

    def account(self, key: Key) -> str | None:
        """Return the account that a row is about."""
        return str(key[0]) or None

    def row(self, key: Key) -> Row | None:
        """Return a row as it is now; None when it is gone."""
        return self.rows.get(key)

    def digest(self) -> str:
        """Return the digest of all rows, as the projection's statement computes it; the rows are gone then."""
        self.put_away(list(self.rows))
        return str(self._sum)


def text_of(value: object) -> str:
    """Return a value as PostgreSQL writes it."""
    return ("t" if value else "f") if isinstance(value, bool) else str(value)


class _History(Folded):
    name = history.NAME

    def take(self, events: Sequence[Event], following: Event | None, sources: Sources) -> Iterable[Key]:
        del following, sources
        keys: list[Key] = list(history.fold(events))
        self.rows.update(dict.fromkeys(keys, ()))
        return keys

    def settle(self, hour: str) -> None:
        del hour
        self.put_away(list(self.rows))


class _Usage(Folded):
    name = usage.NAME
    _hour = ""

    def take(self, events: Sequence[Event], following: Event | None, sources: Sources) -> Iterable[Key]:
        del following
        folded = usage.fold(events, sources.consumed)
        folded.update(usage.totals(folded))
        for key, work in folded.items():
            before = self.rows.get(key)
            self.rows[key] = work if before is None else usage.Work(*before).plus(work)  # type: ignore[arg-type]  # it was one
        return folded

    def settle(self, hour: str) -> None:
        if hour != self._hour:
            self._hour = hour
            self.put_away([key for key in self.rows if str(key[1]) < hour])


class _Finance(Folded):
    name = finance.NAME

    def __init__(self) -> None:
        super().__init__()
        self._origins: finance.Origins = {}

    def account(self, key: Key) -> str | None:
        del key
        return None

    def take(self, events: Sequence[Event], following: Event | None, sources: Sources) -> Iterable[Key]:
        del following, sources
        needed = finance.needed(events)
        folded = finance.fold(events, {key: self._origins[key] for key in needed if key in self._origins})
        self._origins.update(folded.grants)
        for key, moved in folded.rows.items():
            before = self.rows.get(key)
            self.rows[key] = moved if before is None else finance.Movements(*before).plus(moved)  # type: ignore[arg-type]  # it was one
        return folded.rows


class _Accounts(Folded):
    name = accounts.NAME

    def take(self, events: Sequence[Event], following: Event | None, sources: Sources) -> Iterable[Key]:
        del following, sources
        changed: list[Key] = []
        for row in accounts.fold(events):
            _, status, opened_at = self.rows.get((row.account,), ("", "active", ""))
            self.rows[row.account,] = (row.plan, row.status or status, opened_at or row.opened_at or "")
            changed.append((row.account,))
        return changed


class _Alerts(Folded):
    name = alerts.NAME

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, alerts.Watched] = {}

    def take(self, events: Sequence[Event], following: Event | None, sources: Sources) -> Iterable[Key]:
        del sources
        alerts.fold(self._known, events, following)
        return ((event.account,) for event in events)

    def row(self, key: Key) -> Row:
        return (encode(self._known[str(key[0])]).decode(),)

    def digest(self) -> str:
        self.rows = {(account,): self.row((account,)) for account in self._known}
        return super().digest()


class _Holds(Folded):
    """Keys are kind, account, hour, unit, operation, actor (or percent) and id, as far as rows of the kind have them."""

    name = holds.NAME
    _NAMED = {"made": (0, 2, 3, 4, 5), "settled": (0, 2, 3, 4, 5), "expired": (0, 1, 2, 3, 4, 5), "endless": (0, 1, 6)}
    _hour = ""

    def take(self, events: Sequence[Event], following: Event | None, sources: Sources) -> Iterable[Key]:
        del following
        folded = holds.fold(events, sources.reserved)
        more: dict[Key, tuple[int, ...]] = {("made", "", *key, ""): row for key, row in folded.made.items()}
        more |= {("settled", "", *key[:3], str(key.percent), ""): row for key, row in folded.settled.items()}
        more |= {("expired", *key, ""): row for key, row in folded.expired.items()}
        for key, row in more.items():
            before = self.rows.get(key)
            self.rows[key] = row if before is None else tuple(map(_plus, before, row))
        return [*more, *(self._endless(*key, hold) for key, hold in folded.endless.items())]

    def _endless(self, account: str, id_: str, hold: holds.Endless | None) -> Key:
        key = ("endless", account, "", "", "", "", id_)
        if hold is None:
            self.rows.pop(key, None)
            return key
        operation, actor, _, created_at = self.rows.get(key, (hold.operation, hold.actor, "", hold.created_at))
        occupies = orjson.dumps(hold.occupies, option=orjson.OPT_SORT_KEYS).decode()
        self.rows[key] = (operation, actor, occupies, created_at)
        return key

    def named(self, key: Key) -> Iterable[str]:
        return [text_of(key[column]) for column in self._NAMED[str(key[0])]]

    def account(self, key: Key) -> str | None:
        return str(key[1]) or None

    def settle(self, hour: str) -> None:
        if hour != self._hour:
            self._hour = hour
            self.put_away([key for key in self.rows if key[0] != "endless" and str(key[2]) < hour])


def _plus(one: object, other: int) -> int:
    assert isinstance(one, int)  # noqa: S101 - figures of rows of these kinds are
    return one + other


FOLDS: tuple[type[Folded], ...] = (_History, _Usage, _Finance, _Accounts, _Alerts, _Holds)
