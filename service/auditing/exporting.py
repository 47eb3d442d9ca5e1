"""The export: the log as a file, its lines as they are stored, or as a table for people who use spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator
from hashlib import sha256
from typing import Literal

import orjson

from events.recorded import Line, decode
from projections.transactions import transaction_view
from service.store.feed import Feed, FeedQuery

Format = Literal["ndjson", "csv"]

_ID_FIELDS = ("reservation_id", "consumption_id", "grant_id")
COLUMNS = (
    *("id", "partition", "position", "recorded_at", "effective_at", "account", "type", "kind", "unit", "amount"),
    *("operation", *_ID_FIELDS, "reference", "reason", "actor", "command", "idempotency_key", "delta", "balance"),
    *("prev_hash", "hash"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def exported(feed: Feed, *, partition: int | None, form: Format) -> AsyncGenerator[bytes]:
    """Yield the log in pieces, by partition, then position, as of one instant; raises Outage and InvalidRequest."""
    pages = feed.stream(FeedQuery(partition=partition))
    async for piece in pages if form == "ndjson" else _rows(pages):
        yield piece


async def _rows(pages: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield _csv([list(COLUMNS)])
    async for page in pages:
        yield _csv([_row(line) for line in page.splitlines()])


def _csv(rows: list[list[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _row(stored: bytes) -> list[object]:
    """Return the columns of an event."""
    line = Line(decode(stored), stored, sha256(stored).hexdigest())
    event = line.event
    fields = {
        **transaction_view(line),
        "partition": event.partition,
        "position": event.position,
        "account": event.account,
        "actor": event.actor.id,
        "command": event.command.name,
        "idempotency_key": event.command.idempotency_key,
        "prev_hash": event.prev_hash,
    }
    return [_cell(fields.get(name)) for name in COLUMNS]


def _cell(value: object) -> object:
    """Return a value as a cell; text that a spreadsheet would run as a formula is marked as text."""
    if isinstance(value, dict):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
