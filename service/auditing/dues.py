"""When an account is due for something, as its replay says it, against the bounds that are stored.

A snapshot says before which instant nothing is due (`due_at`), and a column when the sweeper looks at the account. Both may be
earlier than need be. Later they may not be: grants would not end, and periods not turn, although the log says that they do.
"""

from __future__ import annotations

from events.account import Account
from events.instants import Instant


def first_due(account: Account, holds_end: Instant | None) -> Instant | None:
    """Return the earliest instant at which anything is due; `holds_end` is when the first of its open holds ends."""
    found = [instant for instant in (account.turns_at, holds_end) if instant is not None]
    for grant in account.grants.values():
        if grant.state == "scheduled":
            found.append(grant.starts_at)
        elif grant.state == "active" and grant.expires_at is not None:
            found.append(grant.expires_at)
    return min(found, default=None)


def too_late(stored: Account, swept_at: Instant | None, due: Instant | None) -> str | None:
    """Say in words which of the stored bounds would let something that is due pass, None when neither does."""
    if due is None:
        return None
    if stored.due_at is None or stored.due_at > due:
        return f"due_at is {stored.due_at}, the replay has something due at {due}"
    is_left = stored.idle and due >= stored.period_end  # to its next command
    if not is_left and (swept_at is None or swept_at > due):
        return f"the column next_due_at is {swept_at}, the replay has something due at {due}"
    return None
