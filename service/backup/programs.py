"""Runs the programs that come with the embedded PostgreSQL: pg_basebackup, pg_dump, pg_restore."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from service.backup.note import BackupError
from service.embedded.child import LAUNCH
from service.embedded.postgres import program

STOP_SECONDS_MAX = 10.0
TOLD_LINES = 5


def connection(url: str) -> tuple[str, dict[str, str]]:
    """Return a database's URL without its password, and the password as programs of PostgreSQL take it.

    Every user of the machine may read the arguments of a command.
    """
    parts = urlsplit(url)
    user, at, address = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    query = parse_qsl(parts.query, keep_blank_values=True)
    secret = dict(query).get("password") or unquote(password)
    left = urlencode([(key, value) for key, value in query if key != "password"], safe="/", quote_via=quote)
    target = f"{parts.scheme}://{name}{at}{address}{parts.path}{'?' if left else ''}{left}"
    return target, {"PGPASSWORD": secret} if secret else {}


async def run(name: str, *arguments: str, secrets: dict[str, str], line: Callable[[str], None]) -> None:
    """Run a program to its end; `line` gets each line of its standard error. Raises BackupError.

    It is stopped when we are, and told to stop when we are killed (`service/embedded/launch.py`).
    """
    command = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), "-1", "-1", str(program(name)), *arguments]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, "LC_ALL": "C", **secrets},
        start_new_session=True,
    )
    last: list[str] = []
    try:
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        async for raw in process.stderr:
            text = raw.decode(errors="replace").rstrip()
            line(text)
            last = [*last[1 - TOLD_LINES :], text]
        code = await process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait({asyncio.create_task(process.wait())}, timeout=STOP_SECONDS_MAX)
        raise
    if code != 0:
        told = "\n".join(f"  {text}" for text in last) or "  (nothing)"
        raise BackupError(f"{name} failed with exit code {code}; it said:\n{told}")
