"""Thousands of requests made from the OpenAPI document, right and wrong ones: no failure of ours, nothing untold.

Answers are held against the document as it is published; accounts are opened before, so that requests come to something.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from service.openapi.document import document
from tests.features.conftest import Service

EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "60")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,unsupported_method"
)
ENDLESS = "/v1/events"
"""With `follow` it never ends, which a caller that waits for the end cannot judge; tests/http has its own laws."""


KNOWN = {"account": ["team-42", "team-43"], "reservation_id": ["r1"], "consumption_id": ["c1"], "grant_id": ["g1"]}


def _as_it_is_here(whole: Any) -> Any:
    """The document for a service that asks for no tokens, with ids that meet each other.

    A token of what is not written yet is rightly 503, and a dry run rightly needs no key, which would be called failures.
    """
    del whole["components"]["securitySchemes"]
    for methods in whole["paths"].values():
        for operation in methods.values():
            del operation["security"]
            operation["parameters"] = [each for each in operation["parameters"] if each["name"] != "min_token"]
            for parameter in operation["parameters"]:
                if parameter["name"] in KNOWN and parameter["in"] == "path":
                    parameter["schema"] = {"enum": [*KNOWN[parameter["name"]], "unknown"]}
                if parameter["name"] == "Idempotency-Key":
                    parameter["required"] = False
                    parameter["schema"] = {"type": "string"}
    return whole


@pytest.mark.soak
async def test_no_request_leads_to_what_is_not_told(asset_studio: Service, tmp_path: Path) -> None:
    told = tmp_path / "openapi.json"
    told.write_text(json.dumps(_as_it_is_here(json.loads(document()))), encoding="utf-8")
    program = Path(sys.executable).with_name("schemathesis")
    process = await asyncio.create_subprocess_exec(
        *(program, "run", told, "--url", asset_studio.url, "--checks", CHECKS, "--max-examples", EXAMPLES),
        *("--exclude-path", ENDLESS, "--phases", "examples,coverage,fuzzing", "--workers", "1"),
        *("--seed", "1", "--no-color", "--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-20_000:]
