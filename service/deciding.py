"""Deciding a batch: what it needs is brought into memory, then its commands are judged in their order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import cast

from events.account import Item, ItemKind, Key, Missing, State
from events.catalog import Catalog
from events.decide import Decision, decide
from events.errors import Refusal
from events.history import History
from events.instants import Instant
from service.attempt import Attempt
from service.cache import StateCache
from service.needs import Needs
from service.outages import Unavailable
from service.pending import Group, Pending, aborted
from service.snapshots import decode_account, decode_item
from service.store.log import Loaded

DECIDING_SECONDS_MAX = 0.0005
"""For how long decisions keep the event loop; in between, a long batch on its way to the database gets on."""

Read = Callable[[Sequence[str], Sequence[tuple[str, Key]], dict[str, Instant]], Awaitable[list[Loaded]]]
"""Reads accounts, items by account and key, and holds that are due by account, as `Log.load`."""

_log = logging.getLogger(__name__)


class Decider:
    """Decides the commands of a partition on the states that it remembers; `fail` tells one that cannot be judged."""

    def __init__(
        self,
        partition: int,
        *,
        catalog: Callable[[], tuple[Catalog, History]],
        read: Read,
        fail: Callable[[Pending, Exception], None],
    ) -> None:
        self.cache = StateCache()
        self.suspects: list[tuple[str, Key]] = []
        """Items that the next load looks for as well: the log has one of them, and nobody knew."""
        self._partition = partition
        self._catalog = catalog
        self._read = read
        self._fail = fail

    async def decide(self, attempt: Attempt[Pending], todo: list[Pending]) -> None:
        """Decide all commands, those of one account in their order; load what is missing as often as it takes."""
        catalogs = self._catalog()
        while todo:
            missing = Needs()
            later: list[Pending] = []
            pause = monotonic() + DECIDING_SECONDS_MAX
            for pending in todo:
                command = pending.request.command
                if command.account in missing.accounts_blocked:
                    missing.named(command)
                    later.append(pending)
                    continue
                state = attempt.states.get(command.account) or self._state(attempt, command.account)
                if state is None:
                    missing.account(command)
                    later.append(pending)
                    continue
                try:
                    self._judge(attempt, pending, state, *catalogs)
                except Missing as error:
                    missing.items(command, error)
                    later.append(pending)
                if monotonic() > pause:
                    await asyncio.sleep(0)
                    pause = monotonic() + DECIDING_SECONDS_MAX
            if later:
                await self._load(attempt, missing)
            todo = later

    def _judge(
        self, attempt: Attempt[Pending], pending: Pending, state: State, catalog: Catalog, history: History
    ) -> None:
        """Decide a command, and with the first one of a group all of it; raises Missing."""
        try:
            if pending.group is None:
                decision = decide(state, pending.request.command, attempt.now, catalog, pending.new_id, history)
                self._accept(attempt, pending, decision)
            elif pending is pending.group.members[0]:
                self._judge_together(attempt, pending.group, state, catalog, history)
        except Missing:
            raise
        except Refusal as refusal:
            attempt.refuse(pending, refusal)
        except Exception:  # noqa: BLE001 - a command that cannot be judged must not fail its neighbours
            _log.exception("partition %s: a %s cannot be decided", self._partition, pending.request.command.name)
            for each in [pending] if pending.group is None else pending.group.members:
                self._fail(each, Unavailable("the ledger failed on this command; nothing was written"))

    def _accept(self, attempt: Attempt[Pending], pending: Pending, decision: Decision) -> None:
        request = pending.request
        pending.keyless = None
        if request.dry_run or not decision.writes or not (decision.due or decision.facts):
            outcome = attempt.show(pending, decision)
            pending.keyless = outcome if outcome.keyless else None
        else:
            attempt.accept(pending, decision, request, pending.digest)

    def _judge_together(
        self, attempt: Attempt[Pending], group: Group, state: State, catalog: Catalog, history: History
    ) -> None:
        """Decide the commands of a group on top of each other; when one may not be, none was. Raises Missing."""
        before = attempt.mark(state.account.id)
        state = state.apart()
        member = group.members[0]
        try:
            for member in group.members:
                decision = decide(state, member.request.command, attempt.now, catalog, member.new_id, history)
                self._accept(attempt, member, decision)
                if decision.writes:  # else what is due is left to the next member, for it is not written with this one
                    state = decision.state
                    state.settle()
        except Refusal as refusal:
            attempt.reset(before)
            number = group.members.index(member)
            for other in group.members[number + 1 :]:
                self._note_keyless(attempt, other, state, catalog, history)
            for other in group.members:
                attempt.refuse(other, refusal if other is member else aborted(number))
        except BaseException:
            attempt.reset(before)
            raise

    def _note_keyless(
        self, attempt: Attempt[Pending], pending: Pending, state: State, catalog: Catalog, history: History
    ) -> None:
        """Note of a command behind a refused one if it leaves no key behind; raises Missing.

        When the batch was accepted before, the refused one hears that, and this one with it.
        """
        pending.keyless = None
        with suppress(Refusal):
            decision = decide(state.apart(), pending.request.command, attempt.now, catalog, pending.new_id, history)
            if not decision.writes:
                pending.keyless = attempt.told(decision)

    async def _load(self, attempt: Attempt[Pending], missing: Needs) -> None:
        due = dict.fromkeys(missing.due, attempt.now)
        suspects, self.suspects = self.suspects, []
        items = [*missing.keys, *suspects]
        rows = await self._read(list(missing.accounts), items, due)
        states: dict[str, State] = {}
        for row in rows:
            if row.what == "account":
                states[row.account] = State(decode_account(row.state))
        for account in missing.accounts:
            state = attempt.read[account] = states.get(account) or State.unknown(account)
            self.cache.put(account, state)
        for account, key in items:
            self._known(attempt, account).setdefault(key, None)
        for row in rows:
            if row.what == "item":
                item = decode_item(row.state)
                known = self._known(attempt, row.account)
                key: Key = (cast("ItemKind", row.kind), row.id)
                if known.get(key) is None:
                    known[key] = item
            elif row.what == "next_due":
                state = self._state(attempt, row.account)
                if state is not None:
                    state.holds_due = (attempt.now, row.due_at)

    def _state(self, attempt: Attempt[Pending], account: str) -> State | None:
        """Return what is known of an account; the cache may be too small for all that a batch has read."""
        return attempt.state(account) or attempt.read.get(account) or self.cache.get(account)

    def _known(self, attempt: Attempt[Pending], account: str) -> dict[Key, object]:
        state = self._state(attempt, account)
        return {} if state is None else state.known  # type: ignore[return-value]  # filled with decoded items only

    def remember(self, attempt: Attempt[Pending], ahead: Attempt[Pending] | None) -> None:
        """Keep the states that are in the log now.

        One that has become heavy goes on with what matters and what the one ahead changed, which only it knows. The
        states that led here keep theirs: callers may still look at them.
        """
        for account, state in attempt.states.items():
            known = self.cache.lighter(account, state)
            self.cache.put(account, state if known is None else self._lightened(state, known, ahead))
        self.cache.drop(attempt.spoiled)

    def _lightened(self, state: State, known: dict[Key, Item | None], ahead: Attempt[Pending] | None) -> State:
        following = None if ahead is None else ahead.states.get(state.account.id)
        if ahead is not None and following is not None:
            known.update(ahead.items(state.account.id))
            following.forget_all_but(known)
        light = state.fork()
        light.forget_all_but(known)
        return light
