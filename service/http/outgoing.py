"""Sending webhooks: one POST, bounded in every way, to an address that an operator chose.

No redirect is followed, no proxy of the environment is used, no cookie is kept, and of the answer only the status and
`Retry-After` are read and a little of the body is let in, so that a receiver can neither lead a message elsewhere nor
fill this process.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import aiohttp

from service.webhooks.deliverer import Answer

ATTEMPT_SECONDS_MAX = 15.0
CONNECT_SECONDS_MAX = 5.0
ANSWER_BYTES_MAX = 4096
_SECONDS = re.compile(r"[0-9]{1,9}")


class Sender:
    """Posts webhooks until it is closed."""

    def __init__(self, *, seconds_max: float = ATTEMPT_SECONDS_MAX) -> None:
        self._seconds_max = seconds_max
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Return what the receiver answered, or why there is no answer; never raises for the receiver's sake."""
        session = self._open()
        try:
            async with (
                asyncio.timeout(self._seconds_max),
                session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                await answer.content.read(ANSWER_BYTES_MAX)
                answer.close()  # the rest of it is nobody's business
                asked = answer.headers.get("Retry-After", "")
                return Answer(answer.status, None, float(asked) if _SECONDS.fullmatch(asked) else None)
        except TimeoutError:
            return Answer(None, f"no answer within {self._seconds_max:g} s")
        except aiohttp.ClientConnectorCertificateError:
            return Answer(None, "the receiver's certificate cannot be trusted")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(None, type(error).__name__)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # the deliverer bounds how many there are
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._seconds_max, sock_connect=CONNECT_SECONDS_MAX),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session
