"""`credit-ledger key`: keys that sign checkpoints."""

from __future__ import annotations

from pathlib import Path

import click

from service.checkpoints.keys import InvalidKey, SigningKey, read_keys, write_key

NAME_DEFAULT = "credit-ledger"


@click.group(short_help="Make and show keys that sign checkpoints.")
def key() -> None:
    """Keys that sign checkpoints; LEDGER_SIGNING_KEY_FILE names the file."""


@key.command("create", short_help="Make a key, and print the public one.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", default=NAME_DEFAULT, show_default=True, help="Stands before each of its signatures.")
def create(file: Path, name: str) -> None:
    """Make a key, write it to FILE, which only its owner may read, and print the public key.

    The public key is for everybody who checks checkpoints. The file is the secret: whoever has it can sign another
    history. To change the key, add a second line to the file, see docs/how-to/verify-the-log.md.

    \b
    credit-ledger key create signing.key --name ledger.example.com
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    try:
        made = SigningKey.create(name)
        write_key(file, made)
    except FileExistsError:
        raise click.ClickException(f"{file} exists; a key is never overwritten") from None
    except InvalidKey as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from None
    click.echo(str(made.public))


@key.command("show")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def show(file: Path) -> None:
    """Print the public keys of FILE.

    \b
    credit-ledger key show signing.key
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    try:
        keys = read_keys(file)
    except (InvalidKey, OSError) as error:
        raise click.ClickException(str(error)) from None
    for each in keys:
        click.echo(str(each.public))
