"""Rows on their way to the database: as a few long texts, because asyncpg looks at each element of an array.

A joined text costs a tenth of an array of texts, and a hundredth of one of numerics.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def columns(rows: Sequence[Sequence[object]]) -> list[str]:
    """Return what separates values, and the values of each column joined by it; a statement cuts them by string_to_array.

    There must be a row, and no value may be None. One empty text alone comes out as no text: such a column is coalesced.
    """
    joined = ["\n".join(map(str, column)) for column in zip(*rows, strict=True)]
    breaks = len(rows) - 1
    if all(text.count("\n") == breaks for text in joined):
        return ["\n", *joined]
    separator = uuid4().hex  # in none of them: nobody can know it
    return [separator, *(separator.join(map(str, column)) for column in zip(*rows, strict=True))]


def copied(place: tuple[int, ...], rows: Sequence[tuple[object, ...]]) -> bytes:
    """Return rows as COPY takes them in its text format, each behind the same first columns; no value may be None."""
    if not rows:
        return b""
    tabs = len(place) + len(rows[0]) - 1
    form = "\t".join([*map(str, place), *["%s"] * len(rows[0])])
    text = "\n".join([form % row for row in rows])
    if "\\" in text or "\r" in text or text.count("\n") != len(rows) - 1 or text.count("\t") != len(rows) * tabs:
        text = "\n".join([form % tuple([str(value).translate(_ESCAPES) for value in row]) for row in rows])
    return f"{text}\n".encode()
