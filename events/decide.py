"""`decide`: what a command makes happen, or why it may not (SEMANTICS.md sections 2, 5 to 8).

Pure: the same state, command, instant, catalog and id always give the same facts. First the facts that are due at the
instant happen, then the command is judged. An accepted command returns both; a refused one raises its `Refusal`, and
nothing has happened.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from events import changing, extending, funding, renewals, resetting, status, steps, taking
from events.account import State
from events.catalog import Catalog
from events.commands import (
    Adjust,
    ChangePlan,
    Command,
    Consume,
    ConsumeDirect,
    Extend,
    Grant,
    Refund,
    Release,
    Renew,
    Reserve,
    ResetUsage,
    Revoke,
    SetStatus,
    Sweep,
)
from events.draft import Draft
from events.due import apply_due
from events.errors import CommandExpired
from events.facts import Fact
from events.history import NO_HISTORY, History
from events.instants import Instant
from events.payments import Paid


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What a command makes happen: the due facts first, then its own, and the state after them.

    Two write nothing: `free` says that the command was a free operation, which needs no account, and `counted` names the
    payment that was counted before, so that its first outcome is to be answered.
    """

    state: State
    due: list[Fact]
    facts: list[Fact]
    free: bool = False
    counted: Paid | None = None

    @property
    def writes(self) -> bool:
        """Whether there is anything to write."""
        return not self.free and self.counted is None


def decide(
    state: State, command: Command, now: Instant, catalog: Catalog, new_id: str, history: History = NO_HISTORY
) -> Decision:
    """Judge `command` at `now`; raises Refusal, or Missing when the state lacks an item that the rules need.

    `new_id` becomes the id of what the command creates and names none for. `history` has the catalogs before `catalog`,
    for renewals that were due while one of them was in force.
    """
    draft = Draft(state, now, catalog, new_id, history)
    apply_due(draft)
    due = draft.facts
    draft.facts = []
    if command.deadline is not None and now > command.deadline:
        raise CommandExpired(f"the deadline was {command.deadline}, it is {now}", deadline=command.deadline)
    free = _judge(draft, command)
    if isinstance(free, Paid):
        return Decision(state, [], [], counted=free)
    return Decision(draft.state, due, draft.facts, free)


def _judge(draft: Draft, command: Command) -> bool | Paid:  # noqa: C901 - one case for each command
    """Let the command happen; returns True for a free operation, and a payment that was counted before."""
    match command:
        case Reserve():
            return steps.reserve(draft, command)
        case Consume():
            steps.consume(draft, command)
        case ConsumeDirect():
            return steps.consume_direct(draft, command)
        case Release():
            steps.release(draft, command)
        case Extend():
            extending.extend(draft, command)
        case Refund():
            funding.refund(draft, command)
        case Grant():
            funding.grant(draft, command)
        case Revoke():
            taking.revoke_grant(draft, command)
        case Adjust():
            taking.adjust(draft, command)
        case ChangePlan():
            return changing.change_plan(draft, command) or False
        case Renew():
            return renewals.renew(draft, command) or False
        case ResetUsage():
            resetting.reset_usage(draft, command)
        case SetStatus():
            status.set_status(draft, command)
        case Sweep():
            pass  # what is due has happened already
        case _:
            assert_never(command)
    return False


def due_facts(state: State, now: Instant, catalog: Catalog, history: History = NO_HISTORY) -> tuple[State, list[Fact]]:
    """Return the account as a read at `now` sees it, with the facts that are due and not yet written."""
    draft = Draft(state, now, catalog, "", history)
    apply_due(draft)
    return draft.state, draft.facts
