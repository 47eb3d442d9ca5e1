"""Laws of signed checkpoints: what they say is so, nobody else can say it, and an older past is noticed."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from events.instants import Instant
from events.merkle import leaf_hash, root_of, verify_consistency, verify_inclusion
from service.app import running
from service.auditing.trusted import read_checkpoints
from service.checkpoints.checkpointer import Checkpointer
from service.checkpoints.directory import last_of_directory
from service.checkpoints.keys import InvalidKey, PublicKey, SigningKey, write_key
from service.checkpoints.note import Checkpoint, InvalidNote, Tree, parse_notes
from service.checkpoints.trees import Trees
from service.settings import CATALOGS, Settings
from service.store.checkpoints import StoredCheckpoints
from service.store.feed import Feed
from service.store.log import Log
from tests.program import credit_ledger
from tests.servers import PARTITIONS, eventually

KEY = SigningKey("tests", bytes(range(32)))
AT = Instant("2026-11-01T09:30:00.000000Z")
MANY = 600
"""Events of one account: more than two subtrees of 256 lines."""


@asynccontextmanager
async def served(database_url: str, folder: Path) -> AsyncGenerator[aiohttp.ClientSession]:
    """A ledger that signs, with its HTTP."""
    key = folder / "signing.key"
    if not key.exists():
        write_key(key, KEY)
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic makes a secret of it
        catalog=CATALOGS / "content_platform.toml",
        auth="off",
        http_port=0,
        signing_key_file=key,
        checkpoint_dir=folder / "checkpoints",
    )
    async with running(settings) as ledger, aiohttp.ClientSession(ledger.url) as session:
        yield session


async def spend(session: aiohttp.ClientSession, account: str, times: int) -> list[str]:
    """Consume so often; returns the ids of the events."""
    await put(session, f"/v1/accounts/{account}/plan", {"plan": "agency"})
    commands = [
        {"command": "consume", "account": account, "idempotency_key": str(n), "amount": 1} for n in range(times)
    ]
    async with session.post("/v1/commands", json={"commands": commands}) as answer:
        results = (await answer.json())["results"]
    return [result["events"][0]["id"] for result in results]


async def put(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> int:
    async with session.put(path, json=body, headers={"Idempotency-Key": path}) as answer:
        return answer.status


async def get(session: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with session.get(path) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def lines_of(log: Log, partition: int) -> list[bytes]:
    return [stored.line for stored in await log.lines_from(partition, 1, 10_000)]


class TestNotes:
    def checkpoint(self) -> Checkpoint:
        trees = tuple(Tree(n, leaf_hash(b"%d" % n)) for n in range(3))
        return Checkpoint("credit-ledger/x", 7, AT, trees).signed([KEY])

    def test_the_published_note_is_verified_and_signed_alike(self) -> None:
        """The example of golang.org/x/mod/sumdb/note, where the format of signed notes comes from."""
        text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
        line = (
            "\N{EM DASH} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6"
            "RyyBwJnAM="
        )
        key = PublicKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
        assert key.verifies(text, [line])
        assert not key.verifies(text + " ", [line])
        secret = SigningKey.parse("PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")
        assert (secret.public, secret.sign(text)) == (key, line)

    def test_a_note_is_read_as_it_was_written(self) -> None:
        checkpoint = self.checkpoint()
        assert list(parse_notes(checkpoint.note())) == [checkpoint]
        assert list(parse_notes(f"{checkpoint.note()}\n{checkpoint.note()}\n")) == [checkpoint] * 2
        assert checkpoint.is_signed_by([KEY.public])
        assert SigningKey.parse(KEY.secret()).public == PublicKey.parse(str(KEY.public)) == KEY.public

    def test_only_the_key_signs(self) -> None:
        other = SigningKey.create("tests").public
        assert not self.checkpoint().is_signed_by([other])
        assert self.checkpoint().is_signed_by([other, KEY.public])
        moved = self.checkpoint()._replace(number=8)
        assert not moved.is_signed_by([KEY.public])

    def test_while_a_key_is_changed_both_sign(self) -> None:
        new = SigningKey.create("new")
        checkpoint = self.checkpoint().signed([KEY, new])
        read = next(parse_notes(checkpoint.note()))
        assert read.is_signed_by([KEY.public])
        assert read.is_signed_by([new.public])

    def test_whatever_is_changed_in_a_note_is_noticed(self) -> None:
        note = self.checkpoint().note()
        for place in range(len(note)):
            wrong = note[:place] + chr(ord(note[place]) ^ 1) + note[place + 1 :]
            try:
                found = next(parse_notes(wrong))
            except InvalidNote:
                continue
            assert found.text() == self.checkpoint().text() or not found.is_signed_by([KEY.public])
            assert found != self.checkpoint()

    @pytest.mark.parametrize("text", ["", "x", "PRIVATE+KEY+a+00000000+AA==", "PRIVATE+KEY+a", str(KEY.public)])
    def test_what_is_no_key_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidKey):
            SigningKey.parse(text)


async def test_outsiders_can_check_every_event_of_a_running_ledger(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path) as session:
        await get(session, "/v1/checkpoints/latest", 404)
        ids = await spend(session, "team-1", MANY)
        keys = await get(session, "/v1/checkpoints/key")
        assert keys["keys"] == [str(KEY.public)]
        for event in (ids[0], ids[255], ids[256], ids[-1]):
            proof = await get(session, f"/v1/proofs/inclusion?event={event}")
            assert leaf_hash(proof["line"].encode()) == b64decode(proof["leaf_hash"])
            steps = [b64decode(step) for step in proof["proof"]]
            leaf, root = b64decode(proof["leaf_hash"]), b64decode(proof["root"])
            assert verify_inclusion(proof["leaf_index"], proof["tree_size"], leaf, steps, root)
            checkpoint = next(parse_notes(proof["checkpoint"]))
            assert checkpoint.is_signed_by([KEY.public])
            assert checkpoint.trees[proof["partition"]] == (proof["tree_size"], root)
        latest = await get(session, "/v1/checkpoints/latest")
        assert (latest["origin"], latest["events"] >= MANY) == (keys["origin"], True)
        kept = last_of_directory(tmp_path / "checkpoints")
        assert kept is not None
        assert kept.number <= latest["number"]
        await get(session, "/v1/proofs/inclusion?event=0-99999", 404)
        await get(session, "/v1/proofs/inclusion", 422)
        assert "such as 3-17" in (await get(session, "/v1/proofs/inclusion?event=x", 422))["detail"]


async def test_a_tree_goes_on_after_a_restart_and_grew_consistently(database_url: str, tmp_path: Path) -> None:
    log = await Log.connect(database_url, connections=2)
    for account in ("team-1", "team-1-b"):
        async with served(database_url, tmp_path) as session:
            event = (await spend(session, account, MANY if account == "team-1" else 3))[-1]
            proof = await get(session, f"/v1/proofs/inclusion?event={event}")
            for partition, tree in enumerate(next(parse_notes(proof["checkpoint"])).trees):
                lines = await lines_of(log, partition)
                assert tree.root == root_of(map(leaf_hash, lines[: tree.size]))
    trees = Trees(StoredCheckpoints(log))
    async with log.connection() as connection:
        stored = await connection.fetch("select partition, level, number, root from ledger.subtrees order by number")
    assert [(row["level"], row["number"]) for row in stored] == [(8, 0), (8, 1)]
    partition = stored[0]["partition"]
    lines = await lines_of(log, partition)
    for first, second in ((1, 300), (256, 512), (299, len(lines))):
        steps = await trees.consistency(partition, first, second)
        old, new = (root_of(map(leaf_hash, lines[:size])) for size in (first, second))
        assert verify_consistency(first, second, old, new, steps)
    await log.close()


async def test_a_restored_old_backup_is_noticed_and_takes_no_commands(
    postgres_url: str, database_url: str, tmp_path: Path
) -> None:
    async with served(database_url, tmp_path) as session:
        await spend(session, "team-1", 5)
        await eventually(
            lambda: last_of_directory(tmp_path / "checkpoints") is not None, "a checkpoint is in the directory"
        )
        kept = last_of_directory(tmp_path / "checkpoints")
    assert kept is not None
    connection = await asyncpg.connect(database_url)
    await connection.execute("alter table ledger.events disable trigger append_only")
    await connection.execute("alter table ledger.checkpoints disable trigger kept")
    await connection.execute("delete from ledger.events where position > 2")
    await connection.execute("delete from ledger.checkpoints")
    await connection.execute(
        "update ledger.heads h set position = e.position, hash = e.hash from ledger.events e "
        "where e.partition = h.partition and e.position = 2"
    )
    await connection.close()
    async with served(database_url, tmp_path) as session:
        ready = await get(session, "/readyz")
        assert "history_rolled_back" in ready["alarms"]["history"]
        async with session.post(
            "/v1/accounts/team-1/consumptions", json={"amount": 1}, headers={"Idempotency-Key": "k"}
        ) as answer:
            problem = await answer.json()
        assert (answer.status, problem["code"]) == (503, "unavailable")
        assert "old backup" in problem["detail"]
        assert (await get(session, "/v1/accounts/team-1/balance"))["account"] == "team-1", "reads go on"
        assert await put(session, "/v1/accounts/another-team/plan", {"plan": "pro"}) in {201, 503}


async def test_a_checkpoint_that_a_backup_just_missed_is_taken_over(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path) as session:
        event = (await spend(session, "team-1", MANY))[-1]
        await get(session, f"/v1/proofs/inclusion?event={event}")
        last = await get(session, "/v1/checkpoints/latest")
        directory = tmp_path / "checkpoints"

        def is_kept() -> bool:
            kept = last_of_directory(directory)
            return kept is not None and kept.number == last["number"]

        await eventually(is_kept, "the checkpoint is in the directory")
    connection = await asyncpg.connect(database_url)
    await connection.execute("alter table ledger.checkpoints disable trigger kept")
    await connection.execute("delete from ledger.checkpoints where number = $1", last["number"])
    await connection.close()
    async with served(database_url, tmp_path) as session:
        assert await get(session, "/v1/checkpoints/latest") == last
        assert "history" not in (await get(session, "/readyz")).get("alarms", {})
        event = (await spend(session, "team-2", 1))[-1]
        await get(session, f"/v1/proofs/inclusion?event={event}")
        assert (await get(session, "/v1/checkpoints/latest"))["number"] > last["number"]
        kept_notes = [note for file in directory.iterdir() for note in read_checkpoints(file)]
    numbers = [note.number for note in kept_notes]
    assert numbers == list(range(1, len(numbers) + 1)), "each once, none missing"


async def test_a_rewritten_log_is_noticed_at_the_start(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path) as session:
        event = (await spend(session, "team-1", 5))[-1]
        await get(session, f"/v1/proofs/inclusion?event={event}")
    connection = await asyncpg.connect(database_url)
    await connection.execute("alter table ledger.events disable trigger append_only")
    await connection.execute("update ledger.events set line = line || ' '::bytea where position = 3")
    await connection.close()
    log = await Log.connect(database_url, connections=2)
    ledger_id, _ = await log.identity()
    held: list[int] = []
    checkpointer = Checkpointer(
        ledger_id=ledger_id,
        partitions=PARTITIONS,
        feed=Feed(log, PARTITIONS),
        stored=StoredCheckpoints(log),
        keys=[KEY],
        clock=lambda: AT,
        hold_back=lambda partition, _reason: held.append(partition),
    )
    await checkpointer.begin()
    assert held == [int(event.split("-")[0])]
    assert "rewritten" in checkpointer.alarms[held[0]]
    await log.close()


async def test_without_a_key_nothing_is_signed(database_url: str) -> None:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic makes a secret of it
        catalog=CATALOGS / "content_platform.toml",
        auth="off",
        http_port=0,
    )
    async with running(settings) as ledger, aiohttp.ClientSession(ledger.url) as session:
        problem = await get(session, "/v1/checkpoints/latest", 404)
        assert "LEDGER_SIGNING_KEY_FILE" in problem["detail"]


async def test_a_kept_checkpoint_proves_an_export(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path) as session:
        event = (await spend(session, "team-1", 5))[-1]
        kept = await get(session, f"/v1/proofs/inclusion?event={event}")
    (tmp_path / "kept").write_text(kept["checkpoint"])
    assert credit_ledger(tmp_path, "audit", "export", "log", DATABASE_URL=database_url).returncode == 0
    verify = ("audit", "verify", "--from-file", "log", "--checkpoint", "kept", "--json")
    good = credit_ledger(tmp_path, *verify, "--key", str(KEY.public))
    assert (good.returncode, good.stderr) == (0, "")
    forged = credit_ledger(tmp_path, *verify, "--key", str(SigningKey.create("tests").public))
    assert (forged.returncode, json.loads(forged.stdout)["fault"]["code"]) == (1, "wrong_signature")
    lines = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    (tmp_path / "log").write_bytes(b"".join(lines[:-1]))
    cut = credit_ledger(tmp_path, *verify)
    assert (cut.returncode, json.loads(cut.stdout)["fault"]["code"]) == (1, "rolled_back")
    assert "were not checked" in cut.stderr


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    made = credit_ledger(tmp_path, "key", "create", "signing.key", "--name", "ledger.example")
    assert made.returncode == 0
    assert PublicKey.parse(made.stdout).name == "ledger.example"
    assert (tmp_path / "signing.key").stat().st_mode & 0o777 == 0o600
    assert credit_ledger(tmp_path, "key", "show", "signing.key").stdout == made.stdout
    again = credit_ledger(tmp_path, "key", "create", "signing.key")
    assert (again.returncode, "never overwritten" in again.stderr) == (1, True)
