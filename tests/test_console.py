"""How commands speak to people: what is shown is shown whole, and what was interrupted claims nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from io import StringIO

import click
import pytest
from click.testing import CliRunner

from service import projection_commands
from service.console import complete, print_table
from service.late import INTERRUPTED, Interrupted, LateGroup

HEAD = ("grant", "state", "reason")
ROW = ("01a1fe26420bd30cbdf7809e00000001:1", "active", "")


class Terminal(StringIO):
    """A standard output at which a person looks."""

    def isatty(self) -> bool:
        return True


async def stopped_by_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.Event().wait()


@pytest.mark.parametrize(("columns", "is_table"), [("120", True), ("40", False)])
def test_a_table_loses_nothing_however_narrow_the_terminal_is(
    monkeypatch: pytest.MonkeyPatch, columns: str, is_table: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(HEAD, [ROW, ROW])
    shown = terminal.getvalue()
    assert shown.count(ROW[0]) == 2
    assert "…" not in shown
    assert ("┃" in shown) is is_table
    if not is_table:
        assert f"grant   {ROW[0]}\nstate   active\n\ngrant" in click.unstyle(shown)


def test_a_command_that_is_interrupted_says_so_and_what_to_do() -> None:
    with pytest.raises(Interrupted, match="interrupted: do it again") as ended:
        complete(stopped_by_ctrl_c, otherwise="do it again")
    assert ended.value.exit_code == INTERRUPTED


def test_ctrl_c_while_a_command_is_being_loaded_has_a_code_of_its_own() -> None:
    def load() -> None:
        raise KeyboardInterrupt

    group = LateGroup("ledger", late={}, commands={"verify": click.Command("verify", callback=load)})
    ran = CliRunner().invoke(group, ["verify"])
    assert (ran.exit_code, ran.output) == (INTERRUPTED, "Error: interrupted\n")


@pytest.mark.parametrize("arguments", [["rebuild", "usage"], ["verify"]])
def test_projections_that_were_not_compared_are_not_called_right(
    database_url: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    async def rebuild(*_of: object) -> list[str]:
        await stopped_by_ctrl_c()
        return []

    monkeypatch.setenv("LEDGER_DATABASE_URL", database_url)
    monkeypatch.setattr(projection_commands, "rebuild", rebuild)
    ran = CliRunner().invoke(projection_commands.projections, arguments)
    assert ran.exit_code == INTERRUPTED
    assert "says what the log says" not in ran.output
    assert "reads go on" in ran.output
