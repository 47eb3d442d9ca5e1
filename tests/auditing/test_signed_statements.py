"""Laws of signed statements: a customer's script, as the page has it, proves good ones and no others."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import AsyncGenerator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from service.checkpoints.keys import SigningKey
from tests.auditing.test_checkpoints import KEY, get, put, served
from tests.servers import clone_template

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "verify-a-statement.md"
SCRIPT = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[0]
FROM = "2026-01-01T00:00:00Z"
OTHER = SigningKey("tests", bytes(32))
Pages = list[dict[str, Any]]


def verified(folder: Path, *pages: dict[str, Any], key: SigningKey = KEY) -> tuple[int, str]:
    """What the script says of a statement, in a process of its own: its exit code and its words."""
    script = folder / "verify_statement.py"
    script.write_text(SCRIPT)
    files = [folder / f"page-{number}.json" for number in range(len(pages))]
    for file, page in zip(files, pages, strict=True):
        file.write_text(json.dumps(page))
    ran = subprocess.run(
        [sys.executable, "-I", script, str(key.public), *files], capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


def signed_anew(page: dict[str, Any], key: SigningKey) -> dict[str, Any]:
    """The page as whoever has this key would sign it."""
    body = {name: value for name, value in page.items() if name != "note"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    origin = page["checkpoint"].split("\n")[0]
    text = f"{origin}/statement\naccount {page['account']}\nsha256 {sha256(canonical.encode()).hexdigest()}\n"
    return {**body, "note": f"{text}\n{key.sign(text)}\n"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(
    postgres_url: str, _template: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[aiohttp.ClientSession]:
    """A ledger that signs, with an account in which some things happened, among those of others."""
    async with served(await clone_template(postgres_url), tmp_path_factory.mktemp("signing")) as session:
        for account in ("team-1", "team-2", "team-3"):
            assert await put(session, f"/v1/accounts/{account}/plan", {"plan": "starter"}) == 201
        for number in range(6):
            for account in ("team-1", "team-2", "team-3"):
                path = f"/v1/accounts/{account}"
                body = {
                    "operation": "create_reel",
                    "reservation_id": f"r{number}",
                    "reference": "caf\u00e9 \u0007\u2028",
                }
                await post(session, f"{path}/reservations", body)
                await post(session, f"{path}/reservations/r{number}/consume", {"amount": 3})
        await post(session, "/v1/accounts/team-1/consumptions/r0/refund", {"reason": "it was not sent"})
        await post(session, "/v1/accounts/team-1/grants", {"amount": 9, "reason": '"sorry"'})
        yield session


async def post(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> None:
    async with session.post(path, json=body, headers={"Idempotency-Key": str(uuid4())}) as answer:
        assert answer.status == 201, await answer.text()


async def statement(session: aiohttp.ClientSession, **asked: str) -> dict[str, Any]:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    return await get(session, f"/v1/accounts/team-1/statement?proof=true&{query}")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_script_of_the_page_proves_what_the_ledger_answers(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    assert SCRIPT.count("\n") < 100
    whole = await statement(session)
    said = f"proven: {len(whole['movements'])} movements, {whole['closing']['available']} available\n"
    assert len(whole["movements"]) > 20
    assert verified(tmp_path, whole) == (0, said)
    rows = whole["movements"]
    number = next(number for number in range(7, len(rows)) if rows[number]["at"] != rows[number - 1]["at"])
    middle = rows[number]["at"]
    later = await statement(session, **{"from": middle})
    assert later["opening_event"]["event"] == rows[number - 1]["event"]
    assert verified(tmp_path, later)[0] == 0
    earlier = await statement(session, to=middle, **{"from": FROM})
    assert (earlier["opening_event"], verified(tmp_path, earlier)[0]) == (None, 0)


@pytest.mark.asyncio(loop_scope="module")
async def test_pages_prove_a_statement_together_and_not_alone(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    pages: Pages = [await statement(session, limit="9")]
    while (cursor := pages[-1]["next_cursor"]) is not None:
        pages.append(await statement(session, limit="9", cursor=cursor))
    assert len(pages) == 3
    assert verified(tmp_path, *pages)[0] == 0
    for some in (pages[:2], pages[1:], [pages[0], pages[2]], pages[::-1], []):
        assert verified(tmp_path, *some)[0] == 1


def _row(page: dict[str, Any]) -> dict[str, Any]:
    return next(row for row in page["movements"][4:] if row["type"] == "consumed")


def a_row_is_left_out(page: dict[str, Any]) -> None:
    page["movements"].remove(_row(page))


def a_row_stands_twice(page: dict[str, Any]) -> None:
    page["movements"].insert(5, page["movements"][4])


def rows_are_swapped(page: dict[str, Any]) -> None:
    rows = page["movements"]
    rows[4], rows[5] = rows[5], rows[4]


def an_amount_is_lower(page: dict[str, Any]) -> None:
    _row(page)["amount"] -= 1


def a_delta_and_all_balances_behind_it_are_changed(page: dict[str, Any]) -> None:
    _row(page)["delta"]["available"] += 1
    for row in page["movements"][page["movements"].index(_row(page)) :]:
        row["balance"]["available"] += 1
    page["closing"]["available"] += 1


def a_line_says_what_its_row_says(page: dict[str, Any]) -> None:
    row = _row(page)
    row["amount"] -= 1
    row["line"] = row["line"].replace(f'"charged":{row["amount"] + 1}', f'"charged":{row["amount"]}')


def the_opening_is_higher(page: dict[str, Any]) -> None:
    page["opening"]["available"] += 5


def the_closing_is_higher(page: dict[str, Any]) -> None:
    page["closing"]["available"] += 5


def a_reason_is_another_one(page: dict[str, Any]) -> None:
    page["movements"][-1]["reason"] = "as agreed"


def it_is_of_another_account(page: dict[str, Any]) -> None:
    page["account"] = "team-2"


def a_path_is_of_another_row(page: dict[str, Any]) -> None:
    page["movements"][4]["proof"] = page["movements"][5]["proof"]


def the_checkpoint_is_a_larger_one(page: dict[str, Any]) -> None:
    page["checkpoint"] = page["checkpoint"].replace("number ", "number 1")


def something_due_is_made_up(page: dict[str, Any]) -> None:
    page["movements"].append({**page["movements"][-1], "event": None, "delta": page["opening"]})
    page["movements"][-1]["balance"] = page["closing"]


TAMPERED = [
    *(a_row_is_left_out, a_row_stands_twice, rows_are_swapped, an_amount_is_lower, a_path_is_of_another_row),
    *(a_delta_and_all_balances_behind_it_are_changed, a_line_says_what_its_row_says, the_opening_is_higher),
    *(the_closing_is_higher, a_reason_is_another_one, it_is_of_another_account, the_checkpoint_is_a_larger_one),
    something_due_is_made_up,
]


@pytest.mark.asyncio(loop_scope="module")
async def test_no_statement_that_was_tampered_with_is_proven(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    whole = await statement(session)
    assert verified(tmp_path, whole, key=OTHER) == (1, "NOT PROVEN: it is not signed by this key\n")
    for tamper in TAMPERED:
        page = copy.deepcopy(whole)
        tamper(page)
        assert page != whole
        code, said = verified(tmp_path, page)
        assert (code, said.startswith("NOT PROVEN: ")) == (1, True), tamper.__name__
        if tamper is not something_due_is_made_up:  # that is all that whoever has the key can make up
            code, said = verified(tmp_path, signed_anew(page, KEY))
            assert (code, said.startswith("NOT PROVEN: ")) == (1, True), f"{tamper.__name__} by the ledger itself"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_be_proven_is_refused(session: aiohttp.ClientSession) -> None:
    await get(session, "/v1/accounts/team-1/statement?proof=maybe", 422)
    await get(session, "/v1/accounts/nobody/statement?proof=true", 404)
    plain = await get(session, "/v1/accounts/team-1/statement?proof=false")
    assert "note" not in plain
    empty = await statement(session, **{"from": FROM, "to": FROM})
    assert (empty["movements"], empty["opening_event"], "sha256" in empty["note"]) == ([], None, True)
