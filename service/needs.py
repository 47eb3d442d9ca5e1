"""What a round of deciding needs and the cache has not: accounts, items by name, and holds that are due."""

from __future__ import annotations

from events.account import Key, Missing
from events.commands import (
    Command,
    Consume,
    ConsumeDirect,
    Extend,
    Refund,
    Release,
    Renew,
    Reserve,
    Revoke,
)
from events.payments import by_reference


class Needs:
    """What a round of deciding found missing, to be loaded in one query."""

    def __init__(self) -> None:
        self.accounts: dict[str, None] = {}
        self.keys: dict[tuple[str, Key], None] = {}
        self.due: dict[str, None] = {}
        self.accounts_blocked: set[str] = set()

    def account(self, command: Command) -> None:
        """The command's account is not in memory."""
        self.accounts[command.account] = None
        self._block(command)

    def items(self, command: Command, missing: Missing) -> None:
        """The account is in memory, but not all of its items that the command needs."""
        for key in missing.keys:
            self.keys[command.account, key] = None
        if missing.due is not None:
            self.due[command.account] = None
        self._block(command)

    def _block(self, command: Command) -> None:
        self.accounts_blocked.add(command.account)
        self.named(command)

    def named(self, command: Command) -> None:
        """The command waits for one before it on its account; what it names is loaded with the rest."""
        for key in named(command):
            self.keys[command.account, key] = None


def named(command: Command) -> list[Key]:
    """Return the items that a command names, which it will need."""
    match command:
        case Consume() | Release() | Extend():
            return [("work", command.reservation_id)]
        case Revoke():
            return [("grant", command.grant_id)]
        case Refund():
            return [("work", command.consumption_id)]
        case Renew():
            return [("payment", by_reference(command.reference))]
        case Reserve() if command.reservation_id is not None:
            return [("work", command.reservation_id)]
        case ConsumeDirect() if command.consumption_id is not None:
            return [("work", command.consumption_id)]
        case _:
            return []
