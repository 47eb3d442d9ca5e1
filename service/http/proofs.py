"""`GET /v1/checkpoints/...` and `/v1/proofs/...`: for those who check the ledger from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import orjson

from events.errors import InvalidRequest, NotFound
from service.checkpoints.proofs import NO_KEY, Proofs, View
from service.http.answers import Answer, answer
from service.http.endpoints import Door, Serve
from service.http.incoming import Incoming, parameters, refuse_unknown
from service.http.routes import Route
from service.replies import Reply

_DIGITS_MAX = 15

Given = dict[str, str]


def proof(route: Route, door: Door, proofs: Proofs | None) -> Serve:
    """Return what serves checkpoints, the key, or proofs, by the route's name."""
    prepare = _PREPARED[route.name]

    async def serve(request: Incoming, path: dict[str, str]) -> Answer:
        door.admit(request, route.scope, None)
        given = {**parameters(request), **path}
        ask = prepare(given)
        refuse_unknown(given)
        if proofs is None:
            raise NotFound(NO_KEY)
        return answer(Reply(200, orjson.dumps(await ask(proofs))))

    return serve


Ask = Callable[[Proofs], Awaitable[View]]


def _inclusion(given: Given) -> Ask:
    event = given.pop("event", None)
    if event is None:
        raise InvalidRequest.at("event", "is required: the id of an event, such as 3-17")
    return lambda proofs: proofs.inclusion(event)


def _consistency(given: Given) -> Ask:
    partition, from_, to = (_number(given, name) for name in ("partition", "from", "to"))
    if from_ is None:
        what = "the number of a checkpoint" if partition is None else "a number of lines"
        raise InvalidRequest.at("from", f"is required: {what}")
    if partition is None:
        return lambda proofs: proofs.consistency(from_, to)
    return lambda proofs: proofs.growth(partition, from_, to)


def _checkpoint(given: Given) -> Ask:
    number = _number(given, "number") or 0
    return lambda proofs: proofs.numbered(number)


def _number(given: Given, name: str) -> int | None:
    """Take a number out of what was given, None when it is not there; raises InvalidRequest for what is none."""
    text = given.pop(name, None)
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise InvalidRequest.at(name, "must be a number from 0")
    return None if text is None else int(text)


_PREPARED: Mapping[str, Callable[[Given], Ask]] = {
    "latest_checkpoint": lambda _given: lambda proofs: proofs.latest(),
    "checkpoint_key": lambda _given: lambda proofs: proofs.key(),
    "checkpoint": _checkpoint,
    "inclusion": _inclusion,
    "consistency": _consistency,
}
"""What each route takes out of its parameters, and then asks."""
