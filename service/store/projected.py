"""How each projection's rows get into its tables: one function for each, run inside of the projector's transaction.

The folds are pure and live in `projections`; here is what they need from the database and what they give to it. Each
function adds batches of events, one for each partition and generation, in one statement or two.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from io import BytesIO
from itertools import starmap
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import orjson

from events.holds import Consumption, Hold
from events.instants import moment
from events.recorded import ConsumedEvent, Event, ReservedEvent, decode
from projections import accounts, alerts, finance, history, holds, usage
from service.snapshots import decode_item
from service.store import raising
from service.store.columns import columns, copied
from service.store.statements import statements

_SQL = statements("projecting.sql")
ADDING_SECONDS_MAX = 60.0
HISTORY = statements("history.sql", "projections")
USAGE = statements("usage.sql", "projections")
FINANCE = statements("finance.sql", "projections")
ACCOUNTS = statements("accounts.sql", "projections")
HOLDS = statements("holds.sql", "projections")

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class Batch(NamedTuple):
    """Events of a partition, in their order, and the generation that they are added to."""

    partition: int
    generation: int
    events: Sequence[Event]


Apply = Callable[["Connection", Sequence[Batch]], Awaitable[None]]


class Projection(NamedTuple):
    """A projection of this release: its fold's version, what adds events, and the statements of its digest and end."""

    name: str
    version: int
    apply: Apply
    digest: str
    removes: tuple[str, ...]


async def _put(connection: Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """Run a statement that takes rows as a column each, unless there are none."""
    if rows:
        await connection.execute(statement, *zip(*rows, strict=True))


async def _put_joined(connection: Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """Run a statement that takes rows as a joined text for each column, unless there are none."""
    if rows:
        await connection.execute(statement, *columns(rows))


async def _add(connection: Connection, table: str, names: Sequence[str], rows: Sequence[bytes]) -> None:
    """Copy rows into a table in which none of them is yet."""
    if any(rows):
        source = BytesIO(b"".join(rows))
        await connection.copy_to_table(
            table, schema_name="projections", columns=names, source=source, timeout=ADDING_SECONDS_MAX
        )


async def _apply_history(connection: Connection, batches: Sequence[Batch]) -> None:
    rows = [copied((batch.partition, batch.generation), history.fold(batch.events)) for batch in batches]
    await _add(connection, "history", ("partition", "generation", "account", "term", "position"), rows)


async def _apply_accounts(connection: Connection, batches: Sequence[Batch]) -> None:
    folded = [(batch.partition, batch.generation, row) for batch in batches for row in accounts.fold(batch.events)]
    await _put(connection, ACCOUNTS["apply"], [[*place, *row] for *place, row in folded])
    changed = [[*place, row.account, row.status] for *place, row in folded if row.status is not None]
    await _put(connection, ACCOUNTS["apply_status"], changed)


async def _apply_usage(connection: Connection, batches: Sequence[Batch]) -> None:
    known = await sources(connection, [(batch.partition, batch.events) for batch in batches])
    rows: list[Sequence[object]] = []
    for batch in batches:
        folded = usage.fold(batch.events, known)
        folded.update(usage.totals(folded))
        rows += [[batch.partition, batch.generation, *key, *work] for key, work in sorted(folded.items())]
    await _put_joined(connection, USAGE["apply"], rows)


async def sources(connection: Connection, batches: Sequence[tuple[int, Sequence[Event]]]) -> usage.Sources:
    """Return the consumptions that refunds among the events of partitions are about: from these, else from the log."""
    found: dict[tuple[str, str], ConsumedEvent] = {}
    missing: dict[tuple[int, str, str], None] = {}
    wanted: dict[tuple[str, str], None] = {}
    for partition, events in batches:
        needed = usage.needed(events)
        wanted.update(needed)
        _keep_consumed(events, needed, found)
        missing.update({(partition, *key): None for key in needed if key not in found})
    if not missing:
        return found
    made: list[tuple[int, str, datetime]] = []
    for row in await connection.fetch(_SQL["work"], *zip(*missing, strict=True)):
        item = decode_item(row["state"])
        consumption = item.consumption if isinstance(item, Hold) else item
        if isinstance(consumption, Consumption):
            made.append((row["partition"], row["account"], moment(consumption.created_at)))
    _keep_consumed(await _recorded(connection, made), wanted, found)
    return found


async def _recorded(connection: Connection, places: Sequence[tuple[int, str, datetime]]) -> list[Event]:
    """Return the events of accounts that were recorded at some instants."""
    if not places:
        return []
    rows = await connection.fetch(_SQL["lines_recorded_at"], *zip(*dict.fromkeys(places), strict=True))
    return [decode(row["line"]) for row in rows]


def _keep_consumed(
    events: Sequence[Event],
    wanted: dict[tuple[str, str], None],
    found: dict[tuple[str, str], ConsumedEvent],
) -> None:
    if not wanted:
        return
    for event in events:
        if isinstance(event, ConsumedEvent):
            key = (event.account, event.data.consumption_id)
            if key in wanted:
                found[key] = event


async def origins(connection: Connection, batches: Sequence[Batch]) -> list[finance.Origins]:
    """Return for each batch the origin of the grants that it speaks of, as far as its generation knows them."""
    wanted = {
        (batch.partition, batch.generation, account, grant_id): None
        for batch in batches
        for account, grant_id in finance.needed(batch.events)
    }
    found: dict[tuple[int, int], finance.Origins] = {(batch.partition, batch.generation): {} for batch in batches}
    if wanted:
        keys: list[tuple[int, int, str, str]] = list(wanted)
        for row in await connection.fetch(FINANCE["grants"], *columns(keys)):
            number: int = row["number"]
            partition, generation, account, grant_id = keys[number - 1]
            found[partition, generation][account, grant_id] = finance.Origin(row["kind"], row["basis"])
    return [found[batch.partition, batch.generation] for batch in batches]


async def _apply_finance(connection: Connection, batches: Sequence[Batch]) -> None:
    grants: list[bytes] = []
    rows: list[Sequence[object]] = []
    for batch, known in zip(batches, await origins(connection, batches), strict=True):
        folded = finance.fold(batch.events, known)
        place = (batch.partition, batch.generation)
        grants.append(copied(place, [(*key, *origin) for key, origin in folded.grants.items()]))
        rows += [[*place, *key, *moved] for key, moved in sorted(folded.rows.items())]
    names = ("partition", "generation", "account", "grant_id", "kind", "basis")
    await _add(connection, "finance_grants", names, grants)
    await _put_joined(connection, FINANCE["apply"], rows)


async def _apply_holds(connection: Connection, batches: Sequence[Batch]) -> None:
    known = await reservations(connection, [(batch.partition, batch.events) for batch in batches])
    folded = [((batch.partition, batch.generation), holds.fold(batch.events, known)) for batch in batches]
    for name, rows in (
        ("apply_made", [[*place, *key, *row] for place, fold in folded for key, row in sorted(fold.made.items())]),
        (
            "apply_settled",
            [[*place, *key, *row] for place, fold in folded for key, row in sorted(fold.settled.items())],
        ),
        (
            "apply_expired",
            [[*place, *key, *row] for place, fold in folded for key, row in sorted(fold.expired.items())],
        ),
    ):
        await _put_joined(connection, HOLDS[name], rows)
    begun: list[Sequence[object]] = []
    changed: list[Sequence[object]] = []
    ended: list[Sequence[object]] = []
    for place, fold in folded:
        for key, hold in fold.endless.items():
            if hold is None:
                ended.append((*place, *key))
                continue
            occupies = orjson.dumps(hold.occupies, option=orjson.OPT_SORT_KEYS).decode()
            if hold.created_at is None:
                changed.append((*place, *key, occupies))
            else:
                begun.append((*place, *key, hold.operation, hold.actor, occupies, hold.created_at))
    for name, rows in (("apply_endless", begun), ("apply_occupies", changed), ("apply_ended", ended)):
        await _put(connection, HOLDS[name], rows)


async def reservations(connection: Connection, batches: Sequence[tuple[int, Sequence[Event]]]) -> holds.Sources:
    """Return the events that made the holds that must be known to fold events of partitions: from these, else the log."""
    found: dict[holds.Id, ReservedEvent] = {}
    missing: dict[tuple[int, str, str], None] = {}
    for partition, events in batches:
        wanted = holds.needed(events)
        _keep_reserved(events, wanted, found)
        missing.update({(partition, *key): None for key in wanted if key not in found})
    if missing:
        made: list[tuple[int, str, datetime]] = []
        for row in await connection.fetch(_SQL["work"], *zip(*missing, strict=True)):
            item = decode_item(row["state"])
            if isinstance(item, Hold):
                made.append((row["partition"], row["account"], moment(item.created_at)))
        _keep_reserved(await _recorded(connection, made), {key[1:]: None for key in missing}, found)
    return found


def _keep_reserved(events: Sequence[Event], wanted: dict[holds.Id, None], found: dict[holds.Id, ReservedEvent]) -> None:
    for event in events if wanted else ():
        if isinstance(event, ReservedEvent) and event.kind == "hold":
            key = (event.account, event.data.reservation_id)
            if key in wanted:
                found[key] = event


PROJECTIONS: dict[str, Projection] = {
    projection.name: projection
    for projection in starmap(
        Projection,
        (
            (history.NAME, history.VERSION, _apply_history, HISTORY["digest"], (HISTORY["remove"],)),
            (usage.NAME, usage.VERSION, _apply_usage, USAGE["digest"], (USAGE["remove"],)),
            (
                *(finance.NAME, finance.VERSION, _apply_finance, FINANCE["digest"]),
                (FINANCE["remove"], FINANCE["remove_grants"]),
            ),
            (accounts.NAME, accounts.VERSION, _apply_accounts, ACCOUNTS["digest"], (ACCOUNTS["remove"],)),
            (*(alerts.NAME, alerts.VERSION, raising.apply), raising.ALERTS["digest"], (raising.ALERTS["remove"],)),
            (
                *(holds.NAME, holds.VERSION, _apply_holds, HOLDS["digest"]),
                tuple(HOLDS[f"remove_{table}"] for table in ("made", "settled", "expired", "endless")),
            ),
        ),
    )
}
"""Every projection of this release, in the order in which a batch is added to them."""
