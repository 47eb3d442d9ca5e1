"""How the examples read a request: whose it is, and what it says."""

from __future__ import annotations

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

Form = TypeVar("Form", bound=BaseModel)


class Body(BaseModel):
    """Base of the bodies that are read: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def team_of(request: web.Request) -> str:
    """Return whose credits these are; a real service takes this from its session or token. Raises 401."""
    team = request.headers.get("Team")
    if not team:
        raise web.HTTPUnauthorized(text='say who pays: -H "Team: team-42"')
    return team


def key_of(request: web.Request) -> str | None:
    """Return the caller's own key, with which a request that is sent again counts once."""
    return request.headers.get("Idempotency-Key")


async def read(request: web.Request, form: type[Form]) -> Form:
    """Return the body; raises 422. Reading it a second time is free."""
    try:
        return form.model_validate_json(await request.read() or b"{}")
    except ValidationError as error:
        text = error.json(include_url=False, include_context=False, include_input=False)
        raise web.HTTPUnprocessableEntity(text=text, content_type="application/json") from error
