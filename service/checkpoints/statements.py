"""Signed statements: a statement with its events, the proof of each, and a signature over all of it (CONTRACT.md).

The proofs show that every movement is an event of the history that the checkpoint signs. The signature is what makes the
ledger answer for the rest: that nothing is left out, and what is due and not written yet. It is over

    credit-ledger/6f1c.../statement    the ledger, and that this is no checkpoint
    account team-42
    sha256 9d1e...                     of the RFC 8785 JSON of the statement, without `note`

as a signed note, by the keys that sign checkpoints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import cast

import orjson

from events.errors import NotFound
from service.checkpoints.keys import SigningKey
from service.checkpoints.proofs import NO_KEY, Proofs, View

AT_ONCE_MAX = 2


class SignedStatements:
    """Proves and signs pages of statements."""

    def __init__(self, proofs: Proofs, keys: Sequence[SigningKey]) -> None:
        self._proofs = proofs
        self._keys = tuple(keys)
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def sign(self, view: View) -> View:
        """Return a page with a proof beside each line that it has, and signed; raises Unavailable.

        A checkpoint that has its newest event is waited for, 2 s at most.
        """
        partition = int(cast("str", view["as_of"]).partition("-")[0])
        told = [*cast("list[View]", view["movements"]), cast("View | None", view["opening_event"])]
        entries = [entry for entry in told if entry is not None and entry["event"] is not None]
        positions = [int(cast("str", entry["event"]).partition("-")[2]) for entry in entries]
        async with self._turns:
            checkpoint, proofs = await self._proofs.proven(partition, positions)
        for entry, position, proof in zip(entries, positions, proofs, strict=True):
            entry |= {"leaf_index": position - 1, "proof": proof}
        whole: View = {**view, "partition": partition, "checkpoint": checkpoint.note()}
        return {**whole, "note": self._note(checkpoint.origin, whole)}

    def _note(self, origin: str, view: View) -> str:
        digest = sha256(orjson.dumps(view, option=orjson.OPT_SORT_KEYS)).hexdigest()
        text = f"{origin}/statement\naccount {view['account']}\nsha256 {digest}\n"
        return f"{text}\n" + "".join(f"{key.sign(text)}\n" for key in self._keys)


def require_signing(signed: SignedStatements | None) -> SignedStatements:
    """Return what signs statements; raises NotFound when nothing is signed."""
    if signed is None:
        raise NotFound(NO_KEY)
    return signed
