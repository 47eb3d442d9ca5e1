"""`credit-ledger audit`: verify the log, export it, see accounts as they were, and why an event is as it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from time import monotonic
from typing import cast

import click
import msgspec

from events.instants import Instant
from projections.explain import explain
from service.auditing import showing
from service.auditing.beside import directory_marks, stored_marks, wrong_beside
from service.auditing.commanding import (
    CouldNotRun,
    InstantType,
    account_option,
    could_not_run,
    data_option,
    json_option,
    progress_bar,
    with_log,
)
from service.auditing.exporting import Format, exported
from service.auditing.faults import MEANINGS, Fault
from service.auditing.marks import Marks
from service.auditing.parallel import verify_database, verify_file
from service.auditing.replaying import replay
from service.auditing.report import Report, report
from service.auditing.travel import before, between, line_of, past
from service.auditing.trusted import marks_of, read_checkpoints, read_public_keys, together
from service.auditing.verifier import Verified
from service.checkpoints.keys import PublicKey
from service.console import print_json
from service.database import log_at_hand
from service.in_force import in_force
from service.process import run
from service.settings import InvalidSettings, Settings, database_url, load, read_signing_keys
from service.store.catalogs import StoredCatalogs
from service.store.feed import Feed
from service.store.log import Log

NOT_SOUND = 1


@click.group(short_help="Verify the log, export it, look into the past, explain an event.")
def audit() -> None:
    """Audit: prove that the history is as it was written, and say why it is as it is.

    \b
    credit-ledger audit verify                          the whole ledger, by replay
    credit-ledger audit export log.ndjson               its lines, as they are stored
    credit-ledger audit verify --from-file log.ndjson   the same without the database
    credit-ledger audit replay --account team-42 --at 2026-11-01T00:00:00Z
    credit-ledger audit replay --catalog next.toml --from 2026-10-01T00:00:00Z
    credit-ledger audit diff --account team-42 --from 2026-10-01T00:00:00Z --to 2026-11-01T00:00:00Z
    credit-ledger audit explain 3-17
    """  # noqa: D301 - click takes \b for "leave these lines as they are"


@audit.command("verify", short_help="Check the whole history, by replay.")
@click.option(
    "--from-file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An export (NDJSON) to check instead of the database.",
)  # fmt: skip
@click.option(
    "--checkpoint", type=click.Path(exists=True, path_type=Path),
    help="Signed checkpoints that the history must agree with: a file, or a directory of files of days.",
)  # fmt: skip
@click.option("--key", "keys", multiple=True, help="A public key, or its file, that must have signed the checkpoints.")
@click.option(
    "--projections/--no-projections", default=True,
    help="Whether to fold all projections anew and compare.  [default: --projections]",
)  # fmt: skip
@click.option("--partitions", type=click.IntRange(1, 1024), help="With --from-file: how many the ledger has.")
@json_option
@data_option
def verify(
    file: Path | None,
    checkpoint: Path | None,
    keys: Sequence[str],
    partitions: int | None,
    data: Path | None,
    *,
    projections: bool,
    as_json: bool,
) -> None:
    """Check every line of the history, and all that is kept beside it, by replaying it from nothing.

    Each line must be canonical, in its place, and linked by its hash to the one before it; balances and identities must
    hold after each event; and the stored hashes, heads, accounts, holds, consumptions and grants must be what the replay
    comes to, and the projections what a fold of the same lines does. The first wrong event of each partition is named,
    and of what is stored beside the log, the first event where it parts from the replay.

    A checkpoint that was kept elsewhere proves more: that the lines are those that it was signed for, although somebody
    could have rewritten them with all their hashes. Of a directory of checkpoints the last one of each file is taken, which
    has all lines that those before it have. From the database, all checkpoints that it keeps are checked as well, and
    the last one in the directory to which the ledger adds them (LEDGER_CHECKPOINT_DIR, or that of --data).

    Exit code 0: sound. 1: not sound. 2: it could not be checked.

    \b
    credit-ledger audit verify
    credit-ledger audit verify --json --data .ledger
    credit-ledger audit verify --from-file log.ndjson
    credit-ledger audit verify --checkpoint kept.checkpoints --key credit-ledger+1a2b3c4d+AQ...
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    started = monotonic()
    with could_not_run():
        trusted = read_public_keys(keys)
        given = () if checkpoint is None else read_checkpoints(checkpoint)
        marks, untrusted = marks_of(given, trusted)
        if given and not trusted:
            click.echo("note: the signatures of the checkpoints were not checked; name the --key", err=True)
        if file is None:
            verified, not_ours = _verified_database(data, marks, trusted, projections=projections, as_json=as_json)
            untrusted += not_ours
        else:
            # A checkpoint knows how many partitions there are.
            verified = _verified_file(file, partitions or len(marks) or None, marks, as_json=as_json)
        found = report(verified, marks, untrusted)
        seconds = monotonic() - started
        if as_json:
            print_json({**cast("dict[str, object]", msgspec.to_builtins(found)), "seconds": round(seconds, 3)})
        else:
            _print_report(found, seconds)
    if not found.sound:
        sys.exit(NOT_SOUND)


def _verified_file(file: Path, partitions: int | None, marks: Marks, *, as_json: bool) -> list[Verified]:
    with progress_bar("verifying", file.stat().st_size, as_json=as_json) as progress:
        return verify_file(file, partitions=partitions, marks=marks, progress=progress)


def _verified_database(
    data: Path | None, marks: Marks, trusted: Sequence[PublicKey], *, projections: bool, as_json: bool
) -> tuple[list[Verified], list[Fault]]:
    """Return what the partitions came to, and what is wrong with what the database keeps beside them."""
    found: list[tuple[list[Verified], list[Fault]]] = []

    async def work() -> None:
        async with log_at_hand(load(Settings), data) as (log, settings):
            _, partitions = await log.identity()
            sizes = await Feed(log, partitions).heads()
            lines = sum(sizes.values())
            keys = trusted or _keys_at_hand(settings)
            stored, not_ours = await stored_marks(log, keys)
            kept, not_kept = await directory_marks(log, _readable(settings.checkpoint_dir), keys)
            own, faults = together(stored, kept), not_ours + not_kept
            if own and not keys:
                click.echo("note: who signed the checkpoints of the ledger was not checked; name the --key", err=True)
            if keys and lines and not own and not faults:
                click.echo("note: the ledger has no checkpoint, so nobody vouches for what is in it", err=True)
            with progress_bar("verifying", lines, as_json=as_json) as progress:
                verified = await verify_database(
                    log,
                    database_url(settings),
                    partitions=partitions,
                    sizes=sizes,
                    marks=together(own, marks),
                    projections=projections,
                    progress=progress,
                )
                found.append((verified, faults + await wrong_beside(log)))

    if not run(work):
        raise click.Abort
    return found[0]


def _readable(directory: Path | None) -> Path | None:
    """Return the directory of the ledger's checkpoints, or None, with a word, where it may not be read."""
    if directory is not None and directory.is_dir() and not os.access(directory, os.R_OK | os.X_OK):
        click.echo(f"note: the checkpoints in {directory} were not looked at: they may not be read", err=True)
        return None
    return directory


def _keys_at_hand(settings: Settings) -> tuple[PublicKey, ...]:
    """Return the public keys of the ledger itself, as far as they may be read."""
    try:
        return tuple(key.public for key in read_signing_keys(settings))
    except InvalidSettings as error:
        if isinstance(error.__context__, PermissionError):
            return ()  # an auditor need not be able to sign
        raise


def _print_report(found: Report, seconds: float) -> None:
    scope = f"{found.events} events of {found.accounts} accounts in {len(found.partitions)} partitions"
    if found.sound:
        click.echo(f"sound: {scope}, verified in {seconds:.1f} s")
        return
    click.echo(f"NOT SOUND: {len(found.faults)} of the partitions are wrong; {scope} were read in {seconds:.1f} s")
    for fault in found.faults:
        of = f" of account {fault.account}" if fault.account else ""
        click.echo(f"\n{fault.place}{of}: {fault.code}\n  {MEANINGS[fault.code]}\n  {fault.detail}")


@audit.command("export", short_help="Write the log to a file.")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice(["ndjson", "csv"]), default="ndjson", show_default=True)
@click.option("--partition", type=click.IntRange(0, 1023), help="Only this one.  [default: all]")
@data_option
def export(file: Path | None, form: Format, partition: int | None, data: Path | None) -> None:
    """Write the log to FILE, or to standard output: by partition, then position, as of one instant.

    ndjson is the lines as they are stored, so that the SHA-256 of a line is the next one's prev_hash. csv is a table for
    people: it cannot be verified. FILE appears when it is whole.

    \b
    credit-ledger audit export log.ndjson
    credit-ledger audit export --partition 3 | head -1 | tr -d '\\n' | sha256sum
    """  # noqa: D301 - click takes \b for "leave these lines as they are"

    async def work() -> None:
        async with log_at_hand(load(Settings), data) as (log, _):
            _, partitions = await log.identity()
            feed = Feed(log, partitions)
            heads = await feed.heads()
            total = sum(position for number, position in heads.items() if partition in {None, number})
            with _written(file) as write, progress_bar("exporting", total, as_json=file is None) as progress:
                done = 0
                async with aclosing(exported(feed, partition=partition, form=form)) as pieces:
                    async for piece in pieces:
                        write(piece)
                        done += piece.count(b"\n")
                        progress(done)

    with could_not_run():
        if not run(work):
            raise click.Abort


@contextmanager
def _written(file: Path | None) -> Generator[Callable[[bytes], object]]:
    """Lend what writes to standard output, or to a file that appears under its name when it is whole."""
    if file is None:
        try:
            yield sys.stdout.buffer.write
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # whoever reads has enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise CouldNotRun(f"the output cannot be written: {error.strerror}") from None
        return
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as out:
            yield out.write
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError as error:
        raise CouldNotRun(f"{file} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


@audit.command("diff", short_help="Show what changed in an account between two instants.")
@account_option
@click.option("--from", "start", type=InstantType(), required=True, help="The earlier instant.")
@click.option("--to", "end", type=InstantType(), required=True, help="The later instant.")
@json_option
@data_option
def diff(account: str, start: Instant, end: Instant, data: Path | None, *, as_json: bool) -> None:
    """Show what changed in an account between two instants, and the events that changed it.

    \b
    credit-ledger audit diff --account team-42 --from 2026-10-01T00:00:00Z --to 2026-11-01T00:00:00Z
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    if end < start:
        raise click.UsageError("--to is before --from")

    async def work(log: Log, partitions: int) -> None:
        catalogs = await in_force(StoredCatalogs(log))
        one = await past(log, partitions, account, start, catalogs, or_unknown=True)
        other = await past(log, partitions, account, end, catalogs)
        lines = await between(log, partitions, account, one, end)
        views.append(showing.difference_view(one, other, lines, start, end))

    views: list[dict[str, object]] = []
    with_log(work, data)
    print_json(views[0]) if as_json else showing.print_difference(views[0])


@audit.command("explain", short_help="Say why an event is as it is.")
@click.argument("event")
@json_option
@data_option
def explain_command(event: str, data: Path | None, *, as_json: bool) -> None:
    """Say why EVENT is as it is: the grants that were seen and what each gave, the price by its rule, what was due.

    \b
    credit-ledger audit explain 3-17
    credit-ledger audit explain 3-17 --json
    """  # noqa: D301 - click takes \b for "leave these lines as they are"

    async def work(log: Log, partitions: int) -> None:
        line = await line_of(log, partitions, event)
        views.append(explain(await before(log, line), line))

    views: list[dict[str, object]] = []
    with_log(work, data)
    print_json(views[0]) if as_json else showing.print_explanation(views[0])


audit.add_command(replay)
