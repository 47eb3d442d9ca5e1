"""Reads of the projection of holds, within a snapshot of all projections."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from events.instants import Instant
from projections.holds import Expired, Made, Settled
from service.store.projected import HOLDS
from service.store.views import Snapshot

__all__ = ["EndlessHold", "Expired", "Held", "Made"]


class EndlessHold(NamedTuple):
    """An open hold without an end."""

    account: str
    reservation_id: str
    operation: str
    actor: str
    occupies: dict[str, int]
    created_at: Instant


class Held:
    """What the projection says of the holds of all accounts."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    async def settled(self, unit: str, first: str, last: str) -> list[tuple[str, int, Settled]]:
        """Return what lines came to in some hours, by operation and percent."""
        rows = await self._snapshot.fetch(HOLDS["settled"], unit, first, last)
        return [
            (row["operation"], row["percent"], Settled(*(int(row[name]) for name in Settled._fields))) for row in rows
        ]

    async def made(self, unit: str, first: str, last: str) -> dict[tuple[str, str], Made]:
        """Return the holds that were made in some hours, by operation and actor."""
        rows = await self._snapshot.fetch(HOLDS["made"], unit, first, last)
        return {(row["operation"], row["actor"]): Made(int(row["holds"]), int(row["amount"])) for row in rows}

    async def expired(self, unit: str, first: str, last: str) -> dict[tuple[str, str], Expired]:
        """Return the holds that expired in some hours, by operation and actor."""
        rows = await self._snapshot.fetch(HOLDS["expired"], unit, first, last)
        return {
            (row["operation"], row["actor"]): Expired(*(int(row[name]) for name in Expired._fields)) for row in rows
        }

    async def expired_of_accounts(self, unit: str, first: str, last: str, limit: int) -> list[tuple[str, Expired]]:
        """Return the accounts in which most expired unsettled."""
        rows = await self._snapshot.fetch(HOLDS["expired_of_accounts"], unit, first, last, limit)
        return [(row["account"], Expired(*(int(row[name]) for name in Expired._fields))) for row in rows]

    async def endless(self, before: Instant, limit: int) -> list[EndlessHold]:
        """Return the oldest open holds without an end that were made before an instant."""
        rows = await self._snapshot.fetch(HOLDS["endless"], before, limit)
        return [
            EndlessHold(
                row["account"],
                row["reservation_id"],
                row["operation"],
                row["actor"],
                orjson.loads(row["occupies"]),
                Instant(row["created_at"]),
            )
            for row in rows
        ]
