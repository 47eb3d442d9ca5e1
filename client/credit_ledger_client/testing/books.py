"""The double's books: accounts, keys and a log in memory, changed by the ledger's own `decide`.

What the service does around the domain is done here in short: JSON and types, then the key, then everything else
(SEMANTICS.md section 8); due facts and events are written together; each partition's lines are chained by their hashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import orjson

from events.account import State
from events.asking import Asked, asked
from events.catalog import Catalog
from events.commands import Sweep
from events.decide import Decision, decide, due_facts
from events.errors import AccountNotFound, BatchAborted, CommandNotFound, IdempotencyMismatch, InvalidRequest, Refusal
from events.evolve import replay
from events.facts import Fact, PlanChanged
from events.history import Activation, History
from events.instants import Instant
from events.partition import partition_of
from events.payments import Paid
from events.recorded import GENESIS, SYSTEM, Actor, CommandRef, Line, record
from projections.outcome import DRY_RUN_ID, answer, dry_answer, free_answer

PARTITIONS = 16
COMMANDS_MAX = 1000
LEDGER_ID = "00000000-0000-0000-0000-000000000000"

View = dict[str, Any]
Told = tuple[int, View]
"""A status and a JSON object."""


def as_sent(view: Mapping[str, object]) -> View:
    """Return an answer as it arrives: the events in it are bytes, as the log has them."""
    return orjson.loads(orjson.dumps(view))


class Known(NamedTuple):
    """What a key led to."""

    fingerprint: str
    answer: View


class Books:
    """All accounts of a ledger; `now` may be moved forward between commands, and other catalogs may come into force."""

    def __init__(self, catalog: Catalog, now: Instant) -> None:
        self.now = now
        self.order: list[Line] = []
        """Every line, in the order in which they were written."""
        self._accounts: dict[str, State] = {}
        self._heads: dict[int, Line] = {}
        self._keys: dict[tuple[str, str], Known] = {}
        self._ids = 0
        self._activations = [Activation(now, catalog)]

    @property
    def catalog(self) -> Catalog:
        """The catalog in force."""
        return self._activations[-1].catalog

    @property
    def history(self) -> History:
        """The catalogs that came into force."""
        return History(self._activations)

    def activate(self, catalog: Catalog) -> None:
        """Bring a catalog into force."""
        self._activations.append(Activation(self.now, catalog))

    # -- commands --------------------------------------------------------------------------------------------------

    def execute(
        self, name: str, fields: Mapping[str, Any], *, key: str | None, actor: Actor, dry_run: bool = False
    ) -> Told:
        """Return what a command led to, now or when it was first sent; raises Refusal."""
        read = asked(name, fields, key, dry_run=dry_run)
        account = read.command.account
        known = None if dry_run else self._keys.get((account, read.key))
        if known is not None:
            if known.fingerprint != read.fingerprint:
                raise IdempotencyMismatch(
                    f"the key {read.key} of account {account} was used for another command",
                    account=account,
                    idempotency_key=read.key,
                )
            return 200, {**known.answer, "replayed": True}
        self._ids += 1
        new_id = DRY_RUN_ID if dry_run else f"double-{self._ids}"
        decision = decide(self._state(account), read.command, self.now, self.catalog, new_id, self.history)
        tried: View = {"dry_run": True} if dry_run else {}
        if decision.free:
            return 200, {**free_answer(), **tried}
        if decision.counted is not None:
            return 200, {**self._first_told(account, decision.counted), **tried}
        if dry_run:
            return 200, as_sent(dry_answer(account, decision.facts, decision.state))
        return 201, self._write(decision, read, actor)

    def _state(self, account: str) -> State:
        return self._accounts.get(account) or State.unknown(account)

    def _lines(self, decision: Decision, ref: CommandRef, actor: Actor) -> list[Line]:
        """Return the lines that a decision leads to, behind the head of its partition."""
        account = decision.state.account.id
        partition = partition_of(account, PARTITIONS)
        head = self._heads.get(partition)
        lines: list[Line] = []
        for fact in [*decision.due, *decision.facts]:
            is_due = len(lines) < len(decision.due)
            head = record(
                fact,
                account=account,
                partition=partition,
                position=1 if head is None else head.event.position + 1,
                prev_hash=GENESIS if head is None else head.hash,
                recorded_at=self.now,
                actor=SYSTEM if is_due else actor,
                command=_system(fact) if is_due else ref,
            )
            lines.append(head)
        return lines

    def _write(self, decision: Decision, read: Asked, actor: Actor) -> View:
        ref = CommandRef(name=read.command.name, idempotency_key=read.key, fingerprint=read.fingerprint)
        lines = self._lines(decision, ref, actor)
        state = self._keep(decision, lines)
        told = as_sent(answer(state.account.id, lines[len(decision.due) :], state))
        self._keys[state.account.id, read.key] = Known(read.fingerprint, told)
        return told

    def _keep(self, decision: Decision, lines: Sequence[Line]) -> State:
        state = decision.state
        if lines:
            self._heads[lines[-1].event.partition] = lines[-1]
            state.account.position = lines[-1].event.position
        self.order.extend(lines)
        state.settle()
        self._accounts[state.account.id] = state
        return state

    def _first_told(self, account: str, paid: Paid) -> View:
        """Return the first outcome of a payment that was counted before."""
        for line in reversed(self.order):
            event = line.event
            payment = event.data.payment if isinstance(event.data, PlanChanged) else None
            if event.account == account and payment is not None:
                same = (payment.reference, payment.period_start) == (paid.reference, paid.period_start)
                if same and event.command.idempotency_key is not None:
                    return {**self._keys[account, event.command.idempotency_key].answer, "replayed": True}
        raise LookupError(f"payment {paid.id} has no event")

    def batch(self, fields: Mapping[str, Any], *, actor: Actor, dry_run: bool) -> Told:
        """Return the results of a batch (SEMANTICS.md section 9); raises Refusal when the body is none."""
        commands = cast("list[dict[str, Any]]", fields.get("commands"))
        if not 1 <= len(commands) <= COMMANDS_MAX:
            raise InvalidRequest.at("commands", f"must be a list of 1 to {COMMANDS_MAX} commands")
        if fields.get("mode") == "atomic":
            return 200, {"results": self._together(commands, actor, dry_run=dry_run)}
        return 200, {"results": [self._one(command, actor, dry_run=dry_run) for command in commands]}

    def _one(self, command: Mapping[str, Any], actor: Actor, *, dry_run: bool) -> View:
        try:
            rest = {name: value for name, value in command.items() if name not in ("command", "idempotency_key")}
            key = command.get("idempotency_key")
            status, view = self.execute(str(command.get("command")), rest, key=key, actor=actor, dry_run=dry_run)
        except Refusal as refusal:
            return {"status": refusal.status, "problem": problem(refusal)}
        return {"status": status, **view}

    def _together(self, commands: Sequence[Mapping[str, Any]], actor: Actor, *, dry_run: bool) -> list[View]:
        """Execute commands of one account, all or none."""
        accounts = {str(command.get("account")) for command in commands}
        if len(accounts) > 1:
            raise InvalidRequest.at("commands", "the commands of an atomic batch are all of one account")
        before = (dict(self._accounts), dict(self._heads), dict(self._keys), len(self.order))
        for account in accounts & self._accounts.keys():
            self._accounts[account] = self._accounts[account].apart()
        tried = [self._one(command, actor, dry_run=False) for command in commands]
        wrong = next((number for number, result in enumerate(tried) if "problem" in result), None)
        results = [self._one(command, actor, dry_run=True) for command in commands] if dry_run else tried
        if wrong is not None or dry_run:
            self._accounts, self._heads, self._keys = before[:3]
            del self.order[before[3] :]
        if wrong is None:
            return results
        aborted = BatchAborted(f"command {wrong} of the batch was refused")
        return [
            result if number == wrong else {"status": aborted.status, "problem": problem(aborted)}
            for number, result in enumerate(tried)
        ]

    # -- time ------------------------------------------------------------------------------------------------------

    def next_due(self) -> Instant | None:
        """Return when something is due next that nobody has to ask for."""
        due = [state.account.due_at for state in self._accounts.values() if state.account.due_at is not None]
        return min(due, default=None)

    def sweep(self) -> None:
        """Write what is due, as the service's sweeper does."""
        for account, state in list(self._accounts.items()):
            if state.account.due_at is not None and state.account.due_at <= self.now:
                decision = decide(state, Sweep(account=account), self.now, self.catalog, "", self.history)
                ref = CommandRef(name="system", idempotency_key=None, fingerprint=None)
                self._keep(decision, self._lines(decision, ref, SYSTEM))

    # -- reads -----------------------------------------------------------------------------------------------------

    def outcome(self, account: str, key: str) -> View:
        """Return what a key led to; raises CommandNotFound."""
        known = self._keys.get((account, key))
        if known is None:
            partition = partition_of(account, PARTITIONS)
            head = self._heads.get(partition)
            raise CommandNotFound(
                f"account {account} has no command with the key {key}",
                account=account,
                idempotency_key=key,
                as_of=f"{partition}-{0 if head is None else head.event.position}",
            )
        return {**known.answer, "replayed": True}

    def seen(self, account: str) -> State:
        """Return the state of an account, unknown ones too, as a read sees it now."""
        state = self._state(account)
        return due_facts(state, self.now, self.catalog, self.history)[0] if state.exists else state

    def at(self, account: str, instant: Instant) -> State:
        """Return an account as it was at an instant; raises Refusal when it was not or the instant is to come."""
        if instant > self.now:
            raise InvalidRequest.at("at", "is in the future")
        lines = [line for line in self.lines_of(account) if line.event.recorded_at <= instant]
        if not lines:
            raise _unknown(account)
        state = replay(account, [line.event for line in lines])
        return due_facts(state, instant, self.history.at(instant, self.catalog), self.history)[0]

    def known(self, account: str) -> State:
        """Return an account as a read sees it now; raises AccountNotFound."""
        state = self.seen(account)
        if not state.exists:
            raise _unknown(account)
        return state

    def lines_of(self, account: str) -> list[Line]:
        """Return the lines of an account, oldest first."""
        return [line for line in self.order if line.event.account == account]

    def lines_in(self, partition: int, after: int, limit: int) -> list[Line]:
        """Return lines of a partition from behind a position."""
        found = [line for line in self.order if line.event.partition == partition and line.event.position > after]
        return found[:limit]


def _system(fact: Fact) -> CommandRef:
    return CommandRef(name="system", idempotency_key=None, fingerprint=None, id=fact.system_id)


def _unknown(account: str) -> AccountNotFound:
    return AccountNotFound(f"there is no account {account}", account=account)


def problem(refusal: Refusal) -> View:
    """Return the problem document of a refusal."""
    return {
        "type": f"urn:credit-ledger:problem:{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "code": refusal.code,
        "detail": refusal.detail,
        **refusal.fields,
    }
