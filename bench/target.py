"""The one place where the bench touches the ledger's Python: what a caller in the same process would do."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import orjson

from events.asking import fingerprint
from events.catalog import parse_catalog
from events.commands import ChangePlan, Command, Consume, ConsumeDirect, Grant, Refund, Release, Reserve
from events.errors import Refusal
from events.recorded import Actor
from service.benching.pump import BenchError
from service.ledger import Ledger
from service.outages import Outage
from service.process import tune_collector
from service.requests import Request
from service.store.log import Log


class Target(Protocol):
    """A ledger in this process, with full semantics.

    `opening` and `pair` build whatever `submit` takes, fingerprints included: they are called inside the window.
    """

    def opening(self, account: str, run: str) -> tuple[object, object]:
        """The command that puts the account on the plan `bench`, and the one that grants it its funds."""
        ...

    def pair(self, account: str, id_: str) -> tuple[object, object]:
        """A reserve by operation with `id_` as the reservation's id, and the consume of all that it holds."""
        ...

    def mixed(self, account: str, id_: str) -> tuple[object, object]:
        """By the number at the end of `id_`: such a pair, a direct consume and its refund, or a reserve and its release."""
        ...

    async def submit(self, command: object) -> None:
        """Runs one command to its durable answer, with the key that its builder gave it.

        Raises:
            BenchError: the answer is not a success, or is a replay.
        """
        ...

    async def submit_all(self, commands: object) -> None:
        """Runs a batch of commands to its durable answers.

        Raises:
            BenchError: an answer is not a success, or is a replay.
        """
        ...

    async def stop(self) -> None:
        """Ends everything that the target started."""
        ...


BENCH = Actor(id="bench", via="process")


class InProcess:
    """The ledger as `credit-ledger serve` builds it, without a transport."""

    def __init__(self, ledger: Ledger, log: Log) -> None:
        self._ledger = ledger
        self._log = log

    def opening(self, account: str, run: str) -> tuple[Request, Request]:
        """See Target."""
        return (
            _request(ChangePlan, f"{run}-plan", account=account, plan="bench"),
            _request(Grant, f"{run}-funds", account=account, amount=10**12, kind="purchase"),
        )

    def pair(self, account: str, id_: str) -> tuple[Request, Request]:
        """See Target."""
        return (
            _request(Reserve, f"{id_}-reserve", account=account, operation="render", reservation_id=id_),
            _request(Consume, f"{id_}-consume", account=account, reservation_id=id_),
        )

    def mixed(self, account: str, id_: str) -> tuple[Request, Request]:
        """See Target."""
        turn = int(id_.rpartition("-")[2]) % 4
        if turn < 2:
            return self.pair(account, id_)
        if turn == 2:
            return (
                _request(ConsumeDirect, f"{id_}-consume", account=account, operation="render", consumption_id=id_),
                _request(Refund, f"{id_}-refund", account=account, consumption_id=id_),
            )
        return (
            self.pair(account, id_)[0],
            _request(Release, f"{id_}-release", account=account, reservation_id=id_),
        )

    async def submit(self, command: object) -> None:
        """See Target."""
        if not isinstance(command, Request):
            raise TypeError(type(command))
        try:
            outcome = await self._ledger.execute(command)
        except (Refusal, Outage) as error:
            raise BenchError(f"{error.code}: {error}") from error
        if outcome.replayed or not outcome.lines:
            raise BenchError(f"{command.key} was answered, but not written by this command")

    async def submit_all(self, commands: object) -> None:
        """See Target."""
        for outcome in await self._ledger.execute_all(cast("list[Request]", commands)):
            if isinstance(outcome, BaseException):
                raise BenchError(f"in a batch: {outcome!r}") from outcome
            if outcome.replayed or not outcome.lines:
                raise BenchError("a command of a batch was answered, but not written by it")

    async def stop(self) -> None:
        """See Target."""
        await self._ledger.drain()
        await self._log.close()


def _request(form: Callable[..., Command], key: str, **fields: object) -> Request:
    """What the gateway makes of a body: the command, its key and the fingerprint of its canonical form."""
    command = form(**fields)
    canonical = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    return Request(command, key, fingerprint(command.name, canonical), BENCH)


async def start_target(database_url: str, catalog: str) -> Target:
    """Starts the ledger as `credit-ledger serve` does, without its servers, on a migrated database."""
    content = Path(catalog).read_text(encoding="utf-8")  # noqa: ASYNC240 -- nothing else runs yet
    log = await Log.connect(database_url)
    ledger = await Ledger.open(log, parse_catalog(content))
    tune_collector()
    return InProcess(ledger, log)
