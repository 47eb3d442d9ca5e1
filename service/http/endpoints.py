"""Endpoints: what serves each row of the table, built once at the start.

An endpoint finds out who asks, checks the scope and the account, reads the rest and hands it to the gateway, in this
order: who may not ask cannot make the ledger read a body. It raises a Refusal for what it does not pass on; the server
writes it as a problem.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import hdrs, web

from events.errors import InvalidRequest
from events.recorded import Actor
from service.access import Access, Principal, Scope, Unauthenticated
from service.body import parse_body
from service.gateway import Gateway
from service.http.answers import Answer, answer
from service.http.forms import represented
from service.http.incoming import (
    IDEMPOTENCY_KEY,
    Incoming,
    boolean,
    is_large,
    numbered,
    on_behalf_of,
    parameters,
    read_body,
    refuse_unknown,
    single,
)
from service.http.routes import Route
from service.outages import Overloaded
from service.replies import BATCH_BYTES_MAX
from service.telemetry.metrics import Value

Serve = Callable[[Incoming, dict[str, str]], Awaitable[Answer]]
"""Answers a request, given the fields that stand in its path."""
Stream = Callable[[web.BaseRequest, dict[str, str]], Awaitable[Answer | web.StreamResponse]]
"""Answers a request, or sends a response of its own as long as it takes."""
VIA = "http"
LARGE_BATCHES_MAX = 64
"""So many batches of more than 64 KiB at once, of all callers together: 256 MiB of bodies at most."""


class Door:
    """Lets principals in: every endpoint with a scope begins here."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def admit(self, request: Incoming, scope: Scope | None, account: str | None) -> Principal:
        """Return who asks; raises Unauthenticated, Forbidden, and AccountNotFound for an account out of reach."""
        shown = request.headers.getall(hdrs.AUTHORIZATION, None)
        if shown is not None and len(shown) > 1:
            raise Unauthenticated("the header Authorization is given more than once")
        principal = self._access.authenticate(shown[0] if shown else None)
        if scope is not None:
            principal.require(scope)
        if account is not None:
            principal.admit(account)
        return principal


def command(route: Route, door: Door, gateway: Gateway, in_flight: Value) -> Serve:
    """Return what serves a command."""
    name, scope = route.name, route.scope

    async def serve(request: Incoming, path: dict[str, str]) -> Answer:
        principal = door.admit(request, scope, path["account"])
        actor = Actor(id=principal.name, via=VIA, on_behalf_of=on_behalf_of(request))
        dry_run = bool(request.rel_url.raw_query_string) and _dry_run(request)
        key = single(request, IDEMPOTENCY_KEY)
        body = await read_body(request)
        in_flight.value += 1
        try:
            reply = await gateway.command(name, body, actor=actor, key=key, path=path, dry_run=dry_run)
        finally:
            in_flight.value -= 1
        return answer(reply)

    return serve


def batch(door: Door, gateway: Gateway, in_flight: Value) -> Serve:
    """Return what serves a batch of commands, each of which needs its own scope.

    Large ones are taken on a few at a time, from their first byte to their answer, for each is held in memory as a whole.
    """
    places = asyncio.Semaphore(LARGE_BATCHES_MAX)

    async def serve(request: Incoming, path: dict[str, str]) -> Answer:
        if not is_large(request):
            return await execute(request, path)
        if places.locked():
            raise Overloaded(f"{LARGE_BATCHES_MAX} large batches are being worked on")
        async with places:
            return await execute(request, path)

    async def execute(request: Incoming, _path: dict[str, str]) -> Answer:
        principal = door.admit(request, None, None)
        actor = Actor(id=principal.name, via=VIA, on_behalf_of=on_behalf_of(request))
        dry_run = bool(request.rel_url.raw_query_string) and _dry_run(request)
        body = await read_body(request, BATCH_BYTES_MAX)
        in_flight.value += 1
        try:
            reply = await gateway.batch(body, actor=actor, admit=principal.admit_command, dry_run=dry_run)
        finally:
            in_flight.value -= 1
        return answer(reply)

    return serve


def query(route: Route, door: Door, gateway: Gateway) -> Serve:
    """Return what serves a query whose fields stand in the query string."""
    name, scope = route.name, route.scope

    async def serve(request: Incoming, path: dict[str, str]) -> Answer:
        principal = door.admit(request, scope, path.get("account"))
        fields: Mapping[str, object] = path
        if request.rel_url.raw_query_string:
            given = parameters(request)
            _refuse_doubles(path, given)
            fields = {**numbered(given), **path}
            principal.admit_query(name, fields)
        reply = await gateway.query(name, fields, caller=principal.name, prefixes=principal.prefixes)
        return represented(request, name, reply)

    return serve


def query_body(route: Route, door: Door, gateway: Gateway) -> Serve:
    """Return what serves a query whose fields are a JSON body."""
    name, scope = route.name, route.scope

    async def serve(request: Incoming, path: dict[str, str]) -> Answer:
        principal = door.admit(request, scope, path.get("account"))
        refuse_unknown(parameters(request))
        body = await read_body(request)
        if not path:
            return answer(await gateway.query_body(name, body, caller=principal.name))
        given = parse_body(body)
        _refuse_doubles(path, given)
        return answer(await gateway.query(name, {**given, **path}, caller=principal.name))

    return serve


def _dry_run(request: Incoming) -> bool:
    given = parameters(request)
    dry_run = boolean("dry_run", given.pop("dry_run", "false"))
    refuse_unknown(given)
    return dry_run


def _refuse_doubles(path: dict[str, str], given: dict[str, object] | dict[str, str]) -> None:
    """Raise InvalidRequest for a field that stands in the path and is given once more."""
    for name in path:
        if name in given:
            raise InvalidRequest.at(name, "stands in the path")
