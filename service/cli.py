"""The command line: `credit-ledger up` for a first look, and what an operator needs to run it for good.

A command reads its settings, calls the function that does the work, and turns what can go wrong into a sentence on
standard error and exit code 1. What is printed is for people when standard output is a terminal, else plain lines.
A command imports what it runs when it runs, because servers, broker and database take a second to import.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import click

from service import PREFIX
from service.late import Late, LateGroup

_PORT = click.IntRange(0, 65_535)
_SETTINGS = f"""
\b
Settings are read from the environment and from .env in the working directory:
  {PREFIX}DATABASE_URL    postgresql://user:password@host/database
  {PREFIX}NATS_URL        nats://host:4222 (several: with commas); without it, HTTP only
  {PREFIX}NATS_CREDS      a credentials file for NATS
  {PREFIX}CATALOG         the catalog to begin with, a TOML file; then `credit-ledger catalog activate`
  {PREFIX}HTTP_HOST       127.0.0.1
  {PREFIX}HTTP_PORT       8080
  {PREFIX}OPERATIONS_PORT for health and metrics when HTTP_HOST is not the loopback
  {PREFIX}AUTH            on, or off on the loopback only
  {PREFIX}TOKENS          who may do what, a TOML file
  {PREFIX}SUBJECT_PREFIX  credits
  {PREFIX}PARTITIONS      16; fixed when the ledger is created
  {PREFIX}SIGNING_KEY_FILE signs checkpoints; see `credit-ledger key --help`
  {PREFIX}CHECKPOINT_DIR  a directory that keeps every checkpoint
  {PREFIX}PROJECTOR       inside, or apart: see `credit-ledger projections run --help`
  {PREFIX}WEBHOOKS        who is sent alerts, a TOML file; see `credit-ledger webhooks --help`
"""
_EXAMPLE = """
\b
LEDGER_DATABASE_URL=postgresql://ledger:...@db/ledger LEDGER_CATALOG=catalog.toml LEDGER_TOKENS=tokens.toml credit-ledger """

_LATE = {
    "audit": Late(
        "Verify the log, export it, look into the past, explain an event.", "service.audit_commands", "audit"
    ),
    "backup": Late("Make a backup, while the ledger runs.", "service.backup.command", "backup_command"),
    "bench": Late("Measure how fast a ledger that runs answers.", "service.benching.command", "bench_command"),
    "catalog": Late("Show catalogs, compare them, bring one into force.", "service.catalog_commands", "catalog"),
    "import": Late("Import opening balances from a file.", "service.importing.command", "import_command"),
    "key": Late("Make and show keys that sign checkpoints.", "service.checkpoints.command", "key"),
    "projections": Late("How far projections are; build them again.", "service.projection_commands", "projections"),
    "republish": Late("Publish events again.", "service.republishing", "republish_command"),
    "restore": Late("Restore a backup into an empty place.", "service.backup.command", "restore_command"),
    "token": Late("Make tokens for HTTP.", "service.token_commands", "token"),
    "webhooks": Late(
        "Receivers of alerts: add one, see what was delivered, send it again.", "service.webhooks.command", "webhooks"
    ),
}


@click.group(
    cls=LateGroup, late=_LATE, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="credit-ledger", prog_name="credit-ledger")
def main() -> None:
    """An event-sourced credit ledger: grant, reserve, consume and refund credits on an append-only log.

    \b
    A first look, with nothing installed beside this:
      credit-ledger up
    \b
    In production, with servers of your own:
      export LEDGER_DATABASE_URL=postgresql://ledger:...@db/ledger LEDGER_NATS_URL=nats://nats:4222
      export LEDGER_CATALOG=catalog.toml LEDGER_TOKENS=tokens.toml
      credit-ledger token create --name checkout --scope read --scope spend
      credit-ledger check-config
      credit-ledger migrate
      credit-ledger serve
    """  # noqa: D301 - click takes \b for "leave these lines as they are"


@main.command("up", short_help="Run everything on this machine, for a first look and for development.")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), default=Path(".ledger"), show_default=True,
    help="Where the servers keep their data.",
)  # fmt: skip
@click.option("--port", type=_PORT, help="The port for HTTP; 0 takes one that is free.  [default: 8080]")
@click.option("--nats-port", type=_PORT, help="The port for NATS.  [default: one that is free]")
@click.option("--catalog", type=click.Path(path_type=Path), help="A catalog of your own.  [default: an example]")
@click.option("--demo", is_flag=True, help="Make a few accounts with some history.")
def up_command(data: Path, port: int | None, nats_port: int | None, catalog: Path | None, *, demo: bool) -> None:
    """Run everything on this machine: PostgreSQL, NATS and the ledger.

    It brings the servers along, keeps their data below --data, listens on 127.0.0.1 only, and prints lines to paste.
    What was acknowledged survives everything, kill -9 too. Ctrl-C stops all of it. Everybody on this machine may do
    everything unless LEDGER_AUTH=on is set.

    \b
    credit-ledger up                          data in .ledger, HTTP on port 8080
    credit-ledger up --port 0 --data other    a second one beside it
    credit-ledger up --catalog mine.toml      with your prices
    credit-ledger up --demo                   with accounts to look at
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    from rich.console import Console

    from service.console import told
    from service.process import run, set_up_logging
    from service.up import settings_of, up

    set_up_logging()
    console = Console()
    with told():
        settings = settings_of(port=port, catalog=catalog)
        click.echo(f"starting PostgreSQL and NATS on {data}", err=True)
        run(lambda: up(settings, data, nats_port=nats_port, demo=demo, console=console))
    click.echo(f"stopped; `credit-ledger up` goes on with the data in {data}", err=True)


@main.command(
    short_help="Run the ledger against servers of your own.",
    help=f"Run the ledger against servers of your own, until SIGTERM or Ctrl-C.\n{_SETTINGS}{_EXAMPLE}serve",
)
def serve() -> None:
    """Run the ledger."""
    import asyncio

    from service.app import VERSION, running
    from service.console import told
    from service.process import run, set_up_logging
    from service.settings import Settings, load

    async def serve_until_cancelled() -> None:
        async with running(settings) as ledger:
            click.echo(f"credit-ledger {VERSION} serves on {ledger.url}")
            await asyncio.Event().wait()

    set_up_logging()
    with told():
        settings = load(Settings)
        run(serve_until_cancelled)


@main.command("migrate", short_help="Bring the database to this release's schema.")
def migrate_command() -> None:
    """Bring the database of LEDGER_DATABASE_URL to this release's schema; without effect when it is there.

    Needs the rights to create schemas and roles. Run it before the new release serves.

    \b
    LEDGER_DATABASE_URL=postgresql://owner:...@db/ledger credit-ledger migrate
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    from service.console import complete, told
    from service.database import prepare
    from service.settings import Settings, load

    async def bring() -> None:
        applied = await prepare(settings)
        click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do: the schema is this release's")

    with told():
        settings = load(Settings)
        complete(bring, otherwise="what was applied stays; run it again")


@main.command(
    "check-config",
    short_help="Show the settings and say whether they are good.",
    help=f"Show the settings, and say whether `serve` would accept them.\n{_SETTINGS}{_EXAMPLE}check-config",
)
def check_config() -> None:
    """Check the settings, the catalog and the tokens."""
    from service.console import print_table, told
    from service.settings import (
        InvalidSettings,
        Settings,
        database_url,
        load,
        read_access,
        read_catalog,
        read_receivers,
        read_signing_keys,
        show,
        slips,
    )

    problems: list[str] = []

    def attempt(read: Callable[[], object]) -> object:
        try:
            return read()
        except InvalidSettings as error:
            problems.extend(error.problems)
            return None

    settings = cast("Settings | None", attempt(lambda: load(Settings)))
    if settings is not None:
        rows = [(shown.name, shown.value, shown.source) for shown in show(settings)]
        print_table(("setting", "value", "from"), rows)
        readers = (database_url, read_access) if settings.catalog is None else (database_url, read_catalog, read_access)
        for read in (*readers, read_signing_keys, read_receivers):
            attempt(lambda read=read: read(settings))
        if settings.catalog is None:
            click.echo(f"note: {PREFIX}CATALOG is not set; the catalog in force in the database will be used", err=True)
    for slip in slips():
        click.echo(f"note: {slip}", err=True)
    if problems:
        with told():
            raise InvalidSettings(*problems)
    click.echo("the settings are good")


@main.command("nats-config", short_help="Write the configuration of a NATS server for the callers.")
def nats_config() -> None:
    """Print a configuration for nats-server in which each caller of LEDGER_TOKENS reaches its own subjects only.

    A caller may send commands and queries under its own name, and read its own inbox (_INBOX_<caller>) and outcomes; one
    with the scope audit may read the events. Passwords come from the server's environment, as the file says.

    \b
    LEDGER_TOKENS=tokens.toml credit-ledger nats-config > nats-server.conf
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    from service.bus.permissions import AmbiguousCallers, server_configuration
    from service.console import told
    from service.settings import InvalidSettings, Settings, load, read_access

    with told():
        settings = load(Settings)
        try:
            text = server_configuration(read_access(settings).callers, settings.subject_prefix)
        except AmbiguousCallers as error:
            raise InvalidSettings(str(error)) from None
    click.echo(text, nl=False)


if __name__ == "__main__":
    main(prog_name="credit-ledger")
