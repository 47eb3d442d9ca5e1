"""What a key led to, rebuilt from the log (SEMANTICS.md section 8).

The first event of a command carries its key; its other events follow without a gap. From them, and from the parts of a
hold or consumption that never change, the first answer is built again, whatever happened since.
"""

from __future__ import annotations

from typing import cast

from events.account import Account, ItemKind, Key, State
from events.facts import PlanChanged
from events.payments import Paid
from events.recorded import Line, decode
from projections.history import KINDS, of_kinds
from service.requests import Outcome, key_digest
from service.snapshots import decode_item
from service.store.log import Log
from service.store.views import Section, Views

EVENTS_PAGE = 16


async def recall(log: Log, partition: int, account: str, key: str) -> Outcome | None:
    """Return the first outcome of a key, or None when no command with it was accepted; raises Unavailable."""
    position = await log.position_of_key(partition, key_digest(account, key))
    if position is None:
        return None
    lines: list[Line] = []
    while True:
        page = await log.lines_from(partition, position + len(lines), EVENTS_PAGE)
        for stored in page:
            event = decode(stored.line)
            if event.account != account or event.command.idempotency_key != key:
                break
            lines.append(Line(event, stored.line, stored.hash))
        else:
            if len(page) == EVENTS_PAGE:
                continue
        break
    state = State(Account(account))
    await load_items(log, partition, state, shown_items(lines))
    return Outcome(account, tuple(lines), state, replayed=True)


async def recall_payment(log: Log, partition: int, account: str, paid: Paid) -> Outcome | None:
    """Return the outcome of the command that counted a payment first; raises Unavailable.

    Its event is found by the instant at which it was written, from the newest on: a payment that is told twice is
    mostly a recent one.
    """
    section = Section(partition, account, from_=paid.at)
    terms = of_kinds(KINDS["plan_changed"]).first
    found: str | None = None
    while page := await Views(log).history(section, terms, newest_first=True, limit=EVENTS_PAGE):
        section = section._replace(before=page[-1][0])
        for _, stored in page:
            event = decode(stored.line)
            data = event.data
            payment = data.payment if isinstance(data, PlanChanged) else None
            if payment is not None and (payment.reference, payment.period_start) == (paid.reference, paid.period_start):
                found = event.command.idempotency_key
    return None if found is None else await recall(log, partition, account, found)


def shown_items(lines: list[Line]) -> list[Key]:
    """Return the items that an answer about these events shows."""
    keys: dict[Key, None] = {}
    for line in lines:
        data = line.event.data
        for name in ("reservation_id", "consumption_id"):
            item_id: str | None = getattr(data, name, None)
            if item_id is not None:
                keys["work", item_id] = None
    return list(keys)


async def load_items(log: Log, partition: int, state: State, keys: list[Key]) -> None:
    """Bring items of an account into a state."""
    if not keys:
        return
    account = state.account.id
    rows = await log.load(partition, [], [(account, key) for key in keys], {})
    state.known.update(dict.fromkeys(keys))
    for row in rows:
        key: Key = (cast("ItemKind", row.kind), row.id)
        state.known[key] = decode_item(row.state)
