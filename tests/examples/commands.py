"""An example as its reader meets it: one command in the checkout, and lines to paste."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from examples.starting import ROOT
from tests.program import READY, Program, _read_until, environment
from tests.test_up import paste

__all__ = ["example", "paste"]


@contextmanager
def example(name: str, directory: Path, *arguments: str) -> Generator[Program]:
    """An example that has said that it is ready, with its data in a directory; killed at the end when it still runs."""
    command = (sys.executable, "-m", f"examples.{name}", "--port", "0", "--data", str(directory / "data"), *arguments)
    with (directory / "stderr").open("a+") as stderr:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment({}), stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        try:
            yield Program(process, _read_until(process, READY, directory / "stderr"))
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
