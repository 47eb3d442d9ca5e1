"""What a load process may be asked to do: one job is one round of one case, sent as a line of JSON.

The answer is a line too: the round's `Window`, or a `Failure`. Everything a round needs is in its job, and is bounded:
a number of pairs, a number of lanes, seconds. Ids begin with the job's `run`, which is unique, so that no round ever
repeats a key of another one by accident.
"""

import random

import msgspec

from bench.measure import Window

HOT_ACCOUNT = "bench-hot"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How much load: at most `pairs` pairs over `accounts` accounts (1 is the hot one) with `in_flight` lanes."""

    run: str
    accounts: int
    in_flight: int
    seconds: float
    pairs: int

    def draw(self) -> list[tuple[str, str]]:
        """The account and the reservation id of each pair; the same for the same run."""
        if self.accounts == 1:
            return [(HOT_ACCOUNT, f"{self.run}-{n}") for n in range(self.pairs)]
        pick = random.Random(self.run).randrange
        return [(account_name(pick(self.accounts)), f"{self.run}-{n}") for n in range(self.pairs)]


class Sync(msgspec.Struct, frozen=True, tag=True):
    """Writes 8 KiB and calls fdatasync, `writes` times, in the directory that holds the database."""

    directory: str
    writes: int


class Copy(msgspec.Struct, frozen=True, tag=True):
    """Copies `rows` event rows, from position `first` on in each partition, into `table` in one transaction."""

    database_url: str
    table: str
    rows: int
    first: int


class Sql(msgspec.Struct, frozen=True, tag=True):
    """Spends credits by hand-written SQL; `style` is `naive` (row lock) or `conditional` (one statement)."""

    load: Load
    database_url: str
    style: str


class Http(msgspec.Struct, frozen=True, tag=True):
    """Sends prepared requests over keep-alive connections, one in flight on each."""

    load: Load
    port: int
    status: int
    opening: bool = False


class Nats(msgspec.Struct, frozen=True, tag=True):
    """Sends prepared requests below `subject` over one connection; `status` None expects a plain answer."""

    load: Load
    port: int
    subject: str
    status: int | None


class InProcess(msgspec.Struct, frozen=True, tag=True):
    """Calls the ledger inside the load process; the first job of a process starts it and it stays."""

    load: Load
    database_url: str
    catalog: str
    opening: bool = False


class Failure(msgspec.Struct, frozen=True, tag=True):
    """Why a job gave no figure."""

    reason: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """The figures of a job."""

    window: Window


Job = Sync | Copy | Sql | Http | Nats | InProcess
Outcome = Done | Failure


def account_name(number: int) -> str:
    """The name of one of the accounts that uniform load goes to."""
    return f"bench-{number:05d}"


def accounts_to_open(accounts: int) -> list[str]:
    """All accounts that the scenarios use: the uniform ones and the hot one."""
    return [HOT_ACCOUNT, *(account_name(number) for number in range(accounts))]
