"""How alerts come about in the database: raised by the projection in its transaction, or by a timer whose instant came.

Both put an alert into the outbox with the id that it has for ever, so that it can be there only once. The projection
raises what lies behind `alerts.raised`, whichever generation comes there first; a generation that is built again only
remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from events.instants import Instant, instant, moment
from events.recorded import Event, decode
from projections import alerts
from projections.alerts import Raised, Timer, Watched
from service.snapshots import decode_account
from service.store.columns import columns
from service.store.log import Log
from service.store.statements import statements

_SQL = statements("raising.sql")
ALERTS = statements("alerts.sql", "projections")
TIMERS_AT_ONCE_MAX = 200

encode = msgspec.json.Encoder(order="sorted").encode
"""Makes the text of what is known of an account, and of an alert."""
_watched = msgspec.json.Decoder(Watched)

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

Batches = Sequence[tuple[int, int, Sequence[Event]]]
"""Of each: a partition, a generation, and the events that are added to it."""


async def apply(connection: Connection, batches: Batches) -> None:
    """Add batches of events to the projection, and raise what they say that was not raised before."""
    known, stored = await _known(connection, batches)
    following = await _following(connection, batches)
    reached = await _raised(connection, batches)
    raised: list[tuple[int, Raised]] = []
    timers: list[tuple[int, Timer]] = []
    heads: dict[int, int] = {}
    for partition, generation, events in batches:
        if not events:
            continue
        position = events[-1].position
        folded = alerts.fold(known[partition, generation], events, following.get((partition, position)))
        raised_to, timed_to = reached.get(partition, (position, position))
        raised += [(partition, each) for each in folded.raised if each.position > raised_to]
        timers += [(partition, timer) for at, timer in folded.timers if at > timed_to]
        if position > min(raised_to, timed_to):
            reached[partition] = max(raised_to, position), max(timed_to, position)
            heads[partition] = max(heads.get(partition, 0), position)
    rows = [
        (*place, account, text)
        for place, accounts in known.items()
        for account, watched in accounts.items()
        if (text := encode(watched).decode()) != stored.get((*place, account))
    ]
    if rows:  # most events cross nothing, and leave the row as it is
        await connection.execute(ALERTS["apply"], *columns(rows))
    await _put(connection, raised)
    await _set(connection, timers)
    if heads:
        await connection.execute(_SQL["note_raised"], list(heads), list(heads.values()))


async def _known(
    connection: Connection, batches: Batches
) -> tuple[dict[tuple[int, int], dict[str, Watched]], dict[tuple[int, int, str], str]]:
    """Return what each generation knows of the accounts that its events are about, and how it is stored."""
    found: dict[tuple[int, int], dict[str, Watched]] = {
        (partition, generation): {} for partition, generation, _ in batches
    }
    stored: dict[tuple[int, int, str], str] = {}
    wanted = {
        (partition, generation, event.account): None for partition, generation, events in batches for event in events
    }
    if wanted:
        keys: list[tuple[int, int, str]] = list(wanted)
        for row in await connection.fetch(ALERTS["known"], *columns(keys)):
            number: int = row["number"]
            state: str = row["state"]
            partition, generation, account = keys[number - 1]
            found[partition, generation][account] = _watched.decode(state)
            stored[partition, generation, account] = state
    return found, stored


async def _following(connection: Connection, batches: Batches) -> dict[tuple[int, int], Event]:
    """Return the events right behind the batches, by partition and last position: whether a command goes on there.

    What one append wrote is seen whole or not at all, so where nothing follows a command is complete.
    """
    ends = {(partition, events[-1].position): None for partition, _, events in batches if events}
    if not ends:
        return {}
    rows = await connection.fetch(_SQL["following"], *zip(*ends, strict=True))
    return {(row["partition"], row["position"] - 1): decode(row["line"]) for row in rows}


async def _raised(connection: Connection, batches: Batches) -> dict[int, tuple[int, int]]:
    """Return up to where alerts were raised and timers set in the partitions in which batches go beyond that.

    It stays so until the transaction ends, so that two that add the same events do not both raise what they say.
    """
    ends: dict[int, int] = {}
    for partition, _, events in batches:
        if events:
            ends[partition] = max(ends.get(partition, 0), events[-1].position)
    if not ends:
        return {}
    rows = await connection.fetch(_SQL["raised"], list(ends), list(ends.values()))
    return {row["partition"]: (row["raised"], row["timed"]) for row in rows}


async def _put(connection: Connection, raised: Sequence[tuple[int, Raised]]) -> None:
    rows = [
        (
            *(each.id, partition, each.position, each.alert.kind, each.alert.account),
            *(moment(each.alert.raised_at), encode(each.alert)),
        )
        for partition, each in raised
    ]
    if rows:
        await connection.execute(_SQL["raise"], *zip(*rows, strict=True))


async def _set(connection: Connection, timers: Sequence[tuple[int, Timer]]) -> None:
    rows = [(partition, *timer[:-1], moment(timer.at)) for partition, timer in timers]
    if rows:
        await connection.execute(_SQL["set_timers"], *zip(*rows, strict=True))


async def look(log: Log, now: Instant, *, timers_max: int = TIMERS_AT_ONCE_MAX) -> int:
    """Look at accounts whose timers have come, and raise what there is to say; returns how many. Raises Unavailable."""
    async with log.connection() as connection, connection.transaction():
        rows = await connection.fetch(_SQL["due_timers"], moment(now), timers_max)
        raised: list[tuple[int, Raised]] = []
        for row in rows:
            if row["state"] is None:
                continue
            timer = Timer(row["account"], row["kind"], row["subject"], instant(row["at"]))
            found = alerts.due_alert(timer, decode_account(row["state"]), now)
            if found is not None:
                raised.append((row["partition"], found))
        await _put(connection, raised)
        if rows:
            keys = [(row["partition"], row["account"], row["kind"], row["subject"]) for row in rows]
            await connection.execute(_SQL["remove_timers"], *zip(*keys, strict=True))
        return len(rows)
