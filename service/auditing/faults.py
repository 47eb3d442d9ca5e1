"""What an audit can find wrong, each with a stable code (CONTRACT.md, "Audit command line")."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

Code = Literal[
    "not_an_event",
    "not_canonical",
    "out_of_place",
    "missing_events",
    "broken_chain",
    "wrong_hash",
    "wrong_columns",
    "wrong_partition",
    "wrong_time",
    "impossible",
    "wrong_balance",
    "broken_identity",
    "forged_head",
    "wrong_snapshot",
    "wrong_item",
    "wrong_projection",
    "rolled_back",
    "rewritten",
    "wrong_signature",
    "wrong_checkpoint",
    "wrong_catalog",
]
CODES: tuple[Code, ...] = get_args(Code)

MEANINGS: dict[Code, str] = {
    "not_an_event": "The line is no event of the published format.",
    "not_canonical": "The line says the same as an event, in other bytes than RFC 8785 has for it.",
    "out_of_place": "The event stands at another position than it says: it was moved, inserted or doubled.",
    "missing_events": "Events between this one and the line before it are gone.",
    "broken_chain": "The hash of a line is not the `prev_hash` of the next: one of the two was changed.",
    "wrong_hash": "The stored hash is not that of the line.",
    "wrong_columns": "A column beside the line says something else than the line.",
    "wrong_partition": "The account belongs to another partition.",
    "wrong_time": "`recorded_at` goes back, or `effective_at` is in its future.",
    "impossible": "The event cannot follow from those before it: it names what does not exist, or makes what exists.",
    "wrong_balance": "`balance` or `delta` is not what the replay comes to.",
    "broken_identity": "An identity of SEMANTICS.md section 3 does not hold after the event.",
    "forged_head": "The head of the partition is not its last line.",
    "wrong_snapshot": "The stored account is not what the replay comes to.",
    "wrong_item": "A stored hold, consumption or ended grant is not what the replay comes to.",
    "wrong_projection": "A row of a projection is not what a fold of the same lines comes to.",
    "rolled_back": "The log is shorter than a signed checkpoint says: an old state was restored.",
    "rewritten": "The log is not the one that a signed checkpoint was made of: lines were rewritten with their hashes.",
    "wrong_signature": "The checkpoint is not signed by the key, or is of another ledger.",
    "wrong_checkpoint": "A checkpoint that the database keeps was changed beside its note, or is gone.",
    "wrong_catalog": "A stored catalog is not the one that its hash was made of.",
}


_PLACES: dict[Code, str] = {
    "wrong_signature": "the checkpoints",
    "wrong_checkpoint": "the checkpoints",
    "wrong_catalog": "the catalogs",
}
"""Of what belongs to no partition."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """The first thing that is wrong in a partition: the event by its place, and what is wrong with it."""

    code: Code
    partition: int
    position: int
    account: str | None = None
    detail: str

    @property
    def event(self) -> str:
        """The id of the wrong event."""
        return f"{self.partition}-{self.position}"

    @property
    def place(self) -> str:
        """Where it is, in words; some things are beside the log, and no event is the first wrong one."""
        if self.position:
            return f"event {self.event}"
        return _PLACES.get(self.code, f"partition {self.partition}")


class Faulty(Exception):
    """Verification met a fault; nothing behind it in the partition can be judged."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.code, fault.detail)
        self.fault = fault
