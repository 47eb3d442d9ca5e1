"""`credit-ledger token`: who may call over HTTP."""

from __future__ import annotations

from collections.abc import Sequence

import click

from service import PREFIX
from service.access import SCOPES, create_token
from service.console import told


@click.group(short_help="Make tokens for HTTP.")
def token() -> None:
    """Tokens for HTTP; their hashes stand in the file that LEDGER_TOKENS names."""


@token.command("create", short_help="Make a token, and the entry that makes it known.")
@click.option("--name", required=True, help="Becomes the actor of the events.")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(sorted(SCOPES)), help="May be repeated."
)
@click.option(
    "--account", "accounts", multiple=True, help="A prefix of the accounts in reach; may be repeated.  [default: all]"
)
def token_create(name: str, scopes: Sequence[str], accounts: Sequence[str]) -> None:
    """Make a token, and print it once with the entry that makes it known.

    \b
    credit-ledger token create --name checkout --scope read --scope spend
    credit-ledger token create --name ops --scope admin:read --scope admin:write --scope audit
    credit-ledger token create --name shop --scope spend --account shop-
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    with told():
        made = create_token(name, scopes, accounts)
    click.echo(f"# The token, shown this once:\n{made.token}\n\n# Add to the file of {PREFIX}TOKENS:\n{made.entry}")
