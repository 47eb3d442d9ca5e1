"""The hold that a command names, and whether it can still be used (SEMANTICS.md section 5)."""

from __future__ import annotations

from events.draft import Draft
from events.errors import ReservationFinalized, ReservationNotFound
from events.holds import Hold
from events.plans import require_account


def find_hold(draft: Draft, reservation_id: str) -> Hold:
    """Return the hold, whatever became of it; raises AccountNotFound and ReservationNotFound."""
    account = require_account(draft)
    hold = draft.state.hold(reservation_id)
    if hold is None:
        raise ReservationNotFound(
            f"account {account.id} has no reservation {reservation_id}", reservation_id=reservation_id
        )
    return hold


def require_not_ended(hold: Hold) -> None:
    """Refuse a hold that has ended, and say how it ended; raises ReservationFinalized."""
    if hold.state != "open":
        raise ReservationFinalized(
            f"reservation {hold.id} is {hold.state}",
            reservation_id=hold.id,
            state=hold.state,
            charged=hold.charged,
            unfunded=hold.unfunded,
            expires_at=hold.expires_at,
        )
