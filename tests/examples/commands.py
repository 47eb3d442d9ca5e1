"""An example as its reader meets it: one command in the checkout, and lines to paste."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path

from examples.starting import ROOT
from tests.program import Program, running
from tests.test_up import paste

__all__ = ["example", "paste"]


def example(name: str, directory: Path, *arguments: str) -> AbstractContextManager[Program]:
    """An example that has said that it is ready, with its data in a directory; killed at the end when it still runs."""
    command = (sys.executable, "-m", f"examples.{name}", "--port", "0", "--data", str(directory / "data"), *arguments)
    return running(command, ROOT, directory / "stderr", {})
