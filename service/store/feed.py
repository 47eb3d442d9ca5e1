"""The feed: the log as a stream of lines, exactly as they are stored (CONTRACT.md, `GET /v1/events`).

A stream begins with the heads of all partitions as of one instant and ends there: partition by partition, in each by
position, so what is written meanwhile neither tears nor prolongs it. With `follow` it stays open, and what is written
later comes as it is found, every tenth of a second; one query for the heads serves all who follow.

Streams are guests of the writers' database: they read in pages of bounded size, hold no connection between two pages,
and never read more than a few pages at once. A reader that is slow holds up only itself, because the next page is read
when the last one was taken. Positions have no gaps, so the last position that was received is all that is needed to go
on after a break.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from events.commands import Id
from events.errors import InvalidRequest
from events.facts import FIGURE_MAX
from events.partition import partition_of
from service.outages import Overloaded, Unavailable
from service.store.log import Log
from service.store.statements import statements

_SQL = statements("feed.sql")

PAGE_LINES_MAX = 1_000
PAGE_BYTES_MAX = 1_048_576
"""A page has one line more than this at most."""
PAGES_AT_ONCE_MAX = 2
STREAMS_MAX = 64
POLL_SECONDS = 0.1

Position = Annotated[int, Field(ge=0, le=FIGURE_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedQuery:
    """Which lines: of a partition from behind a position, of an account, of a type; how many; and whether to go on."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")
    partition: Annotated[int, Field(ge=0, le=1023)] | None = None
    after: Position | None = None
    account: Id | None = None
    type: Literal["granted", "reserved", "consumed", "refunded", "plan_changed"] | None = None
    limit: Annotated[int, Field(ge=1, le=FIGURE_MAX)] | None = None
    follow: bool = False

    def __post_init__(self) -> None:
        if self.after is not None and self.partition is None:
            raise ValueError("after goes with partition, it is a position of it")


class Feed:
    """Streams the log to those who export or follow it."""

    def __init__(self, log: Log, partitions: int) -> None:
        self._log = log
        self._partitions = partitions
        self._open = 0
        self._closing = False
        self._pages_at_once = asyncio.Semaphore(PAGES_AT_ONCE_MAX)
        self._poll: asyncio.Task[dict[int, int]] | None = None

    async def heads(self) -> dict[int, int]:
        """Return the position at which each partition ends; raises Unavailable."""
        async with self._log.connection() as connection:
            return {row["partition"]: row["position"] for row in await connection.fetch(_SQL["heads"])}

    def close(self) -> None:
        """End all streams that follow, within a tenth of a second, and take on no new ones."""
        self._closing = True

    async def stream(self, query: FeedQuery, prefixes: Sequence[str] | None = None) -> AsyncGenerator[bytes, None]:
        r"""Yield whole lines, each with its \n, a page at a time; b"" while a stream that follows has nothing new.

        With `prefixes`, lines of other accounts are left out. Raises InvalidRequest, Overloaded and Unavailable; a
        stream that breaks in the middle raises, and has not ended.
        """
        partitions = self._partitions_of(query)
        if self._closing:
            raise Unavailable("the ledger is stopping")
        if self._open >= STREAMS_MAX:
            raise Overloaded(f"{STREAMS_MAX} streams of events are open")
        self._open += 1
        try:
            reached = dict.fromkeys(partitions, query.after or 0)
            left = query.limit or FIGURE_MAX
            heads = await self.heads()
            while True:
                for partition in partitions:
                    while reached[partition] < heads[partition]:
                        # Of unfiltered lines no more are read than are asked for.
                        lines_max = PAGE_LINES_MAX if query.type or prefixes else min(PAGE_LINES_MAX, left)
                        reached[partition], lines = await self._page(
                            query, prefixes, partition, reached[partition], heads[partition], lines_max
                        )
                        if lines:
                            yield b"\n".join([*lines[:left], b""])
                            left -= min(left, len(lines))
                        if not left:
                            return
                if not query.follow or self._closing:
                    return
                yield b""
                heads = await self._next_heads()
        finally:
            self._open -= 1

    def _partitions_of(self, query: FeedQuery) -> Sequence[int]:
        """Return the partitions to stream, in order; raises InvalidRequest."""
        if query.partition is not None and query.partition >= self._partitions:
            raise InvalidRequest.at("partition", f"there are {self._partitions}, from 0")
        if query.account is None:
            return range(self._partitions) if query.partition is None else (query.partition,)
        home = partition_of(query.account, self._partitions)
        if query.partition not in (None, home):
            raise InvalidRequest.at("partition", f"account {query.account} is in partition {home}")
        return (home,)

    async def _page(
        self,
        query: FeedQuery,
        prefixes: Sequence[str] | None,
        partition: int,
        after: int,
        until: int,
        lines_max: int,
    ) -> tuple[int, list[bytes]]:
        """Return the position up to which the page reaches, `until` when nothing is left, and its lines."""
        bounds = (lines_max, PAGE_BYTES_MAX)
        async with self._pages_at_once, self._log.connection() as connection:
            if query.account is None:
                rows = await connection.fetch(_SQL["page"], partition, after, until, query.type, prefixes, *bounds)
            else:
                rows = await connection.fetch(
                    _SQL["account_page"], partition, after, until, query.account, query.type, *bounds
                )
        lines = [row["line"] for row in rows if row["line"] is not None]
        return (rows[-1]["position"] if rows else until), lines

    async def _next_heads(self) -> dict[int, int]:
        """Return the heads in a moment; all who ask meanwhile share the query."""
        if self._poll is None or self._poll.done():
            self._poll = asyncio.create_task(self._heads_in_a_moment())
            # Whoever waited may be gone when it fails; then nobody is left to take the error.
            self._poll.add_done_callback(lambda poll: poll.cancelled() or poll.exception())
        return await asyncio.shield(self._poll)

    async def _heads_in_a_moment(self) -> dict[int, int]:
        await asyncio.sleep(POLL_SECONDS)
        return await self.heads()
