"""The ledger over HTTP: which method and path each command and query has (the ledger's CONTRACT.md, "HTTP, JSON").

Needs the extra `http`. What stands in a path is taken out of the body; a connection that could not be made means that
the ledger did not get the request, one that broke means that nobody knows.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from urllib.parse import quote

import aiohttp
from yarl import URL

from credit_ledger_client.errors import refused
from credit_ledger_client.transport import Reply, Request, Transport, Unanswered, Unreached

_ACCOUNT = "/v1/accounts/{account}"
_RESERVATION = _ACCOUNT + "/reservations/{reservation_id}"
_COMMANDS = {
    "reserve": ("POST", _ACCOUNT + "/reservations"),
    "settle": ("POST", _RESERVATION + "/consume"),
    "release": ("POST", _RESERVATION + "/release"),
    "extend": ("POST", _RESERVATION + "/extend"),
    "consume": ("POST", _ACCOUNT + "/consumptions"),
    "refund": ("POST", _ACCOUNT + "/consumptions/{consumption_id}/refund"),
    "grant": ("POST", _ACCOUNT + "/grants"),
    "revoke": ("POST", _ACCOUNT + "/grants/{grant_id}/revoke"),
    "adjust": ("POST", _ACCOUNT + "/adjustments"),
    "change_plan": ("PUT", _ACCOUNT + "/plan"),
    "renew": ("POST", _ACCOUNT + "/renewals"),
    "reset_usage": ("POST", _ACCOUNT + "/usage-resets"),
    "set_status": ("PUT", _ACCOUNT + "/status"),
}
_QUERIES = {
    "account": _ACCOUNT,
    "check": _ACCOUNT + "/check",
    "outcome": _ACCOUNT + "/commands/{idempotency_key}",
    "quote": "/v1/quote",
    "catalog": "/v1/catalog",
    "accounts": "/v1/accounts",
    "usage_of_all": "/v1/usage",
    "finance_summary": "/v1/finance/summary",
}
_WITH_BODY = frozenset({"check", "quote"})


class HttpTransport(Transport):
    """Carries requests over HTTP; a session that is given is not closed."""

    def __init__(self, url: str, *, token: str | None = None, session: aiohttp.ClientSession | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._session = session
        self._own: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make a session; connections are made when they are needed."""
        if self._session is None and self._own is None:
            # Patience bounds a request, and the ledger takes many at once.
            timeout = aiohttp.ClientTimeout(total=None)
            self._own = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))

    async def close(self) -> None:
        """Close the session unless it was given."""
        if self._own is not None:
            await self._own.close()
            self._own = None

    async def send(self, request: Request) -> Reply:
        """Send once and return the answer; raises Unreached and Unanswered."""
        method, url, body = self._addressed(request)
        headers = dict(self._headers)
        if request.kind == "command" and request.key is not None:
            headers["Idempotency-Key"] = request.key
        if request.on_behalf_of is not None:
            headers["On-Behalf-Of"] = request.on_behalf_of
        try:
            async with self._at_hand().request(method, url, data=body, headers=headers) as answer:
                retry_after = answer.headers.get("Retry-After", "")
                seconds = float(retry_after) if retry_after.isdigit() else None
                return Reply(answer.status, await answer.read(), seconds)
        except aiohttp.ClientConnectorError as error:
            raise Unreached(f"the ledger cannot be reached: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unanswered(f"the connection to the ledger broke: {type(error).__name__}") from error

    def _addressed(self, request: Request) -> tuple[str, URL, bytes | None]:
        """Return method, URL and body."""
        fields = dict(request.fields)
        query: dict[str, str] = {}
        if request.kind == "batch":
            method, path = "POST", "/v1/commands"
        elif request.kind == "command":
            name = "settle" if request.name == "consume" and "reservation_id" in fields else request.name
            method, path = _COMMANDS[name]
        else:
            method = "POST" if request.name in _WITH_BODY else "GET"
            path = _QUERIES.get(request.name, f"{_ACCOUNT}/{request.name}")
        # A reservation's own id is in the body of a reserve, and in the path of everything else.
        parts = {name: quote(str(fields.pop(name)), safe="") for name in _named_in(path) if name in fields}
        if request.kind == "query" and method == "GET":
            query = {name: str(value) for name, value in fields.items() if value is not None}
            body = None
        else:
            body = json.dumps(fields, separators=(",", ":")).encode()
        if request.dry_run:
            query["dry_run"] = "true"
        url = URL(self._url + path.format(**parts), encoded=True)
        return method, url.update_query(query) if query else url, body

    def _at_hand(self) -> aiohttp.ClientSession:
        session = self._session or self._own
        if session is None:
            raise RuntimeError("the ledger is not open: use it as a context manager, `async with ledger:`")
        return session

    async def log(self, partition: int, after: int, limit: int) -> AsyncIterator[bytes]:
        """Yield lines of the log; needs a token with the scope `audit`. Raises Refused, Unreached and Unanswered."""
        query = {"partition": str(partition), "after": str(after), "limit": str(limit)}
        rest = b""
        try:
            async with self._at_hand().get(f"{self._url}/v1/events", params=query, headers=self._headers) as answer:
                if answer.status >= 500:
                    raise Unanswered(f"the log cannot be read now: status {answer.status}")
                if answer.status != 200:
                    raise refused(Reply(answer.status, await answer.read()).json)
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
        except aiohttp.ClientConnectorError as error:
            raise Unreached(f"the ledger cannot be reached: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unanswered(f"the connection to the ledger broke: {type(error).__name__}") from error


def _named_in(path: str) -> list[str]:
    """Return the names in braces of a path."""
    return [part.partition("}")[0] for part in path.split("{")[1:]]
