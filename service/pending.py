"""Commands that wait for their outcome, alone or as a group that is accepted or refused as one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from events.errors import BatchAborted, IdempotencyMismatch
from service.requests import Outcome, Request


@dataclass(slots=True, eq=False)
class Pending:
    """A command that waits for its outcome. `new_id` is for what it creates, the same at each attempt.

    `digest` is that of its key, None for a dry run.
    """

    request: Request
    digest: bytes | None
    new_id: str
    future: asyncio.Future[Outcome]
    answered: bool = False
    group: Group | None = None
    keyless: Outcome | None = None
    """The outcome when it was last judged, if it is one that writes nothing and so leaves no key behind."""

    def go_on_alone(self) -> None:
        """The caller went away; the command goes on, and whoever comes with the same key waits for it."""
        self.future = asyncio.get_running_loop().create_future()
        self.future.add_done_callback(lambda future: future.cancelled() or future.exception())


@dataclass(slots=True, eq=False)
class Group:
    """The commands of an atomic batch, all of one account, in their order (SEMANTICS.md section 9)."""

    members: list[Pending] = field(default_factory=list[Pending])

    def known(self, keys: frozenset[bytes]) -> bool:
        """Say whether the log has the keys of all members that leave one: then the batch is a replay."""
        return all(member.digest in keys or member.keyless is not None for member in self.members)

    def refusal(self, member: Pending, keys: frozenset[bytes]) -> BatchAborted | IdempotencyMismatch:
        """Return what a member hears when the log has the keys of some, which were never a batch of this kind."""
        if member.digest in keys:
            return IdempotencyMismatch(
                f"the key {member.request.key} was used before, those of other commands of the batch were not",
                account=member.request.command.account,
                idempotency_key=member.request.key,
            )
        first = next(number for number, other in enumerate(self.members) if other.digest in keys)
        return aborted(first)


def aborted(number: int) -> BatchAborted:
    """Return the refusal of the commands that may not be because command `number` (from 0) may not."""
    return BatchAborted(f"command {number} of the batch was refused, so none was accepted", refused=number)
