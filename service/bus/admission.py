"""Who a message is from, and whether its caller may do what it asks; the broker vouches for the caller's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from events.errors import InvalidRequest
from events.recorded import Actor
from service.access import Access, Scope, checked_on_behalf_of
from service.replies import BODY_BYTES_MAX, TooLarge

_ID = re.compile(r"[A-Za-z0-9_:@-]{1,128}")


def admit(
    access: Access,
    caller: str,
    scope: Scope | None,
    headers: Mapping[str, str],
    body_bytes: int,
    bytes_max: int = BODY_BYTES_MAX,
) -> Actor:
    """Return the author of a request; raises Refusal. What has no scope is unknown, which the gateway says."""
    actor = _actor(caller, headers.get("On-Behalf-Of"))
    if scope is not None:
        access.caller(caller).require(scope)
    if body_bytes > bytes_max:
        raise TooLarge(f"the body has {body_bytes} bytes; at most {bytes_max} are taken", bytes_max=bytes_max)
    return actor


@lru_cache(maxsize=4096)
def _actor(caller: str, on_behalf_of: str | None) -> Actor:
    """Return the author of these names; raises InvalidRequest for what is no id."""
    if _ID.fullmatch(caller) is None:
        raise InvalidRequest.at("caller", "the subject's caller must be 1 to 128 letters, digits, _ : @ or -")
    return Actor(
        id=caller, via="nats", on_behalf_of=None if on_behalf_of is None else checked_on_behalf_of(on_behalf_of)
    )
