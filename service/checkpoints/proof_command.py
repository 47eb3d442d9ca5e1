"""`credit-ledger audit proof`: checks a proof from a file, without the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import click
import orjson

from service.auditing.command import NOT_SOUND
from service.auditing.commanding import CouldNotRun
from service.auditing.trusted import read_checkpoints, read_public_keys
from service.checkpoints.checking import NotProven, check_proof
from service.checkpoints.keys import InvalidKey
from service.checkpoints.note import InvalidNote


@click.command("proof", short_help="Check a proof of inclusion or consistency.")
@click.argument("file", type=click.File("rb"))
@click.option("--key", "keys", multiple=True, help="A public key, or its file, that must have signed the checkpoints.")
@click.option(
    "--checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoints that were kept; those of them that are in the proof must be the same.",
)  # fmt: skip
def proof_command(file: BinaryIO, keys: Sequence[str], checkpoint: Path | None) -> None:
    """Check a proof that GET /v1/proofs/inclusion or /v1/proofs/consistency answered, from FILE or, with -, standard input.

    Needs neither the ledger nor an export, only a key or a kept checkpoint to believe. Exit code 0: proven. 1: not
    proven. 2: it could not be checked.

    \b
    curl -s "https://ledger/v1/proofs/consistency?from=17" | credit-ledger audit proof - --key signing.pub
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    if not keys and checkpoint is None:
        raise click.UsageError("name a --key or a --checkpoint to believe")
    try:
        kept = () if checkpoint is None else read_checkpoints(checkpoint)
        trusted = read_public_keys(keys)
        text = file.read()
    except (InvalidKey, InvalidNote, OSError) as error:
        raise CouldNotRun(str(error)) from None
    try:
        proven = check_proof(orjson.loads(text), trusted, kept)
    except orjson.JSONDecodeError as error:
        raise CouldNotRun(f"the proof is no JSON: {error}") from None
    except NotProven as error:
        click.echo(f"NOT PROVEN: {error}")
        raise SystemExit(NOT_SOUND) from None
    click.echo(f"proven: {proven}")
