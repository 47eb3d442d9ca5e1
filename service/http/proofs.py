"""`GET /v1/checkpoints/...` and `/v1/proofs/...`: for those who check the ledger from outside."""

from __future__ import annotations

import orjson
from aiohttp import web

from events.errors import InvalidRequest
from service.asking import NotFound
from service.checkpoints.proofs import Proofs
from service.http.answers import answer
from service.http.endpoints import Door, Serve
from service.http.incoming import parameters, refuse_unknown
from service.http.routes import Route
from service.replies import Reply


def proof(route: Route, door: Door, proofs: Proofs | None) -> Serve:
    """Return what serves checkpoints, the key, or proofs, by the route's name."""

    async def serve(request: web.BaseRequest, _path: dict[str, str]) -> web.StreamResponse:
        door.admit(request, route.scope, None)
        given = parameters(request)
        event = given.pop("event", None) if route.name == "inclusion" else None
        refuse_unknown(given)
        if proofs is None:
            raise NotFound("this ledger signs no checkpoints: LEDGER_SIGNING_KEY_FILE is not set")
        if route.name == "latest_checkpoint":
            view = await proofs.latest()
        elif route.name == "checkpoint_key":
            view = await proofs.key()
        else:
            if event is None:
                raise InvalidRequest.at("event", "is required: the id of an event, such as 3-17")
            view = await proofs.inclusion(event)
        return answer(Reply(200, orjson.dumps(view)))

    return serve
