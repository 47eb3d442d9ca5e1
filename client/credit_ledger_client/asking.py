"""What commands, queries and durable commands have in common: a request is sent with patience, and its answer typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import uuid4

from credit_ledger_client.answers import View
from credit_ledger_client.errors import refused
from credit_ledger_client.fields import wire
from credit_ledger_client.patience import Patience, send
from credit_ledger_client.transport import Reply, Request, Transport

Told = TypeVar("Told", bound=View)


def new_key() -> str:
    """Return an idempotency key that nobody else has."""
    return uuid4().hex


def read(form: type[Told], reply: Reply) -> Told:
    """Return an answer; raises Refused."""
    if reply.status >= 300:
        raise refused(reply.json)
    return form.model_validate_json(reply.body)


class Asking:
    """Sends requests over a transport, on somebody's behalf when that is set."""

    def __init__(
        self, transport: Transport, patience: Patience | None = None, *, on_behalf_of: str | None = None
    ) -> None:
        self.transport = transport
        self.patience = patience or Patience()
        self._on_behalf_of = on_behalf_of

    def _request(self, name: str, account: str, given: Mapping[str, Any], **fields: object) -> Request:
        """Return a command, with a key of its own unless one is given."""
        return Request(
            "command",
            name,
            {"account": account, **wire({**fields, **given})},
            key=given.get("key") or new_key(),
            dry_run=bool(given.get("dry_run", False)),
            on_behalf_of=self._on_behalf_of,
        )

    async def _send(self, request: Request, within: float | None = None) -> Reply:
        return await send(self.transport, request, self.patience, within)

    async def _query(self, form: type[Told], name: str, given: Mapping[str, Any], **fields: object) -> Told:
        return read(form, await self._send(Request("query", name, wire({**fields, **given})), given.get("within")))
