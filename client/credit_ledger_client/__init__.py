"""The client of the credit ledger: may this account spend, and is it counted exactly once?

    from credit_ledger_client import Ledger

    async with Ledger.over_nats("nats://127.0.0.1:4222", caller="studio") as ledger:
        async with ledger.hold("team-42", "generate_image", quantity=4):
            await generate()

`Ledger` is the facade over both transports, `Gate` makes an endpoint gated in one line, and `errors` has an exception
for each code. `credit_ledger_client.testing` has the double for tests without servers.
"""

from credit_ledger_client.answers import (
    Account,
    AccountBalance,
    Answer,
    Balance,
    Consumption,
    Grant,
    Plan,
    Quota,
    Quote,
    Reservation,
    Verdict,
)
from credit_ledger_client.errors import (
    AccountNotFound,
    CapacityExceeded,
    CommandNotFound,
    GapFound,
    HistoryChanged,
    InsufficientCredits,
    InvalidRequest,
    LedgerError,
    OutcomeUnknown,
    Refused,
    ReservationExpired,
    ReservationFinalized,
    Unavailable,
    Unsupported,
)
from credit_ledger_client.events import Event
from credit_ledger_client.following import Following
from credit_ledger_client.gating import Gate
from credit_ledger_client.holding import Hold
from credit_ledger_client.ledger import Ledger
from credit_ledger_client.patience import Patience
from credit_ledger_client.submitting import Outcome, Submitted

__all__ = [
    "Account",
    "AccountBalance",
    "AccountNotFound",
    "Answer",
    "Balance",
    "CapacityExceeded",
    "CommandNotFound",
    "Consumption",
    "Event",
    "Following",
    "GapFound",
    "Gate",
    "Grant",
    "HistoryChanged",
    "Hold",
    "InsufficientCredits",
    "InvalidRequest",
    "Ledger",
    "LedgerError",
    "Outcome",
    "OutcomeUnknown",
    "Patience",
    "Plan",
    "Quota",
    "Quote",
    "Refused",
    "Reservation",
    "ReservationExpired",
    "ReservationFinalized",
    "Submitted",
    "Unavailable",
    "Unsupported",
    "Verdict",
]
