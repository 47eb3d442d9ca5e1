"""Whose checkpoints they are: what a ledger makes of a last one that none of its keys signed.

Keys are changed with both in the file for a while, so every checkpoint is signed by a key that was there before and by one
that is there afterwards. A key that signed once is passed over only when somebody else made the next one, or when keys were
changed to and fro at once. A key that never signed is new, and goes on from what there is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from service.checkpoints.keys import PublicKey
from service.checkpoints.note import Checkpoint, InvalidNote, parse_notes
from service.store.checkpoints import StoredCheckpoints

PAGE = 500

_log = logging.getLogger(__name__)


async def other_hand(latest: Checkpoint, stored: StoredCheckpoints, keys: Sequence[PublicKey]) -> str | None:
    """Say in words that the last checkpoint is somebody else's, None when it is ours; raises Unavailable."""
    if latest.is_signed_by(keys):
        return None
    ours = await _last_signed(stored, keys)
    if ours is None:
        _log.warning("checkpoint %d is signed by no key of this ledger, which are new", latest.number)
        return None
    return (
        f"checkpoint {latest.number} is signed by no key of this ledger, and checkpoint {ours} is: another hand made it, or "
        "a key was taken away too early; nothing is signed until the key that signed it is back in the file"
    )


async def _last_signed(stored: StoredCheckpoints, keys: Sequence[PublicKey]) -> int | None:
    number, found = 0, None
    while page := await stored.after(number, PAGE):
        for number, note in page:
            if _is_signed(note, keys):
                found = number
    return found


def _is_signed(note: str, keys: Sequence[PublicKey]) -> bool:
    try:
        return next(parse_notes(note)).is_signed_by(keys)
    except InvalidNote:
        return False
