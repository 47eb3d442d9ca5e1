"""JetStream as far as the ledger needs it: the JSON API by request and reply, and the answer to a publish.

nats-py's own layer hides which error the server reported, knows fewer options than the server, and its asynchronous
publish never resolves after a disconnect. The API itself is small: a request to `$JS.API...`, an answer in JSON, an
error with a number that says what is wrong.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from typing import Any, cast

import orjson
from nats.aio.client import Client
from nats.errors import Error

API_SECONDS_MAX = 5.0
EXPECTED_SEQUENCE = "Nats-Expected-Last-Sequence"
"""The header that lets nobody but the publisher write: all that it writes has it."""

NO_MESSAGE = 10037
NO_CONSUMER = 10014
NO_STORAGE = 10047
NO_ACCOUNT_STORAGE = 10028
NO_STREAM = 10059
WRONG_MESSAGE_ID = 10070
WRONG_SEQUENCE = 10071

_log = logging.getLogger(__name__)


class StreamAway(Exception):
    """JetStream cannot be reached, or cannot do it now; trying again may help."""


class ApiError(StreamAway):
    """JetStream answered with an error; `number` is its `err_code`."""

    def __init__(self, number: int, description: str) -> None:
        super().__init__(f"{description} ({number})")
        self.number = number
        self.description = description


async def api(client: Client, *subject: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Ask the JetStream API; raises ApiError for what it refuses, and StreamAway when nobody answers."""
    data = b"" if body is None else orjson.dumps(body)
    return _checked(await request(client, ".".join(("$JS.API", *subject)), data))


async def request(
    client: Client,
    subject: str,
    data: bytes,
    headers: dict[str, str] | None = None,
    *,
    seconds: float = API_SECONDS_MAX,
) -> bytes:
    """Send a request and return what was answered; raises StreamAway."""
    if not client.is_connected:  # else it would wait in the client, and be sent when nobody wants it any more
        raise StreamAway("NATS is not connected")
    try:
        answer = await client.request(subject, data, timeout=seconds, headers=headers)
    except (Error, OSError, TimeoutError) as error:
        raise StreamAway(f"{type(error).__name__}: no answer from JetStream") from error
    return answer.data


async def publish(client: Client, subject: str, data: bytes, headers: dict[str, str]) -> int:
    """Publish into a stream and return the message's sequence there; raises ApiError and StreamAway."""
    return int(_checked(await request(client, subject, data, headers))["seq"])


async def take_out(client: Client, stream: str, message: Mapping[str, Any], header: str) -> bool:
    """Delete a stored message that lacks a header that all of the ledger's have; returns whether it did.

    JetStream sends its answers, and what consumers get, wherever a client says, whatever the client itself may write.
    """
    if f"\r\n{header}:".encode() in base64.b64decode(message.get("hdrs") or ""):
        return False
    await api(client, "STREAM.MSG.DELETE", stream, body={"seq": message["seq"], "no_erase": True})
    _log.error("message %d of %s was not written by the ledger, and is taken out", message["seq"], stream)
    return True


def _checked(answer: bytes) -> dict[str, Any]:
    try:
        told = cast("dict[str, Any]", orjson.loads(answer))
    except orjson.JSONDecodeError:
        raise StreamAway("an answer that is not JetStream's") from None
    if (error := told.get("error")) is not None:
        raise ApiError(int(error.get("err_code", 0)), str(error.get("description", "")))
    return told
