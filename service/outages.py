"""Outages: the ledger cannot answer now, and the caller may try again with the same key (CONTRACT.md, status 503).

An outage is not a refusal. Whether the command was written may be open; sending it again with its key finds out.
"""

from __future__ import annotations

from typing import ClassVar


class Outage(Exception):
    """Something the ledger needs is away or full; `retry_after_seconds` says when to try again."""

    code: ClassVar[str] = "unavailable"
    title: ClassVar[str] = "Temporarily unavailable"
    retry_after_seconds: ClassVar[int] = 1

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Unavailable(Outage):
    """The database cannot be reached, or did not answer in time."""


class Failed(Outage):
    """The ledger failed on this very command, though what it needs is there; whether it was written may be open."""


class Overloaded(Outage):
    """More commands wait than the ledger takes on."""

    code = "overloaded"
    title = "Too many commands are waiting"


class ClockSkew(Outage):
    """This machine's clock is more than 5 s ahead of the database's."""

    code = "clock_skew"
    title = "The clock is ahead of the database's"
    retry_after_seconds = 5
