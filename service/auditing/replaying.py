"""`credit-ledger audit replay`: an account as it was, and all accounts as they would be under another catalog."""

from __future__ import annotations

from pathlib import Path

import click

from events.catalog import Catalog
from events.instants import Instant
from service.auditing import showing
from service.auditing.commanding import InstantType, could_not_run, data_option, json_option, progress_bar, with_log
from service.auditing.supposed import print_told
from service.auditing.supposing import BEGINNING, Range, suppose
from service.auditing.travel import past
from service.console import print_json
from service.in_force import in_force, read_source
from service.ledger import system_clock
from service.store.catalogs import StoredCatalogs
from service.store.feed import Feed
from service.store.log import Log


@click.command("replay", short_help="Show an account as it was, or all under another catalog.")
@click.option("--account", help="The account's id; with --catalog it may be left out for all.")
@click.option("--at", type=InstantType(), help="The instant.  [default: now]")
@click.option(
    "--catalog", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ask the same commands again under this catalog.",
)  # fmt: skip
@click.option(
    "--from", "start", type=InstantType(), help="With --catalog: from when it is in force.  [default: always]"
)
@click.option("--to", "end", type=InstantType(), help="With --catalog: the end of the range.  [default: now]")
@json_option
@data_option
def replay(
    account: str | None,
    at: Instant | None,
    catalog: Path | None,
    start: Instant | None,
    end: Instant | None,
    data: Path | None,
    *,
    as_json: bool,
) -> None:
    """Show an account as a read at an instant answered it: the fold of its events, and what was due by then.

    With --catalog, show what the same commands would have cost, and which of them would have been refused, had that
    catalog come into force at --from. Nothing is written.

    \b
    credit-ledger audit replay --account team-42
    credit-ledger audit replay --account team-42 --at 2026-11-01T00:00:00Z --json
    credit-ledger audit replay --catalog next.toml --from 2026-10-01T00:00:00Z --to 2026-11-01T00:00:00Z
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    if catalog is None:
        if account is None or start is not None or end is not None:
            raise click.UsageError("give --account, or --catalog with --from and --to")
        _replay_account(account, at, data, as_json=as_json)
        return
    if at is not None:
        raise click.UsageError("--at goes without --catalog; say --to")
    with could_not_run():
        other, _ = read_source(catalog)
    range_ = Range(start or BEGINNING, end or system_clock())
    if range_.end < range_.start:
        raise click.UsageError("--to is before --from")
    view = _supposed(other, range_, account, data, as_json=as_json)
    print_json(view) if as_json else print_told(view)


def _replay_account(account: str, at: Instant | None, data: Path | None, *, as_json: bool) -> None:
    async def work(log: Log, partitions: int) -> None:
        catalogs = await in_force(StoredCatalogs(log))
        now = system_clock()
        if at is not None and at > now:
            raise click.ClickException(f"{at} is in the future")
        views.append(showing.account_view(await past(log, partitions, account, at or now, catalogs), at or now))

    views: list[dict[str, object]] = []
    with_log(work, data)
    print_json(views[0]) if as_json else showing.print_account(views[0])


def _supposed(
    other: Catalog, range_: Range, account: str | None, data: Path | None, *, as_json: bool
) -> dict[str, object]:
    async def work(log: Log, partitions: int) -> None:
        history = (await in_force(StoredCatalogs(log))).history
        lines = sum((await Feed(log, partitions).heads()).values())
        with progress_bar("replaying", lines, as_json=as_json or account is not None) as progress:
            found = await suppose(log, partitions, other, history, range_, account=account, progress=progress)
        views.append(found.view(other, range_))

    views: list[dict[str, object]] = []
    with_log(work, data)
    return views[0]
