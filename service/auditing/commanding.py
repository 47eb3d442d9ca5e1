"""What the commands of `credit-ledger audit` share: options, the ways in which they end, and the log at hand."""

from __future__ import annotations

import logging
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from events.errors import Refusal
from events.instants import Instant, parse
from service.auditing.travel import EventNotFound
from service.checkpoints.keys import InvalidKey
from service.checkpoints.note import InvalidNote
from service.console import told
from service.database import log_at_hand
from service.outages import Outage
from service.process import run
from service.settings import Settings, load
from service.store.log import Log

COULD_NOT_RUN = 2

_log = logging.getLogger(__name__)

data_option = click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path),
    help="The directory of a `credit-ledger up`.  [default: LEDGER_DATABASE_URL, or .ledger]",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
account_option = click.option("--account", required=True, help="The account's id.")


class InstantType(click.ParamType[Instant]):
    """An option whose value is an instant."""

    name = "instant"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Instant:
        """Return the instant that a text names."""
        try:
            return parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class CouldNotRun(click.ClickException):
    """The work could not be done, which says nothing about the history."""

    exit_code = COULD_NOT_RUN


@contextmanager
def could_not_run() -> Generator[None]:
    """End with a sentence and exit code 2 when the work cannot be done or is interrupted.

    Whatever it is: exit code 1 is said of a history that was looked at and is not sound.
    """
    try:
        with told():
            yield
    except CouldNotRun:
        raise
    except (click.Abort, KeyboardInterrupt):
        raise CouldNotRun("interrupted") from None
    except click.ClickException as error:
        raise CouldNotRun(error.message) from None
    except (Refusal, EventNotFound, Outage, OSError, InvalidKey, InvalidNote) as error:
        raise CouldNotRun(str(getattr(error, "detail", error))) from None
    except sqlite3.Error as error:  # of the temporary files into which a large replay goes
        what = f"temporary files in {tempfile.gettempdir()} cannot be written: {error}"
        raise CouldNotRun(f"{what}; make room there, or name another directory as TMPDIR") from None
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing was found out
        _log.exception("this should not happen")
        raise CouldNotRun(f"{type(error).__name__}: {error}") from None


@contextmanager
def progress_bar(what: str, total: int, *, as_json: bool) -> Generator[Callable[[int], None]]:
    """Show on a terminal how much is done."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn(what), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=as_json or not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task(what, total=max(total, 1))
        yield lambda done: bar.update(task, completed=done)


def with_log(work: Callable[[Log, int], Awaitable[None]], data: Path | None) -> None:
    """Do some work on the log; ends with a sentence and exit code 2 when it cannot be done."""

    async def read() -> None:
        async with log_at_hand(load(Settings), data) as (log, _):
            _, partitions = await log.identity()
            await work(log, partitions)

    with could_not_run():
        if not run(read):
            raise click.Abort
