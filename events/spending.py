"""What a period consumed, kept so that all of it can be given back at once (SEMANTICS.md section 7, `reset_usage`).

Beside the figures of a period stands who paid: how much each grant gave, net of refunds. That stays small in the
account's snapshot however many grants come and go in a period: when more than `PAYERS_MAX` paid, they are put aside as
a page of their own, an item, and counting begins anew. A reset adds up the pages; nothing else ever reads them.

A consumption is counted in the usage when it came after the period began and after the last reset. One that a reset
has given back has nothing left to refund, also in later periods, so each period in which there was a reset has an item
that says which of its consumptions that was.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from events.instants import Instant
from events.record import Record

PAYERS_MAX = 256
"""How many grants an account's snapshot lists as payers of a unit's usage."""

DEBT = ""
"""What stands for the part that made debt among the payers; no grant has this id."""


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one unit saw in the present period: work done, credits charged, allowance granted, all net of refunds."""

    used: int = 0
    charged: int = 0
    allowed: int = 0
    since: int = 0
    """How many events the account had when the usage was last reset; 0: not in this period."""
    payers: dict[str, int] = {}
    """What each grant gave, by its id, as far as it is not put aside."""
    pages: int = 0
    """How many pages of payers were put aside."""


NO_USAGE = Usage()


class Payers(Record, frozen=True, array_like=True, tag="payers"):
    """A page of payers that was put aside; an amount is negative when more was refunded than paid since the last page."""

    id: str
    parts: dict[str, int]


class Resets(Record, frozen=True, array_like=True, tag="resets"):
    """The consumptions of a unit in one period that were given back by resets, as ranges of their ordinals."""

    id: str
    ranges: tuple[tuple[int, int], ...]

    def covers(self, ordinal: int) -> bool:
        """Say whether the consumption with this ordinal was given back."""
        return any(first <= ordinal < last for first, last in self.ranges)


def resets_id(unit: str, period: Instant) -> str:
    """Return the id of the item that tells of the resets of a unit in the period that began at an instant."""
    return f"{unit}@{period}"


def page_id(unit: str, since: int, page: int) -> str:
    """Return the id of a page of payers; `since` is the ordinal from which the usage counts."""
    return f"{unit}:{since}:{page}"


def moved(usage: Usage, *, used: int, charged: int, parts: Mapping[str, int], sign: int = 1) -> Usage:
    """Return the usage after a consumption, or with `sign` -1 after a refund."""
    payers = dict(usage.payers)
    for grant_id, part in parts.items():
        total = payers.get(grant_id, 0) + sign * part
        if total:
            payers[grant_id] = total
        else:
            payers.pop(grant_id, None)
    return replace(usage, used=usage.used + sign * used, charged=usage.charged + sign * charged, payers=payers)
