"""Laws of consistency: a later checkpoint is proven to begin with an earlier one, without the log, and nothing else is."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from events.merkle import verify_consistency
from events.partition import partition_of
from service.checkpoints.checking import NotProven, check_proof
from service.checkpoints.keys import SigningKey
from service.checkpoints.note import parse_notes
from tests.auditing.outsider import grew
from tests.auditing.test_checkpoints import KEY, get, served, spend
from tests.program import credit_ledger
from tests.servers import PARTITIONS, clone_template

KEYS = [KEY.public]
OTHER = SigningKey("tests", bytes(32))


class Grown(NamedTuple):
    """A ledger that signed a checkpoint, grew, and signed another one."""

    session: aiohttp.ClientSession
    first: dict[str, Any]
    second: dict[str, Any]
    events: list[str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grown(postgres_url: str, _template: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Grown]:
    async with served(await clone_template(postgres_url), tmp_path_factory.mktemp("grown")) as session:
        events = await spend(session, "team-1", 30)
        await get(session, f"/v1/proofs/inclusion?event={events[-1]}")
        first = await get(session, "/v1/checkpoints/latest")
        home = partition_of("team-1", PARTITIONS)
        beside = next(f"beside-{n}" for n in range(1000) if partition_of(f"beside-{n}", PARTITIONS) == home)
        for account in ("team-2", "team-3", beside):
            events = await spend(session, account, 300)
        await get(session, f"/v1/proofs/inclusion?event={events[-1]}")
        yield Grown(session, first, await get(session, "/v1/checkpoints/latest"), events)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_later_checkpoint_begins_with_an_earlier_one(grown: Grown, tmp_path: Path) -> None:
    first, second = grown.first["number"], grown.second["number"]
    proof = await get(grown.session, f"/v1/proofs/consistency?from={first}&to={second}")
    assert [proof["first"], proof["second"]] == [grown.first["note"], grown.second["note"]]
    assert f"checkpoint {second} of" in check_proof(proof, KEYS)
    assert grew(proof) is None, "as somebody checks it who has read the page only"
    assert check_proof(await get(grown.session, f"/v1/proofs/consistency?from={first}"), KEYS)
    assert check_proof(await get(grown.session, f"/v1/proofs/consistency?from={first}&to={first}"), KEYS)
    kept = list(parse_notes(grown.first["note"]))
    assert check_proof(proof, [], kept)
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    ran = credit_ledger(tmp_path, "audit", "proof", "proof.json", "--key", str(KEY.public))
    assert (ran.returncode, ran.stdout.startswith("proven: checkpoint"), ran.stderr) == (0, True, "")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_partition_grew_from_any_size_to_any_other(grown: Grown) -> None:
    partition = int(grown.events[0].split("-")[0])
    signed = grown.second["partitions"][partition]["size"]
    for old, new in ((0, 1), (1, 1), (1, signed), (7, 300), (256, signed), (signed, signed)):
        view = await get(grown.session, f"/v1/proofs/consistency?partition={partition}&from={old}&to={new}")
        roots = [b64decode(view[name]) for name in ("first_root", "second_root")]
        steps = [b64decode(step) for step in view["proof"]]
        assert verify_consistency(old, new, roots[0], roots[1], steps) == (old > 0)
    assert view["second_root"] == grown.second["partitions"][partition]["root"]
    for wrong in ("from=1", f"from=1&to={signed + 1}", f"from={signed + 1}", "from=x", "to=1", "from=1&partition=99"):
        place = "" if "partition" in wrong else f"partition={partition}&"
        status = 200 if wrong == "from=1" else 422
        await get(grown.session, f"/v1/proofs/consistency?{place}{wrong}", status)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_checkpoint_is_found_by_its_number(grown: Grown) -> None:
    number = grown.first["number"]
    assert await get(grown.session, f"/v1/checkpoints/{number}") == grown.first
    for path in ("/v1/checkpoints/0", "/v1/checkpoints/99999", "/v1/proofs/consistency?from=99999"):
        assert (await get(grown.session, path, 404))["code"] == "not_found"
    for path in ("/v1/checkpoints/x", "/v1/checkpoints/1?x=1", "/v1/proofs/consistency"):
        await get(grown.session, path, 422)
    later, earlier = grown.second["number"], number
    await get(grown.session, f"/v1/proofs/consistency?from={later}&to={earlier}", 422)


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_else_is_proven(grown: Grown) -> None:
    proof = await get(grown.session, f"/v1/proofs/consistency?from={grown.first['number']}")
    rewritten = next(parse_notes(proof["second"]))
    trees = tuple(tree._replace(root=bytes(32)) for tree in rewritten.trees)
    forged = rewritten._replace(trees=trees).signed([KEY]).note()
    shrunk = rewritten._replace(trees=tuple(tree._replace(size=0) for tree in rewritten.trees)).signed([KEY]).note()
    wrong: list[Any] = [
        *({**proof, "second": note} for note in (forged, shrunk, rewritten.signed([OTHER]).note(), "x")),
        {**proof, "first": proof["second"], "second": proof["first"]},
        {**proof, "partitions": [{**each, "proof": each["proof"][1:]} for each in proof["partitions"]]},
        {**proof, "partitions": []},
        {"first": None},
        {},
        [],
        None,
    ]
    inclusion = await get(grown.session, f"/v1/proofs/inclusion?event={grown.events[5]}")
    assert grown.events[5] in check_proof(inclusion, KEYS)
    line = inclusion["line"].replace('"charged":1', '"charged":2')
    wrong += [{**inclusion, "line": line}, {**inclusion, "event": grown.events[4]}, {**inclusion, "proof": []}]
    for each in wrong:
        with pytest.raises(NotProven):
            check_proof(each, KEYS)
    short = {**proof, "partitions": [{**each, "proof": each["proof"][:-1]} for each in proof["partitions"]]}
    others = [{**proof, "second": forged}, {**proof, "partitions": proof["partitions"][1:]}, short]
    assert None not in [grew(other) for other in others]
    for kept in ([], [rewritten]):
        with pytest.raises(NotProven, match="kept"):
            check_proof(proof, [], kept)


@pytest.mark.asyncio(loop_scope="module")
async def test_whatever_is_changed_in_a_proof_is_noticed(grown: Grown) -> None:
    """Each value of a proof follows from its line and its checkpoints, also what is said for convenience only."""
    number, event = grown.first["number"], grown.events[5]
    for path in (f"/v1/proofs/consistency?from={number}", f"/v1/proofs/inclusion?event={event}"):
        text = json.dumps(await get(grown.session, path))
        for place in range(0, len(text), 5):
            changed = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
            try:
                proof = json.loads(changed)
            except ValueError:
                continue
            with pytest.raises(NotProven):
                check_proof(proof, KEYS)
