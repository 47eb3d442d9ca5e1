"""`audit replay --catalog` over a whole ledger: the same catalogs change nothing, a dearer one is told by its costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from events.catalog import parse_catalog
from events.instants import Instant
from service.auditing.supposing import BEGINNING, Range, suppose
from service.in_force import in_force, read_source
from service.settings import CATALOGS
from service.store.catalogs import StoredCatalogs
from service.store.log import Log
from tests.program import credit_ledger
from tests.servers import PARTITIONS

SAME = CATALOGS / "content_platform.toml"
ALL = Range(BEGINNING, Instant("2998-01-01T00:00:00.000000Z"))


def dearer(directory: Path) -> Path:
    """The catalog with reels at 50 instead of 5."""
    file = directory / "dearer.toml"
    text = SAME.read_text(encoding="utf-8").replace('version = "2026-11-01"', 'version = "dearer"')
    head, reel, tail = text.partition("[operations.create_reel]")
    file.write_text(head + reel + tail.replace('"5"', '"50"', 1))
    return file


async def test_under_the_same_catalog_no_account_of_a_random_history_differs(log: Log) -> None:
    history = (await in_force(StoredCatalogs(log))).history
    catalog = read_source(SAME)[0]
    found = (await suppose(log, PARTITIONS, catalog, history, ALL)).view(catalog, ALL)
    assert (found["accounts_changed"], found["refused"], found["falls"], found["free"]) == (0, 0, 0, 0)
    assert found["accounts_with_commands"] == 12 and found["commands"] > 200


async def test_accounts_and_operations_add_up_to_the_same(log: Log, tmp_path: Path) -> None:
    history = (await in_force(StoredCatalogs(log))).history
    catalog = read_source(dearer(tmp_path))[0]
    found = (await suppose(log, PARTITIONS, catalog, history, ALL)).view(catalog, ALL)
    by_account = sum(each["units"]["credits"]["difference"] for each in found["accounts"] if "credits" in each["units"])
    assert by_account == sum(each["difference"] for each in found["operations"]) != 0
    assert found["refused"] == sum(found["refused_by_code"].values()) == len(found["refusals"]) > 0
    assert found["commands"] == sum(found[name] for name in ("accepted", "refused", "falls", "free", "not_rebuilt"))
    one = found["accounts"][0]["account"]
    alone = (await suppose(log, PARTITIONS, catalog, history, ALL, account=one)).view(catalog, ALL)
    assert alone["accounts"] == found["accounts"][:1]


def test_the_command_tells_people_and_programs(tmp_path: Path, audited_url: str) -> None:
    dearer(tmp_path)
    asked = ("audit", "replay", "--catalog", "dearer.toml")
    text = credit_ledger(tmp_path, *asked, DATABASE_URL=audited_url)
    assert (text.returncode, text.stderr) == (0, "") and "would be refused" in text.stdout
    view = json.loads(credit_ledger(tmp_path, *asked, "--json", "--account", "team-3", DATABASE_URL=audited_url).stdout)
    assert view["catalog"] == "dearer" and view["accounts_with_commands"] == 1
    assert parse_catalog((tmp_path / "dearer.toml").read_text()).version == "dearer"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--catalog", "none.toml"],
        ["--at", "2026-01-01T00:00:00Z"],
        ["--account", "a", "--to", "2026-01-01T00:00:00Z"],
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    ran = credit_ledger(tmp_path, "audit", "replay", *arguments)
    assert (ran.returncode, "Traceback" in ran.stderr) == (2, False)
