"""The form in which an answer is sent: JSON, CSV for lists when it is asked for, or nothing when the caller has it already.

CSV has a header line and a row for each entry of the list; what stands inside an object is named with a dot, a list is
one JSON text. The cursor of the next page, which JSON has in the body, is in the header `Next-Cursor`. A text that a
spreadsheet would take for a formula gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
from typing import cast

import orjson
from aiohttp import hdrs

from service.http.answers import Answer, answer, csv_answer, not_modified, tagged
from service.http.incoming import Incoming
from service.replies import Reply

LISTS = {
    "accounts": "accounts",
    "audit": "entries",
    "consumptions": "consumptions",
    "finance_summary": "rows",
    "grants": "grants",
    "hold_leaks": "operations",
    "reservations": "reservations",
    "reserve_hints": "operations",
    "statement": "movements",
    "transactions": "transactions",
    "usage": "series",
    "usage_of_all": "series",
}
"""Under which name each query's answer has its list."""
_OFFERED = frozenset({"text/csv", "application/json", "application/*", "*/*"})
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def represented(request: Incoming, name: str, reply: Reply) -> Answer:
    """Return the answer that carries a reply in the form that the request asks for."""
    if reply.code is not None:
        return answer(reply)
    if reply.etag is not None:
        if _has(request, reply.etag):
            return not_modified(reply.etag)
        return tagged(reply, reply.etag)
    if name in LISTS and _wants_csv(request):
        view = cast("dict[str, object]", orjson.loads(reply.body))
        rows = cast("list[dict[str, object]]", view[LISTS[name]])
        return csv_answer(to_csv(rows), cast("str | None", view.get("next_cursor")), cast("str", view["as_of"]))
    return answer(reply)


def to_csv(rows: list[dict[str, object]]) -> bytes:
    """Return rows as CSV (RFC 4180), UTF-8; the columns are all that any row has."""
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([row.get(name, "") for name in columns] for row in flat)
    return text.getvalue().encode()


def _flat(row: dict[str, object], above: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found.update(_flat(cast("dict[str, object]", value), f"{above}{name}."))
        else:
            found[f"{above}{name}"] = _cell(value)
    return found


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return orjson.dumps(value).decode()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _wants_csv(request: Incoming) -> bool:
    """Say whether CSV is what the request likes best of what there is; of two that it likes as much, the first counts."""
    best, liked = 0.0, ""
    for accepted in request.headers.get(hdrs.ACCEPT, "").lower().split(","):
        kind, *parameters = (part.strip() for part in accepted.split(";"))
        quality = next((_quality(part) for part in parameters if part.startswith("q=")), 1.0)
        if kind in _OFFERED and quality > best:
            best, liked = quality, kind
    return liked == "text/csv"


def _quality(parameter: str) -> float:
    """Return the weight that a parameter `q=` gives (RFC 9110, section 12.4.2), 0 for what is none."""
    try:
        return float(parameter[2:])
    except ValueError:
        return 0.0


def _has(request: Incoming, etag: str) -> bool:
    """Say whether the caller has the content of this tag, compared weakly (RFC 9110, section 13.1.2)."""
    given = request.headers.get(hdrs.IF_NONE_MATCH)
    if given is None:
        return False
    return given.strip() == "*" or etag.removeprefix("W/") in {
        tag.strip().removeprefix("W/") for tag in given.split(",")
    }
