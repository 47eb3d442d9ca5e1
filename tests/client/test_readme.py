"""The client's README tells the truth: its examples run as written, one after the other, against the service."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tests.features.conftest import Service

ROOT = Path(__file__).parents[2]
README = ROOT / "client" / "README.md"
HOW_TO = ROOT / "docs" / "how-to" / "gate-an-endpoint.md"


def blocks_of(page: Path) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


async def run(blocks: list[str], page: Path, service: Service) -> None:
    """Run the blocks in one namespace, as `python -m asyncio` does."""
    namespace: dict[str, Any] = {}
    for block in blocks:
        text = block.replace("nats://127.0.0.1:4222", service.nats_url).replace("http://127.0.0.1:8080", service.url)
        text = text.replace('caller="studio"', f'caller="studio", prefix="{service.prefix}"')
        code = compile(text, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        pending = eval(code, namespace)  # noqa: S307 - the project's own page
        if inspect.isawaitable(pending):
            await pending


@pytest.mark.parametrize("page", [README, HOW_TO], ids=lambda page: page.name)
async def test_every_example_runs_as_written(studio: Service, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = blocks_of(page)
    assert len(blocks) > 1
    await run(blocks, page, studio)


def test_links_lead_to_files_that_exist() -> None:
    links = re.findall(r"\]\(([^)#\s]+)", README.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (README.parent / link).exists()] == []
