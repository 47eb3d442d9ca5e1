"""How commands speak: a sentence when something is wrong, a table for people, plain lines or JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import click
import orjson

from service.correctable import Correctable


@contextmanager
def told() -> Generator[None]:
    """End with a sentence and exit code 1 when something is wrong that the user can put right."""
    try:
        yield
    except Correctable as error:
        raise click.ClickException(str(error).replace("\n", "\n       ")) from None


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, title: str | None = None) -> None:
    """Print rows in columns; a table for people, plain lines for programs."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*head, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        Console().print(table, markup=False)
        return
    if title is not None:
        click.echo(title)
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_json(value: object) -> None:
    """Print a value as one JSON document with indents."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
