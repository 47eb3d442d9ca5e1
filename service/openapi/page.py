"""The OpenAPI document as a page for people: plain HTML made once, without a script and without anything from elsewhere."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from html import escape
from typing import Any

from service.openapi.document import document

Schema = dict[str, Any]
_STYLE = """
:root{color-scheme:light dark;--line:#8884;--faint:#8881}
body{font:16px/1.5 system-ui,sans-serif;max-width:68rem;margin:0 auto;padding:1rem 1.5rem}
code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:var(--faint);padding:.75rem;overflow:auto;max-height:26rem}
details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0;padding:0 .75rem}
summary{cursor:pointer;padding:.5rem 0}
summary b{display:inline-block;min-width:3.5rem}
summary span{color:#777}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{border-top:1px solid var(--line);padding:.3rem .6rem .3rem 0;text-align:left;vertical-align:top}
th{font-weight:600}
nav a{margin-right:1rem}
"""
POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: its own style, and nothing else."""


@lru_cache(maxsize=1)
def page() -> str:
    """Return the page."""
    told: Schema = json.loads(document())
    return "".join(_page(told))


def _page(told: Schema) -> Iterator[str]:
    info = told["info"]
    yield "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    yield f"<title>{escape(info['title'])}</title><style>{_STYLE}</style><h1>{escape(info['title'])}</h1>"
    yield "".join(f"<p>{_text(part)}</p>" for part in info["description"].split("\n\n"))
    yield "<p>The same for programs: <a href='openapi.json'>openapi.json</a>; for NATS <a href='asyncapi.json'>asyncapi.json</a>.</p>"
    yield "<nav>" + "".join(f"<a href='#{tag['name']}'>{tag['name']}</a>" for tag in told["tags"])
    yield "<a href='#schemas'>schemas</a></nav>"
    for tag in told["tags"]:
        yield f"<h2 id='{tag['name']}'>{tag['name']}</h2><p>{_text(tag['description'])}</p>"
        for path, methods in told["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield from _operation(told, path, method, operation)
    yield "<h2 id=schemas>Schemas</h2>"
    for name, schema in told["components"]["schemas"].items():
        yield f"<details id='schema-{escape(name)}'><summary><code>{escape(name)}</code></summary>"
        yield f"<p>{_text(schema.get('description', ''))}</p>{''.join(_fields(schema))}</details>"


def _operation(told: Schema, path: str, method: str, operation: Schema) -> Iterator[str]:
    yield f"<details id='{escape(operation['operationId'])}'><summary><b>{method.upper()}</b> <code>{escape(path)}</code>"
    yield f" <span>{_text(operation['summary'])}</span></summary><p>{_text(operation.get('description', ''))}</p>"
    if operation["parameters"]:
        yield "<table><tr><th>parameter<th>in<th>type<th>"
        for each in operation["parameters"]:
            required = " (required)" if each.get("required") else ""
            yield f"<tr><td><code>{escape(each['name'])}</code><td>{each['in']}<td>{_type(each['schema'])}"
            yield f"<td>{_text(each['description'])}{required}"
        yield "</table>"
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body <code>{escape(kind)}</code>: {_type(content['schema'])}</p>"
        yield _example(told, content)
    yield "<table><tr><th>status<th>answer<th>"
    for status, response in operation["responses"].items():
        if "$ref" in response:
            response = told["components"]["responses"][response["$ref"].rpartition("/")[2]]  # noqa: PLW2901 - the same
        yield f"<tr><td>{status}<td>"
        for kind, content in response.get("content", {}).items():
            shown = "" if "problem" in kind else _type(content["schema"])
            yield f"<code>{escape(kind)}</code> {shown}<br>"
        yield f"<td>{'<br>'.join(_text(line.removeprefix('- ')) for line in response['description'].splitlines())}"
        yield from (f"<br>Header <code>{escape(name)}</code>" for name in response.get("headers", {}))
    yield "</table>"
    first = next(iter(operation["responses"].values()))
    for content in first.get("content", {}).values():
        yield _example(told, content)
    yield "</details>"


def _example(told: Schema, content: Schema) -> str:
    value = content.get("example")
    for each in content.get("examples", {}).values():
        value = told["components"]["examples"][each["$ref"].rpartition("/")[2]]["value"]
    return "" if value is None else f"<pre>{escape(json.dumps(value, indent=2))}</pre>"


def _fields(schema: Schema) -> Iterator[str]:
    if not schema.get("properties"):
        yield f"<p>{_type(schema)}</p>"
        return
    required = schema.get("required", ())
    yield "<table><tr><th>field<th>type<th>"
    for name, field in schema["properties"].items():
        yield f"<tr><td><code>{escape(name)}</code><td>{_type(field)}<td>{'' if name in required else 'optional'}"
        yield f" {_text(field.get('description', ''))}"
    yield "</table>"


def _type(schema: Schema) -> str:
    """Return a schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#schema-{name}'>{name}</a>"
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema and "type" not in schema:
            return " or ".join(_type(option) for option in schema[name])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema['items'])}" if isinstance(schema.get("items"), dict) else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    bounds = [
        f"{word} {schema[name]}"
        for name, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"), ("default", "default"))
        if name in schema
    ]
    return escape(", ".join([schema.get("format", kind), *bounds]))


def _text(text: str) -> str:
    """Return prose, in which what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
