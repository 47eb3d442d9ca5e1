"""The ledger as a NATS micro service: what `nats micro ls` and `$SRV.PING`, `.INFO` and `.STATS` are told.

The protocol is NATS ADR-32: three verbs, each asked of everybody, of the services of a name, or of one instance by its
id. `nats.micro` answers these for endpoints that it runs itself, one request at a time; ours run side by side
(`endpoint.py`), so the answers are given here, from their figures.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.nuid import NUID

from events.instants import instant
from service.bus.connection import subscribe
from service.bus.endpoint import QUEUE_GROUP, Endpoint

SERVICE = "credit-ledger"
DESCRIPTION = "An event-sourced credit ledger: reserve, consume, refund and grant credits, and ask for balances"
_NO_METADATA: dict[str, str] = {}

_log = logging.getLogger(__name__)


class Discovery:
    """Tells who this instance is and what its endpoints did; `version` is a semantic version."""

    def __init__(self, version: str, endpoints: Sequence[Endpoint]) -> None:
        self.id = NUID().next().decode()
        self._identity = {"name": SERVICE, "id": self.id, "version": version, "metadata": _NO_METADATA}
        self._endpoints = endpoints
        self._started = instant(datetime.now(UTC))
        self._views = {"PING": self.ping, "INFO": self.info, "STATS": self.stats}

    async def attach(self, client: Client) -> None:
        """Answer on this client; without a queue group, because each instance answers for itself."""
        self._client = client
        for verb in self._views:
            for address in (verb, f"{verb}.{SERVICE}", f"{verb}.{SERVICE}.{self.id}"):
                await subscribe(client, f"$SRV.{address}", self._answer)

    def ping(self) -> dict[str, object]:
        """Return the answer to `$SRV.PING`."""
        return {"type": "io.nats.micro.v1.ping_response", **self._identity}

    def info(self) -> dict[str, object]:
        """Return the answer to `$SRV.INFO`."""
        endpoints = [{**_address(endpoint), "metadata": _NO_METADATA} for endpoint in self._endpoints]
        about = {"description": DESCRIPTION, "endpoints": endpoints}
        return {"type": "io.nats.micro.v1.info_response", **self._identity, **about}

    def stats(self) -> dict[str, object]:
        """Return the answer to `$SRV.STATS`; times in nanoseconds."""
        endpoints = [{**_address(endpoint), **_figures(endpoint)} for endpoint in self._endpoints]
        about = {"started": self._started, "endpoints": endpoints}
        return {"type": "io.nats.micro.v1.stats_response", **self._identity, **about}

    async def _answer(self, message: Msg) -> None:
        if not message.reply or message.reply.startswith("$"):
            return
        view = self._views[message.subject.split(".")[1]]()
        try:
            await self._client.publish(message.reply, orjson.dumps(view))
        except (Error, OSError) as error:
            _log.warning("an answer about the service could not be sent: %s", type(error).__name__)


def _address(endpoint: Endpoint) -> dict[str, object]:
    return {"name": endpoint.name, "subject": endpoint.subject, "queue_group": QUEUE_GROUP}


def _figures(endpoint: Endpoint) -> dict[str, object]:
    figures = endpoint.figures
    return {
        "num_requests": figures.requests,
        "num_errors": figures.errors,
        "last_error": figures.last_error,
        "processing_time": figures.processing_nanoseconds,
        "average_processing_time": figures.processing_nanoseconds // max(1, figures.requests),
    }
