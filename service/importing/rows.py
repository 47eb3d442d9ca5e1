"""The lines of an import file, NDJSON or CSV: each is a row to book, or is bad and says why.

A file is read as a stream, so its size does not matter. Both formats become the same fields, and these are validated as
the bodies of the commands that they turn into. A row's key is made of its `id`, or of everything that it says: the same
row has the same key whenever and in whichever file it is read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from events.asking import Asked, asked
from events.commands import ChangePlan, Grant
from events.errors import Refusal
from service.body import parse_body

LINE_BYTES_MAX = 65_536
COLUMNS = (
    *("id", "account", "plan", "amount", "kind", "unit"),
    *("expires_at", "effective_at", "priority", "reference", "reason", "grant_id"),
)
INTEGERS = ("amount", "priority")
REASON = "opening balance"
"""The reason of a grant whose row gives none."""
OPEN_KEY = "import:open"
"""The key under which an import opens an account: it does so once in the account's life."""

Format = Literal["ndjson", "csv"]

_ID = re.compile(r"[\x20-\x7e]{1,180}")
_INTEGER = re.compile(r"-?[0-9]{1,17}")


class UnreadableFile(Exception):
    """The file as a whole cannot be read; the message says why."""


class BadLine(NamedTuple):
    """A line that cannot be booked."""

    line: int
    reason: str


class Row(NamedTuple):
    """A line to book: an account to open, and what to grant to it, None when it only opens."""

    line: int
    account: str
    plan: str | None
    grant: Asked | None

    def opening(self, plan: str) -> Asked:
        """Return the command that opens the account on a plan."""
        return asked("change_plan", {"account": self.account, "plan": plan}, OPEN_KEY)


def format_of(path: Path) -> Format:
    """Return the format that a file's name tells."""
    return "csv" if path.suffix.lower() == ".csv" else "ndjson"


def read_rows(path: Path, form: Format) -> Iterator[Row | BadLine]:
    """Yield what stands in a file, line by line, numbered from 1; raises UnreadableFile."""
    lines = _csv_lines(path) if form == "csv" else _json_lines(path)
    try:
        for number, found in lines:
            if isinstance(found, str):
                yield BadLine(number, found)
                continue
            try:
                yield _row(number, found)
            except (Refusal, ValueError) as error:
                yield BadLine(number, str(error))
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path} cannot be read: {error}") from None


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield the object of each line that is not blank, or what is wrong with it."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LINE_BYTES_MAX):
            number += 1
            if len(raw) == LINE_BYTES_MAX and not raw.endswith(b"\n"):
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(LINE_BYTES_MAX)
                yield number, f"is longer than {LINE_BYTES_MAX} bytes"
                continue
            raw = raw.removeprefix(b"\xef\xbb\xbf").strip()
            if not raw:
                continue
            try:
                yield number, parse_body(raw)
            except Refusal as refusal:
                yield number, refusal.detail


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield the cells of each line that are not empty, by their columns, or what is wrong with it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        head = [name.strip() for name in next(reader, list[str]())]
        unknown = [name for name in head if name not in COLUMNS]
        if unknown or "account" not in head or len(set(head)) != len(head):
            raise UnreadableFile(
                f"{path}: the first line must name columns among {', '.join(COLUMNS)}, each once, `account` among them"
                + (f"; unknown: {', '.join(unknown)}" if unknown else "")
            )
        while True:
            number = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield number, f"is not CSV: {error}"
                continue
            if cells is None:
                return
            if not cells:
                continue
            if len(cells) != len(head):
                yield number, f"has {len(cells)} cells, the first line has {len(head)}"
                continue
            yield number, _typed({name: cell.strip() for name, cell in zip(head, cells, strict=True) if cell.strip()})


def _typed(cells: dict[str, str]) -> dict[str, Any] | str:
    """Return cells as JSON would have them, or what is wrong with one."""
    fields: dict[str, Any] = dict(cells)
    for name in INTEGERS:
        if name in cells:
            if _INTEGER.fullmatch(cells[name]) is None:
                return f"{name}: must be a whole number, without separators"
            fields[name] = int(cells[name])
    return fields


def _row(line: int, fields: dict[str, Any]) -> Row:
    """Return the row that fields stand for; raises Refusal and ValueError."""
    parse_body(orjson.dumps(fields))  # NUL, which CSV would let pass
    canonical = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    row_id, plan = fields.pop("id", None), fields.pop("plan", None)
    if row_id is not None and (not isinstance(row_id, str) or _ID.fullmatch(row_id) is None):
        raise ValueError("id: must be a string of 1 to 180 printable ASCII characters")
    opening = asked(
        "change_plan", {"account": fields.get("account"), "plan": "any" if plan is None else plan}, OPEN_KEY
    )
    assert isinstance(opening.command, ChangePlan)  # noqa: S101 - it was parsed as one
    account = opening.command.account
    amount = fields.get("amount")
    if amount is None or (amount == 0 and type(amount) is int):
        if amount is None and len(fields) > 1:
            raise ValueError(f"amount: is required with {', '.join(sorted(fields.keys() - {'account'}))}")
        return Row(line, account, plan, None)
    key = f"import:{row_id}" if row_id is not None else f"import:{sha256(canonical).hexdigest()[:32]}"
    grant = asked("grant", {"reason": REASON, **fields}, key)
    assert isinstance(grant.command, Grant)  # noqa: S101 - it was parsed as one
    return Row(line, account, plan, grant)
