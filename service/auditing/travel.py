"""Accounts as they were: the fold of their events until an instant or an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import closing
from typing import NamedTuple

from events.account import State
from events.decide import due_facts
from events.errors import AccountNotFound
from events.evolve import evolve
from events.instants import Instant
from events.partition import partition_of
from events.recorded import Line, decode
from service.auditing.memory import States
from service.in_force import InForce
from service.store.auditing import event_line
from service.store.log import Log

PAGE = 200
"""How many events are folded at once; in between, others have their turn."""


class EventNotFound(LookupError):
    """There is no such event."""


class NoEventId(EventNotFound):
    """What was asked for is no event's id."""


class TooLong(LookupError):
    """The history before the event is longer than was asked to be read."""


class Past(NamedTuple):
    """An account at an instant: as its events left it, and with what was due by then, as a read saw it."""

    state: State
    seen: State


async def past(
    log: Log, partitions: int, account: str, at: Instant, catalogs: InForce, *, or_unknown: bool = False
) -> Past:
    """Return an account as it was at an instant; raises Unavailable, and AccountNotFound unless `or_unknown`."""
    state = State.unknown(account)
    async for line in lines_of(log, partition_of(account, partitions), account, 0, at):
        evolve(state, line.event)
        state.settle()
    if not state.exists:
        if or_unknown:
            return Past(state, state)
        raise AccountNotFound(f"there was no account {account} at {at}", account=account)
    catalog = catalogs.history.at(at, catalogs.catalog)
    return Past(state, due_facts(state, at, catalog, catalogs.history)[0])


async def between(log: Log, partitions: int, account: str, after: Past, until: Instant) -> list[Line]:
    """Return an account's events from behind a state of it to an instant; raises Unavailable."""
    position = after.state.account.position
    return [line async for line in lines_of(log, partition_of(account, partitions), account, position, until)]


async def lines_of(log: Log, partition: int, account: str, after: int, until: Instant) -> AsyncGenerator[Line]:
    """Yield the lines of an account behind a position that were recorded until an instant; raises Unavailable."""
    while True:
        page = await log.account_lines(partition, account, after=after, until=until, limit=PAGE)
        for position, stored in page:
            after = position
            yield Line(decode(stored.line), stored.line, stored.hash)
        if len(page) < PAGE:
            return
        await asyncio.sleep(0)


async def line_of(log: Log, partitions: int, event_id: str) -> Line:
    """Return an event by its id; raises NoEventId, EventNotFound and Unavailable."""
    partition, _, position = event_id.partition("-")
    if not (partition.isdigit() and position.isdigit() and len(event_id) <= 24 and event_id.isascii()):
        raise NoEventId(f"{event_id} is no event's id; one is a partition and a position, such as 3-17")
    found = None
    if int(partition) < partitions:
        found = await event_line(log, int(partition), min(int(position), 2**62))
    if found is None:
        raise EventNotFound(f"there is no event {event_id}")
    return Line(decode(found[0]), *found)


async def before(log: Log, line: Line, events_max: int | None = None) -> State:
    """Return the account as it was right before an event, with the hold, consumption and grants that the event names.

    Memory is bounded however long the history is. Raises TooLong when it has more than `events_max` events.
    """
    target = line.event
    with closing(States()) as states:
        count = 0
        async for each in lines_of(log, target.partition, target.account, 0, target.recorded_at):
            state = states.get(target.account)
            if each.event.position == target.position:
                states.bring(state, each.event)
                return state
            states.evolve(state, each.event)
            count += 1
            if events_max is not None and count > events_max:
                raise TooLong(f"account {target.account} had more than {events_max} events before {target.id}")
    raise EventNotFound(f"there is no event {target.id} of account {target.account}")
