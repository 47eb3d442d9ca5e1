"""What a key led to, rebuilt from the log (SEMANTICS.md section 8).

The first event of a command carries its key; its other events follow without a gap. From them, and from the parts of a
hold or consumption that never change, the first answer is built again, whatever happened since.
"""

from __future__ import annotations

from events.account import Account, Key, State
from events.recorded import Line, decode
from service.requests import Outcome, key_digest
from service.snapshots import decode_item
from service.store.log import Log

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
        key: Key = ("grant" if row.kind == "grant" else "work", row.id)
        state.known[key] = decode_item(row.state)
