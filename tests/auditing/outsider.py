"""A verifier as somebody would write it from docs/reference/log-format.md alone: the standard library, and nothing of ours.

`verify` takes the lines of an export and says what is wrong with the first line that is; None when all is well.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

COUNTERS = [
    "granted",
    "returned",
    "consumed",
    "adjusted",
    "repaid",
    "rolled_over",
    "expired",
    "revoked",
    "remaining",
    "held",
]
BONUS = {"trial", "promo", "rollover", "refund_regrant", "adjustment"}
FIGURES = ["available", "reserved", "debt", "scheduled", "scoped", "bonus"]


class Wrong(Exception):
    pass


def require(condition: object, what: str) -> None:
    if not condition:
        raise Wrong(what)


def canonical(event: dict[str, Any]) -> bytes:
    return json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class Account:
    def __init__(self) -> None:
        self.grants: dict[str, dict[str, Any]] = {}
        self.debt: dict[str, int] = {}
        self.balance: dict[str, dict[str, int]] = {}

    def move(self, entries: Iterable[dict[str, Any]], **signs: int) -> None:
        for entry in entries:
            for counter, sign in signs.items():
                self.grants[entry["grant_id"]][counter] += sign * entry["amount"]

    def owe(self, unit: str, amount: int) -> None:
        self.debt[unit] = self.debt.get(unit, 0) + amount

    def take(self, event: dict[str, Any]) -> None:
        kind, data = event["kind"], event["data"]
        getattr(self, event["type"])(kind, data, event["effective_at"])
        self.move(data.get("repaid", ()), remaining=-1, repaid=+1)
        if data.get("debt_repaid"):
            self.owe(data["unit"], -data["debt_repaid"])

    def granted(self, kind: str, data: dict[str, Any], at: str) -> None:
        grant_id = data["grant_id"]
        if grant_id is None:
            self.move(data["allocation"], remaining=-1, adjusted=+1)
            self.owe(data["unit"], data.get("debt_added", 0))
        elif kind == "activated":
            self.grants[grant_id]["state"] = "active"
        elif kind in {"expired", "revoked"}:
            grant = self.grants[grant_id]
            grant["remaining"] += data["amount"]
            grant[kind] -= data["amount"]
            grant["state"] = kind if kind == "expired" else data.get("grant", grant)["state"]
        else:
            self.move(data["allocation"], remaining=-1, rolled_over=+1)
            self.grants[grant_id] = dict.fromkeys(COUNTERS, 0) | {
                "granted": data["amount"],
                "remaining": data["amount"],
                "unit": data["unit"],
                "kind": kind,
                "operations": data["operations"],
                "state": "scheduled" if data["starts_at"] > at else "active",
            }

    def reserved(self, _kind: str, data: dict[str, Any], _at: str) -> None:
        self.move(data["allocation"], remaining=-1, held=+1)

    def consumed(self, _kind: str, data: dict[str, Any], _at: str) -> None:
        for entry in data["allocation"]:
            from_hold = data["reservation_id"] is not None and not entry.get("excess")
            self.move([entry], consumed=+1, **{"held" if from_hold else "remaining": -1})
        self.owe(data["unit"], data["debt_added"])

    def refunded(self, kind: str, data: dict[str, Any], _at: str) -> None:
        if kind in {"release", "hold_expired"}:
            self.move(data["allocation"], held=-1, remaining=+1)
            return
        self.move(data["allocation"], remaining=+1, returned=+1)
        self.move(data.get("reclaimed", ()), remaining=-1, revoked=+1)
        self.owe(data["unit"], -data["debt_refunded"])

    def plan_changed(self, _kind: str, _data: dict[str, Any], _at: str) -> None:
        pass

    def check(self, event: dict[str, Any]) -> None:
        for grant_id, grant in self.grants.items():
            came = grant["granted"] + grant["returned"]
            went = sum(grant[name] for name in COUNTERS[2:])
            require(
                came == went and grant["remaining"] >= 0 and grant["held"] >= 0, f"grant {grant_id} does not add up"
            )
        require(set(self.balance) <= set(event["balance"]) == set(event["delta"]), "a unit is missing")
        for unit, balance in event["balance"].items():
            before = self.balance.get(unit, dict.fromkeys(FIGURES, 0))
            require(
                all(before[name] + event["delta"][unit][name] == balance[name] for name in FIGURES),
                "the delta is wrong",
            )
            require(balance == self.figures(unit), "the balance is not the sum of the grants")
            require(not balance["debt"] or not balance["available"], "there is debt beside credits")
        self.balance = event["balance"]

    def figures(self, unit: str) -> dict[str, int]:
        sums = dict.fromkeys(FIGURES, 0) | {"debt": self.debt.get(unit, 0)}
        for grant in self.grants.values():
            if grant["unit"] != unit:
                continue
            sums["reserved"] += grant["held"]
            if grant["state"] == "scheduled":
                sums["scheduled"] += grant["remaining"]
            elif grant["state"] == "active":
                sums["available" if grant["operations"] is None else "scoped"] += grant["remaining"]
                if grant["operations"] is None and grant["kind"] in BONUS:
                    sums["bonus"] += grant["remaining"]
        return sums


def tree_root(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256().digest()
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    return sha256(b"\x01" + tree_root(leaves[:middle]) + tree_root(leaves[middle:])).digest()


def leaf(line: bytes) -> bytes:
    return sha256(b"\x00" + line).digest()


def verify(lines: Iterable[bytes], checkpoint: str | None = None) -> str | None:
    """Say what is wrong with the first line that is, or with the log as a whole."""
    partitions: dict[int, list[bytes]] = {}
    accounts: dict[str, Account] = {}
    clocks: dict[int, str] = {}
    for line in lines:
        try:
            event = json.loads(line)
            partition, position = event["partition"], event["position"]
            before = partitions.setdefault(partition, [])
            require(canonical(event) == line, "not canonical")
            require(position == len(before) + 1 and event["id"] == f"{partition}-{position}", "not at its place")
            require(
                event["prev_hash"] == (sha256(before[-1]).hexdigest() if before else "0" * 64), "the chain is broken"
            )
            require(clocks.get(partition, "") <= event["recorded_at"] >= event["effective_at"], "the clock went back")
            account = accounts.setdefault(event["account"], Account())
            account.take(event)
            account.check(event)
        except Wrong as wrong:
            return f"{wrong}: {line[:80]!r}"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"no event, or one that cannot be: {error!r}"
        clocks[partition] = event["recorded_at"]
        before.append(line)
    if checkpoint is not None:
        rows = checkpoint.split("\n\n")[0].split("\n")[5:]
        if tree_root([leaf(row.encode()) for row in rows]) != b64decode(checkpoint.split("\n")[2]):
            return "the checkpoint does not agree with itself"
        for row in rows:
            _, number, size, root = row.split(" ")
            signed = partitions.get(int(number), [])[: int(size)]
            if len(signed) < int(size) or tree_root([leaf(line) for line in signed]) != b64decode(root):
                return f"partition {number} is not what was signed"
    return None


def same_tree(first: int, second: int, old: bytes, new: bytes, proof: list[bytes]) -> bool:
    """RFC 9162, section 2.1.4.2, step by step."""
    if first == second:
        return not proof and old == new
    if not proof:
        return False
    steps = [old, *proof] if first & (first - 1) == 0 else list(proof)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = steps[0]
    for step in steps[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = sha256(b"\x01" + step + fr).digest(), sha256(b"\x01" + step + sr).digest()
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = sha256(b"\x01" + sr + step).digest()
        fn, sn = fn >> 1, sn >> 1
    return (fr, sr, sn) == (old, new, 0)


def grew(proof: dict[str, Any]) -> str | None:
    """Say what is wrong with an answer of GET /v1/proofs/consistency, whose notes are believed; None when nothing is."""
    rows = [proof[note].split("\n\n")[0].split("\n") for note in ("first", "second")]
    if rows[0][:2] != rows[1][:2]:
        return "the notes are of two ledgers"
    for each in proof["partitions"]:
        (_, _, first, old), (_, _, second, new) = (note[5 + each["partition"]].split(" ") for note in rows)
        steps = [b64decode(step) for step in each["proof"]]
        if int(first) and not same_tree(int(first), int(second), b64decode(old), b64decode(new), steps):
            return f"partition {each['partition']} did not only grow"
    return None if len(proof["partitions"]) == int(rows[0][1]) else "a partition is missing"
