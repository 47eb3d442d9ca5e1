"""The list of accounts: which there are, on which plan, and in which status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from events.facts import PlanChanged
from events.recorded import Event

NAME = "accounts"
VERSION = 1


class Row(NamedTuple):
    """What a batch of events says of an account; None: as it was."""

    account: str
    plan: str
    status: str | None
    opened_at: str | None


def fold(events: Iterable[Event]) -> list[Row]:
    """Return what events change, one row for each account that they change."""
    rows: dict[str, Row] = {}
    for event in events:
        data = event.data
        if not isinstance(data, PlanChanged):
            continue
        before = rows.get(event.account, Row(event.account, "", None, None))
        opened = event.effective_at if event.kind == "opened" else before.opened_at
        rows[event.account] = Row(event.account, data.to or "", data.status or before.status, opened)
    return list(rows.values())
