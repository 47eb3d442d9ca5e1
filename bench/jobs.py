"""What a load process may be asked to do: one job is one round of one case, sent as a line of JSON.

The answer is a line too: the round's `Window`, or a `Failure`. Everything a round needs is in its job, and is bounded:
a number of pairs, a number of lanes, seconds. Ids begin with the job's `run`, which is unique, so that no round ever
repeats a key of another one by accident.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from service.benching.pump import OpenPump, Pump, Request, Window
from service.benching.requests import Draw, Shape, draws

InProcessShape = Literal["pairs", "mixed", "opening", "opening_more", "holds"]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How much load: at most `pairs` pairs over `accounts` accounts (1 is the hot one) with `in_flight` lanes.

    `batch` is how many commands a request has. `per_second` is how many commands arrive a second, whether or not earlier
    ones were answered; 0 is a closed loop. Fills of accounts begin at number `first`.
    """

    run: str
    accounts: int
    in_flight: int
    seconds: float
    pairs: int
    batch: int = 0
    per_second: float = 0
    first: int = 0

    def draw(self) -> Iterator[Draw]:
        """The account and the reservation id of each pair; the same for the same run."""
        return draws(self.run, self.pairs, self.accounts)

    def pump(self, pairs: Iterable[tuple[Request, Request]]) -> Pump[Request]:
        """What hands these pairs out."""
        weight = self.batch or 1
        if not self.per_second:
            return Pump(pairs, self.in_flight, self.seconds, weight=weight)
        rate = self.per_second / weight / 2
        return OpenPump(pairs, self.in_flight, self.seconds, weight=weight, pairs_per_second=rate)


class Sync(msgspec.Struct, frozen=True, tag=True):
    """Writes 8 KiB and calls fdatasync, `writes` times, in the directory that holds the database."""

    directory: str
    writes: int


class Copy(msgspec.Struct, frozen=True, tag=True):
    """Copies `rows` rows of the ledger's log into the emptied `table`, in one transaction."""

    database_url: str
    table: str
    rows: int


class Sql(msgspec.Struct, frozen=True, tag=True):
    """Spends credits by hand-written SQL; `style` is `naive` (row lock) or `conditional` (one statement)."""

    load: Load
    database_url: str
    style: str


class Http(msgspec.Struct, frozen=True, tag=True):
    """Sends prepared requests over keep-alive connections, one in flight on each."""

    load: Load
    port: int
    shape: Shape
    status: int


class Nats(msgspec.Struct, frozen=True, tag=True):
    """Sends prepared requests below the subjects of commands and queries; `status` None expects a plain answer."""

    load: Load
    port: int
    subject: tuple[str, str]
    shape: Shape
    status: int | None


class InProcess(msgspec.Struct, frozen=True, tag=True):
    """Calls the ledger inside the load process; the first job of a process starts it and it stays."""

    load: Load
    database_url: str
    catalog: str
    shape: InProcessShape = "pairs"


class Replay(msgspec.Struct, frozen=True, tag=True):
    """Reads up to `events` lines of the log, and then checks their hashes and evolves their accounts, in one process."""

    database_url: str
    events: int


class Failure(msgspec.Struct, frozen=True, tag=True):
    """Why a job gave no figure."""

    reason: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """The figures of a job."""

    window: Window


Job = Sync | Copy | Sql | Http | Nats | InProcess | Replay
Outcome = Done | Failure
