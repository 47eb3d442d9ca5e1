"""A JSON body as bytes, and the object it stands for: what JSON allows and the ledger does not (CONTRACT.md).

Refused are: what is not JSON, not an object, deeper than 32, has a key twice, or holds a lone surrogate (all 400), and a
NUL anywhere in a string (422), which PostgreSQL could not store. An empty body is `{}`.

The common case pays for none of this: as many colons, or colons behind a quotation mark, as there are keys prove that
no key stands twice.
"""

from __future__ import annotations

import json
from typing import Any, cast

import orjson

from events.errors import InvalidRequest, Refusal

DEPTH_MAX = 32


class InvalidJson(Refusal):
    """The body is not JSON that the ledger reads."""

    code = "invalid_json"
    status = 400
    title = "The body is not valid JSON"


def parse_body(raw: bytes) -> dict[str, Any]:
    """Return the object of a body; raises InvalidJson and InvalidRequest."""
    if not raw or not raw.strip():
        return {}
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(str(error)) from None
    if not isinstance(value, dict):
        raise InvalidJson("the body must be a JSON object")
    body = cast("dict[str, Any]", value)
    if raw.count(b"{") + raw.count(b"[") > DEPTH_MAX and _is_deeper(body, DEPTH_MAX):
        raise InvalidJson(f"the body is nested deeper than {DEPTH_MAX}")
    if raw.count(b":") != len(body) and not _has_single_keys(raw, body):
        _refuse_double_keys(raw)
    if b"\\u0000" in raw and _has_nul(body):
        raise InvalidRequest("a string contains NUL", errors=[{"loc": ["body"], "msg": "strings may not contain NUL"}])
    return body


def _is_deeper(value: object, levels: int) -> bool:
    """Say whether objects and lists nest deeper than `levels`."""
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value).values()
    elif isinstance(value, list):
        entries = cast("list[object]", value)
    else:
        return False
    return levels == 0 or any(_is_deeper(entry, levels - 1) for entry in entries)


def _has_single_keys(raw: bytes, body: dict[str, Any]) -> bool:
    """Say whether it is plain that no key stands twice: then as many colons follow a quotation mark as there are keys."""
    return raw.count(b'":') == _keys(body) and not any(blank in raw for blank in (b" :", b"\n:", b"\t:", b"\r:"))


def _keys(value: object) -> int:
    """Return how many keys the objects in a value have in all."""
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return len(fields) + sum(map(_keys, fields.values()))
    return sum(map(_keys, cast("list[object]", value))) if isinstance(value, list) else 0


def _refuse_double_keys(raw: bytes) -> None:
    def check(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidJson(f"the key {key!r} stands twice")
            seen.add(key)

    json.loads(raw, object_pairs_hook=check)


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(entry) for key, entry in cast("dict[str, object]", value).items())
    if isinstance(value, list):
        return any(_has_nul(entry) for entry in cast("list[object]", value))
    return False
