"""What keeps the database from doing what it is asked, in words: those for callers, and what the operator reads in the log.

An error that is not one of these is a bug of the ledger's. The words for callers say nothing of the inside; the server's
own stand in the log, once for each reason and then at most once a minute.
"""

from __future__ import annotations

import logging
from time import monotonic

import asyncpg

BROKEN = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server ended the connection in the very moment in which a statement was sent
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,  # of its disk
)
"""What means "not now": the outcome of the statement is open, and the same statement may be sent again."""

REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
)
"""What an operator did: rights, a password, a name or a schema that are not the ledger's any more. It did nothing either."""

TOLD_AGAIN_SECONDS = 60.0

_log = logging.getLogger(__name__)


def words(error: BaseException) -> str:
    """Return what a caller is told."""
    match error:
        case asyncpg.ReadOnlySQLTransactionError():
            return "the database is read-only"
        case asyncpg.TooManyConnectionsError():
            return "the database takes no more connections"
        case asyncpg.InsufficientResourcesError() | asyncpg.PostgresSystemError():
            return "the database has no room left, or its disk fails"
        case asyncpg.PostgresError() if isinstance(error, REFUSED):
            return "the database is not one that this ledger may use as it is now"
        case _:
            return "the database cannot be reached or did not answer in time"


class Reasons:
    """Tells the operator what the server said, without flooding the log."""

    def __init__(self) -> None:
        self._told: dict[type[BaseException], float] = {}

    def tell(self, error: BaseException) -> None:
        """Log an error, unless one of its kind was logged within a minute."""
        now = monotonic()
        if now - self._told.get(type(error), -TOLD_AGAIN_SECONDS) >= TOLD_AGAIN_SECONDS:
            self._told[type(error)] = now
            _log.warning("the database: %s: %s", type(error).__name__, error)
