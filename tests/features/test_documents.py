"""The documents tell the truth: generated pages are up to date, links lead somewhere, every command runs as written."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from pathlib import Path

import orjson
import pytest

from tests.features.conftest import Service

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path) -> str:
    """The shell blocks of a page that make requests, as one script."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return "\n".join(block for block in blocks if "curl " in block)


WITH_REQUESTS = [page for page in PAGES if commands(page)]


@pytest.mark.parametrize("page", WITH_REQUESTS, ids=lambda page: page.name)
async def test_every_request_in_the_documents_runs_as_written(content_platform: Service, page: Path) -> None:
    port = content_platform.url.rpartition(":")[2]
    script = "set -e\nuuidgen() { cat /proc/sys/kernel/random/uuid; }\n"
    script += commands(page).replace("localhost:8080", f"127.0.0.1:{port}")
    shell = await asyncio.create_subprocess_exec(
        "bash", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await shell.communicate()
    assert shell.returncode == 0, err.decode()
    answers = [orjson.loads(line) for line in out.replace(b"}{", b"}\n{").splitlines() if line.startswith(b"{")]
    refused = [answer for answer in answers if "code" in answer]
    assert not refused
    assert out


def test_the_reference_says_what_the_code_says() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.outdated() == [], "run .venv/bin/python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []
