"""Verification of a partition in the database: the lines, and all that stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, NoReturn

import msgspec

from events.holds import Hold
from events.instants import Instant, instant
from events.recorded import Event, decode
from service.auditing.dues import first_due, too_late
from service.auditing.faults import Fault, Faulty
from service.auditing.memory import States, key_of
from service.auditing.parting import Parting, of_account, of_item
from service.auditing.verifier import Mark, Verified, Verifier, is_same_account
from service.snapshots import decode_account, decode_item
from service.store.auditing import LineRow, PartitionView

if TYPE_CHECKING:
    from service.auditing.projected import ProjectionCheck

UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, LookupError, RecursionError)
"""What bytes raise that are no account and no item."""
Advance = Callable[[int], None]
"""Told how many lines, or bytes of a file, were done since the last time."""


class Columns:
    """Checks what stands beside the lines: position, hash, and the columns by which events are found."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._last_account = ""
        self._last_key: str | None = None
        self._moment: datetime | None = None
        self._at = Instant("")

    def take(self, row: LineRow) -> Event:
        """Check one row and return its event; raises Faulty."""
        verifier = self._verifier
        position, account, type_, kind, recorded_at, key, line, stored_hash = row
        digest = sha256(line).digest()
        if digest != stored_hash and not verifier.suspects:
            verifier.refuse("wrong_hash", f"the stored hash is {stored_hash.hex()}, the line has another one")
        event = verifier.take(line, digest)
        if verifier.suspects:
            return event
        if not (
            position == event.position
            and account == event.account
            and type_ == event.type
            and kind == event.kind
            and self._instant(recorded_at) == event.recorded_at
            and key == self._key(event)
        ):
            self._refuse(row, event)
        return event

    def _refuse(self, row: LineRow, event: Event) -> NoReturn:
        position, account, type_, kind, recorded_at, *_ = row
        told = (position, account, type_, kind, self._instant(recorded_at))
        written = (event.position, event.account, event.type, event.kind, event.recorded_at)
        names = ("position", "account", "type", "kind", "recorded_at")
        wrong = [name for name, one, other in zip(names, told, written, strict=True) if one != other]
        column = wrong[0] if wrong else "key"
        detail = f"the column {column} is not what the line says"
        self._verifier.refuse("wrong_columns", detail, event, position=event.position)

    def _instant(self, moment: datetime) -> Instant:
        """Return the instant of a column; many lines share one."""
        if moment != self._moment:
            self._moment, self._at = moment, instant(moment)
        return self._at

    def _key(self, event: Event) -> bytes | None:
        """Return what the column `key` has: 16 bytes on the first event of a caller's command."""
        key, account = event.command.idempotency_key, event.account
        if key == self._last_key and account == self._last_account:
            return None
        self._last_key, self._last_account = key, account
        return None if key is None else sha256(f"{account}\0{key}".encode()).digest()[:16]


async def _projection_check(view: PartitionView, partition: int) -> ProjectionCheck | None:
    if not await view.is_projected():
        return None
    from service.auditing.projected import ProjectionCheck  # noqa: PLC0415 - a quarter of a second in each process

    return await ProjectionCheck.begin(view.projected, partition)


async def verify_partition(
    view: PartitionView,
    partition: int,
    *,
    partitions: int,
    marks: Iterable[Mark] = (),
    projections: bool = True,
    advance: Advance,
) -> Verified:
    """Return what a partition of the database came to, with or without its projections."""
    with closing(States()) as states:
        verifier = Verifier(partition, states, partitions=partitions, marks=marks)
        columns = Columns(verifier)
        try:
            head = await view.head()
            check = await _projection_check(view, partition) if projections else None
            async for page in view.lines():
                if check is None:
                    for row in page:
                        columns.take(row)  # what is let go at once is in the processor's caches still
                else:
                    events = [columns.take(row) for row in page]
                    if not verifier.suspects:
                        await check.take(events)
                advance(len(page))
            verifier.end(vouched=None if head is None else head.hash)
            if head is None or (head.position, head.hash) != (verifier.position, verifier.hash):
                told = "no head" if head is None else f"position {head.position}, hash {head.hash}"
                verifier.refuse(
                    "forged_head",
                    f"the head says {told}; the last line is {verifier.position}, {verifier.hash}",
                    position=verifier.position,
                )
            if verifier.position and head.recorded_at != verifier.recorded_at:
                detail = f"the head says recorded_at {head.recorded_at}, the last line {verifier.recorded_at}"
                verifier.refuse("forged_head", detail, position=verifier.position)
            verifier.finish()
            await _verify_accounts(view, verifier)
            await _verify_items(view, verifier)
            if check is not None:
                await check.verify()
        except Faulty as faulty:
            return verifier.result(faulty.fault)
        return verifier.result(None)


async def _verify_accounts(view: PartitionView, verifier: Verifier) -> None:
    """Compare the stored accounts with those of the replay, both ways; raises Faulty."""
    count = 0
    async for page in view.accounts():
        for row in page:
            count += 1
            replayed = verifier.states.stored(row.account)
            if replayed is None:
                raise _wrong(verifier, row.account, 0, "it is stored, and the log does not have it")
            try:
                stored = decode_account(row.state)
            except UNREADABLE as error:
                raise _wrong(verifier, row.account, replayed.position, f"it cannot be read: {error}") from None
            if row.position != replayed.position or not is_same_account(stored, replayed):
                told = f"it differs from the replay: {_difference(stored, replayed)}"
                parting = of_account(stored, replayed)
                raise _wrong(verifier, row.account, *await _parted(view, row.account, parting, replayed.position, told))
            late = too_late(stored, row.next_due_at, first_due(replayed, verifier.holds_end.get(row.account)))
            if late is not None:
                raise _wrong(verifier, row.account, replayed.position, late)
    if count != verifier.states.accounts:
        for account in verifier.states.all_accounts():
            if not await view.has_account(account.id):
                raise _wrong(verifier, account.id, account.position, "the log has it, and it is not stored")


async def _verify_items(view: PartitionView, verifier: Verifier) -> None:
    """Compare the stored items with those of the replay, both ways; raises Faulty."""
    count = 0
    shelf = verifier.states.shelf
    async for page in view.items():
        for row in page:
            count += 1
            account, kind, item_id, due_at, state = row
            place = (account, kind, item_id)
            if due_at is None and state == shelf.stored(place) and not shelf.is_open(place):
                continue  # the same bytes say the same; objects whose keys have another order are compared below
            try:
                stored = decode_item(state)
            except UNREADABLE as error:
                raise _wrong_item(verifier, account, f"{kind} {item_id} cannot be read: {error}") from None
            replayed = shelf.item(place)
            if replayed is None:
                raise _wrong_item(verifier, account, f"{kind} {item_id}: the log does not have it")
            expected = replayed.due_at if isinstance(replayed, Hold) else None
            if stored != replayed or expected != (None if due_at is None else instant(due_at)):
                told = f"{kind} {item_id}: differs: {_difference(stored, replayed)}"
                parting = of_item(key_of(replayed), stored, replayed)
                position, told = await _parted(view, account, parting, 0, told)
                raise _wrong_item(verifier, account, told, position=position)
    if count != shelf.count():
        for account, item in shelf.items():
            if not await view.has_item(account, *key_of(item)):
                raise _wrong_item(verifier, account, f"{key_of(item)[0]} {item.id} is not stored")


async def _parted(view: PartitionView, account: str, parting: Parting, position: int, told: str) -> tuple[int, str]:
    """Return the position of the first event where something stored parts from the replay, and what is told of it."""
    with closing(States()) as states:
        async for line in view.account_lines(account):
            event = decode(line)
            state = states.get(account)
            states.evolve(state, event)
            parting.follow(state, event)
    event = parting.event
    return (position, told) if event is None else (event.position, f"from {event.id} ({event.kind}) on {told}")


def _wrong(verifier: Verifier, account: str, position: int, detail: str) -> Faulty:
    return Faulty(
        Fault(
            code="wrong_snapshot",
            partition=verifier.partition,
            position=position,
            account=account,
            detail=f"the snapshot of {account}: {detail}",
        )
    )


def _wrong_item(verifier: Verifier, account: str, detail: str, *, position: int = 0) -> Faulty:
    known = verifier.states.stored(account)
    return Faulty(
        Fault(
            code="wrong_item",
            partition=verifier.partition,
            position=position or (0 if known is None else known.position),
            account=account,
            detail=detail,
        )
    )


def _difference(stored: msgspec.Struct, replayed: msgspec.Struct) -> str:
    """Say in which field two values differ first."""
    if type(stored) is not type(replayed):
        return f"it is a {type(stored).__name__}, the replay has a {type(replayed).__name__}"
    for name in stored.__struct_fields__:
        one, other = getattr(stored, name), getattr(replayed, name)
        if one != other and name != "due_at":
            return f"{name} is {one!r}, the replay has {other!r}"[:300]
    return "its position"
