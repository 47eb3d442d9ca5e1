"""A group of commands that imports each of them when it is asked for: `--help` lists them all and imports none.

A command imports what it runs, and some run much: servers, brokers and databases take a second to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

INTERRUPTED = 130


class Interrupted(click.ClickException):
    """Ctrl-C or SIGTERM ended the command before it was done."""

    exit_code = INTERRUPTED


class Late(NamedTuple):
    """A command that is imported when it is asked for: what the list of commands says about it, and where it is."""

    short_help: str
    module: str
    attribute: str

    def command(self) -> click.Command:
        """Import it."""
        found = getattr(import_module(self.module), self.attribute)
        assert isinstance(found, click.Command)  # noqa: S101 - a test imports every one
        return found


class LateGroup(click.Group):
    """A group that has, beside commands of its own, the late ones."""

    def __init__(self, name: str | None = None, *, late: Mapping[str, Late], **options: Any) -> None:  # noqa: ANN401 - click's own, handed on
        super().__init__(name, **options)
        self.late = late

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in their order."""
        return sorted({*super().list_commands(ctx), *self.late})

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; Ctrl-C, wherever it comes, ends with the exit code of a process that was interrupted.

        Click ends it with 1, which some commands say when they found something wrong.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now if it is a late one."""
        if cmd_name in self.late and cmd_name not in self.commands:
            self.add_command(self.late[cmd_name].command(), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, the late ones as their table tells them."""
        own = dict(self.commands)
        told = {name: click.Command(name, short_help=late.short_help) for name, late in self.late.items()}
        self.commands = {**told, **own}
        try:
            super().format_commands(ctx, formatter)
        finally:
            self.commands = own
