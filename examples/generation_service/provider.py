"""The provider as the service sees it: it is told to begin an attempt, and tells by signed webhooks what became of it.

Beginning carries a key for each attempt, so a worker that does not know whether it was heard may say it again.
"""

from __future__ import annotations

from typing import Annotated, Literal

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from examples.generation_service.jobs import Job

BEGIN_SECONDS_MAX = 10.0


class ProviderAway(Exception):
    """The provider cannot take it now, or it is not known whether it did; tell it again later."""


class ProviderRefused(Exception):
    """The provider will not do this."""


class _News(BaseModel):
    model_config = ConfigDict(frozen=True)

    job: str
    attempt: int = Field(ge=1)


class Progress(_News):
    """How far an attempt is, in percent."""

    type: Literal["progress"]
    percent: int = Field(ge=0, le=100)


class Succeeded(_News):
    """An attempt ended well; where the results are."""

    type: Literal["succeeded"]
    results: list[str]


class Failed(_News):
    """An attempt failed; whether another one may do better."""

    type: Literal["failed"]
    error: str = Field(max_length=300)
    retryable: bool


News = Progress | Succeeded | Failed
news: TypeAdapter[News] = TypeAdapter(Annotated[News, Field(discriminator="type")])


class Provider:
    """The provider's interface, at a URL; it calls back at `webhook`."""

    def __init__(self, url: str, webhook: str) -> None:
        self._url = url
        self._webhook = webhook

    async def begin(self, job: Job) -> str:
        """Have an attempt begun, once however often this is called; the provider's id. Raises both exceptions above."""
        body = {"job": job.id, "attempt": job.attempt, "webhook": self._webhook, **job.work.model_dump()}
        headers = {"Idempotency-Key": f"{job.id}:{job.attempt}"}
        timeout = aiohttp.ClientTimeout(total=BEGIN_SECONDS_MAX)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(f"{self._url}/generations", json=body, headers=headers) as answer,
            ):
                if answer.status >= 500 or answer.status == 429:
                    raise ProviderAway(f"the provider answered {answer.status}")
                if answer.status >= 400:
                    raise ProviderRefused((await answer.text())[:300])
                return str((await answer.json())["id"])
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ProviderAway(f"the provider cannot be reached: {error or type(error).__name__}") from error
