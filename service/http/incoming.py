"""Reading requests: the body within its bound, the query string, and headers that may stand once.

What HTTP can say and the ledger cannot understand is refused here, in the contract's words: a parameter or a header that
stands twice, text that is not UTF-8. What a value means is left to the gateway, which judges it the same for NATS.
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

from aiohttp import StreamReader, hdrs, web
from aiohttp.http_parser import RawRequestMessage
from multidict import istr

from events.errors import InvalidRequest
from service.access import checked_on_behalf_of
from service.http.answers import Encoded, Malformed, TooSlow
from service.replies import BODY_BYTES_MAX, TooLarge

BODY_SECONDS_MAX = 30.0
PARAMETERS_MAX = 32

IDEMPOTENCY_KEY = istr("Idempotency-Key")
ON_BEHALF_OF = istr("On-Behalf-Of")

_INTEGERS = frozenset(
    {
        *("quantity", "amount", "limit", "partition", "after", "days", "pace_days", "age_seconds"),
        "submitted_seconds_ago",
    }
)
_INTEGER_DIGITS_MAX = 18
_SWITCHES = frozenset({"proof"})
_BOOLEANS = {"true": True, "false": False}


class WholeRequest:
    """A request that came as a whole, its body too; it has what endpoints need of aiohttp's, under the same names."""

    __slots__ = ("content", "headers", "method", "rel_url")

    def __init__(self, message: RawRequestMessage, content: StreamReader) -> None:
        self.method, self.headers, self.rel_url = message.method, message.headers, message.url
        self.content = content


Incoming = web.BaseRequest | WholeRequest


def is_large(request: Incoming) -> bool:
    """Say whether a body may have more than 64 KiB: it says so, or it does not say."""
    if isinstance(request, WholeRequest):
        return False
    return request.content_length is None or request.content_length > BODY_BYTES_MAX


async def read_body(request: Incoming, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Return the body; raises TooLarge, Encoded, TooSlow, Malformed, and ConnectionError when the caller is gone."""
    if hdrs.CONTENT_ENCODING in request.headers:
        raise Encoded("send the body without Content-Encoding")
    if isinstance(request, WholeRequest):
        body = request.content.read_nowait()
        _refuse_length(len(body), bytes_max)
        return body
    if request.content_length is not None:
        _refuse_length(request.content_length, bytes_max)
    if request.content.is_eof():
        return await _read(request, bytes_max)
    await _invite(request)
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await _read(request, bytes_max)
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {BODY_SECONDS_MAX:g} s") from None


async def _read(request: web.BaseRequest, bytes_max: int) -> bytes:
    try:
        body = await request.content.readany()
        if not request.content.at_eof():
            body = bytearray(body)
            while len(body) <= bytes_max and (chunk := await request.content.readany()):
                body += chunk
    except ConnectionError:
        raise
    except RuntimeError as error:
        if request.transport is not None:
            raise
        raise ConnectionError("the caller went away") from error  # aiohttp has no error of its own for it
    except (web.RequestPayloadError, ValueError) as error:
        raise Malformed("the body is not framed as its headers say") from error
    if len(body) > bytes_max:
        raise TooLarge(f"the body has more than {bytes_max} bytes", bytes_max=bytes_max)
    return bytes(body)


def _refuse_length(length: int, bytes_max: int) -> None:
    if length > bytes_max:
        raise TooLarge(f"the body has {length} bytes; at most {bytes_max} are taken", bytes_max=bytes_max)


async def _invite(request: web.BaseRequest) -> None:
    """Send the `100 Continue` that a caller waits for before it sends a body that is not refused already."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


def single(request: Incoming, name: istr) -> str | None:
    """Return a header, or None when it is missing; raises InvalidRequest when it stands twice."""
    values = request.headers.getall(name, None)
    if values is None:
        return None
    if len(values) > 1:
        raise InvalidRequest.at(str(name), "the header is given more than once")
    return values[0]


def on_behalf_of(request: Incoming) -> str | None:
    """Return for whom the caller says it acts; raises InvalidRequest for what no event should hold."""
    value = single(request, ON_BEHALF_OF)
    return None if value is None else checked_on_behalf_of(value)


def parameters(request: Incoming) -> dict[str, str]:
    """Return the query string's parameters; raises InvalidRequest when one stands twice or is no text."""
    raw = request.rel_url.raw_query_string
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise InvalidRequest.at("query", f"at most {PARAMETERS_MAX} parameters in percent-encoded UTF-8") from None
    if not raw.isascii() or "%00" in raw:
        raise InvalidRequest.at("query", "characters outside of ASCII are percent-encoded, and NUL is in no parameter")
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidRequest.at(name, "given more than once")
        found[name] = value
    return found


def numbered(given: dict[str, str]) -> dict[str, object]:
    """Return parameters as a query's fields: digits become a number where one belongs, `true` and `false` likewise."""
    return {name: _typed(name, value) for name, value in given.items()}


def _typed(name: str, value: str) -> object:
    if name in _INTEGERS and value.isascii() and value.isdigit() and len(value) <= _INTEGER_DIGITS_MAX:
        return int(value)
    return _BOOLEANS.get(value, value) if name in _SWITCHES else value


def boolean(name: str, value: str) -> bool:
    """Return what `true` or `false` stands for; raises InvalidRequest for anything else."""
    if value not in _BOOLEANS:
        raise InvalidRequest.at(name, "must be true or false")
    return _BOOLEANS[value]


def refuse_unknown(given: dict[str, str]) -> None:
    """Raise InvalidRequest that names every parameter that is left."""
    if given:
        raise InvalidRequest(
            f"there is no parameter {', '.join(given)}",
            errors=[{"loc": [name], "msg": "there is no such parameter"} for name in given],
        )
