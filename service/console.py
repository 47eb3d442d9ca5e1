"""How commands speak: a sentence when something is wrong, a table for people, plain lines or JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager

import click
import orjson

from service.correctable import Correctable
from service.late import Interrupted


@contextmanager
def told() -> Generator[None]:
    """End with a sentence and exit code 1 when something is wrong that the user can put right."""
    try:
        yield
    except Correctable as error:
        raise click.ClickException(str(error).replace("\n", "\n       ")) from None


def complete(main: Callable[[], Awaitable[None]], *, otherwise: str = "run it again") -> None:
    """Run the work of a command to its end; raises Interrupted, with a word on what to do, when it was told to stop."""
    from service.process import run  # a server's event loop takes a while to import

    if not run(main):
        raise Interrupted(f"interrupted: {otherwise}")


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, title: str | None = None) -> None:
    """Print rows in columns; a table for people, plain lines for programs.

    A table that is wider than the terminal would lose the ends of what it shows: then each row is a paragraph, with a
    line for each of its columns.
    """
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        console = Console()
        if sum(widths) + 3 * len(widths) + 1 <= console.width:
            table = Table(*head, title=title, title_justify="left")
            for row in rows:
                table.add_row(*row)
            console.print(table, markup=False)
            return
        if title is not None:
            click.secho(title, italic=True)
        click.echo("\n\n".join(_paragraph(head, row) for row in rows))
        return
    if title is not None:
        click.echo(title)
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _paragraph(head: tuple[str, ...], row: tuple[str, ...]) -> str:
    """Return a row as lines, one for each column that says something."""
    width = max(map(len, head))
    told = [(name, cell) for name, cell in zip(head, row, strict=True) if cell]
    return "\n".join(f"{click.style(name.ljust(width), bold=True)}  {cell}" for name, cell in told)


def print_json(value: object) -> None:
    """Print a value as one JSON document with indents."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
