"""The OpenAPI document as a judge: what a service answers must be told there, nothing missing and nothing untold."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs

from service.http.router import Router
from service.openapi.document import document

Json = Any


def closed(value: Json) -> Json:
    """The same schemas, in which an answer may have no field that is not told; the document leaves them open, so that
    fields can be added."""
    if isinstance(value, list):
        return [closed(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    found = {name: closed(entry) for name, entry in value.items()}
    if value.get("type") == "object" and "properties" in value:
        found.setdefault("additionalProperties", False)
    return found


class Documented:
    """The document, and whether something passes it."""

    def __init__(self) -> None:
        self.whole: Json = json.loads(document())
        schemas = closed(self.whole["components"]["schemas"])
        schemas["Problem"]["additionalProperties"] = schemas["BatchResult"]["additionalProperties"] = True
        self._root = {"schemas": schemas}
        self._validators: dict[str, Any] = {}
        self._router: Router[tuple[str, str]] = Router()
        for path, methods in self.whole["paths"].items():
            for method in methods:
                self._router.add(method.upper(), path, (path, method))

    def errors(self, schema: Json, value: Json) -> list[str]:
        """What is wrong with a value."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            self._validators[key] = jsonschema_rs.Draft202012Validator({**schema, "components": self._root})
        return [f"{'/'.join(map(str, e.instance_path))}: {e.message}" for e in self._validators[key].iter_errors(value)]

    def resolved(self, response: Json) -> Json:
        """A response of an operation, wherever it stands."""
        if "$ref" in response:
            return self.whole["components"]["responses"][response["$ref"].rpartition("/")[2]]
        return response

    def judge(self, method: str, path: str, status: int, content_type: str, body: bytes) -> list[str]:
        """What an answer has that the document does not tell."""
        found = self._router.find(path)
        assert found is not None, path
        if status == 405:
            return []
        template, name = found[0].targets[method]
        responses = self.whole["paths"][template][name]["responses"]
        if str(status) not in responses:
            return [f"{method} {path}: the status {status} is not told: {body[:300]!r}"]
        contents = self.resolved(responses[str(status)]).get("content", {})
        kind = content_type.partition(";")[0]
        if not contents and not body:
            return []
        if kind not in contents:
            return [f"{method} {path}: {kind} is not told of {status}"]
        if not kind.endswith("json") or kind.endswith("ndjson"):
            return []
        value = json.loads(body)
        wrong = self.errors(contents[kind]["schema"], value)
        return [f"{method} {path} {status}: {each} in {body[:600]!r}" for each in wrong]
