"""`credit-ledger backup` and `credit-ledger restore`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from service.app import VERSION
from service.backup.backing_up import back_up, require_empty, size_of
from service.backup.note import BackupError, BackupNote, Method, note_of, read_note
from service.backup.restoring import restore_database, restore_directory
from service.console import complete, told
from service.database import DATA, log_at_hand
from service.outages import Outage
from service.settings import InvalidSettings, Settings, database_url, load

MEGABYTE = 1_000_000


@click.command("backup", short_help="Make a backup, while the ledger runs.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path),
    help="The directory of a `credit-ledger up`.  [default: LEDGER_DATABASE_URL, or .ledger]",
)  # fmt: skip
@click.option(
    "--method", type=click.Choice(["base", "dump"]),
    help="base: a copy of the embedded cluster. dump: the ledger's schemas, for any PostgreSQL.  "
    "[default: base for an embedded one, else dump]",
)  # fmt: skip
def backup_command(directory: Path, data: Path | None, method: Method | None) -> None:
    """Make a backup of the ledger in DIRECTORY, which is new or empty, while the ledger runs.

    It has every command that was answered before it began. It has neither the key that signs checkpoints nor the
    checkpoints themselves: keep these elsewhere, for they are what tells that a backup is old.

    \b
    credit-ledger backup /backups/2026-11-01
    credit-ledger backup /backups/2026-11-01 --data .ledger --method dump
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    made: list[BackupNote] = []

    async def work() -> None:
        settings = load(Settings)
        is_embedded = data is not None or settings.database_url is None
        chosen: Method = method or ("base" if is_embedded else "dump")
        if chosen == "base" and not is_embedded:
            raise InvalidSettings(
                "a base backup is for the embedded cluster; of your own server make one with its pg_basebackup, or choose "
                "--method dump"
            )
        require_empty(directory)
        async with log_at_hand(settings, data) as (log, at_hand):
            at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            note = await note_of(log, method=chosen, made_at=at, release=VERSION)
            with _progress("backing up", is_share=chosen == "base") as progress:
                made.append(await back_up(database_url(at_hand), directory, note, progress))

    with _told():
        complete(work, otherwise="there is no backup; run it again")
    note = made[0]
    size = size_of(directory) / MEGABYTE
    click.echo(f"backed up {note.events} events of ledger {note.ledger} to {directory} ({note.method}, {size:.1f} MB)")
    click.echo(
        "not in it: the key that signs and the directory of checkpoints; keep copies of them elsewhere", err=True
    )


@click.command("restore", short_help="Restore a backup into an empty place.")
@click.argument("backup", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path),
    help="The data directory to make, for `credit-ledger up`; new or empty.  [default: the empty database of "
    "LEDGER_DATABASE_URL, for a dump]",
)  # fmt: skip
def restore_command(backup: Path, data: Path | None) -> None:
    """Restore BACKUP into a data directory that is new or empty, or a dump into a database without a ledger.

    Nothing that is there is ever overwritten. What was restored is compared with what the backup says of itself; then
    verify it, and see docs/how-to/back-up-and-restore.md before it serves again.

    \b
    credit-ledger restore /backups/2026-11-01 --data restored
    LEDGER_DATABASE_URL=postgresql://owner:...@db/ledger credit-ledger restore /backups/2026-11-01
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    events: list[int] = []
    place = f" --data {data}" if data is not None else ""

    async def work() -> None:
        settings = load(Settings)
        note = read_note(backup)
        if data is not None:
            with _progress("restoring", is_share=note.method == "base") as progress:
                events.append(await restore_directory(backup, note, data, settings, progress))
        elif settings.database_url is not None:
            events.append(await restore_database(backup, note, database_url(settings), settings))
        else:
            raise InvalidSettings(
                f"say where: --data DIRECTORY, new or empty ({DATA} is the one that `up` uses by itself)"
            )

    with _told():
        complete(work, otherwise="nothing is restored; run it again")
    click.echo(f"restored {events[0]} events; verify them before you serve: credit-ledger audit verify{place}")


@contextmanager
def _told() -> Generator[None]:
    with told():
        try:
            yield
        except BackupError as error:
            raise click.ClickException(str(error)) from None
        except (Outage, OSError) as error:
            raise click.ClickException(str(getattr(error, "detail", error))) from None


@contextmanager
def _progress(what: str, *, is_share: bool) -> Generator[Callable[[float], None]]:
    """Show on a terminal how much is done, as a share or in megabytes."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn(what), BarColumn(), TextColumn("{task.fields[done]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=1.0 if is_share else None, done="")

        def show(done: float) -> None:
            text = f"{done:.0%}" if is_share else f"{done / MEGABYTE:.1f} MB"
            bar.update(task, completed=done if is_share else 0, done=text)

        yield show
