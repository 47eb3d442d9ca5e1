"""The streams of the ledger: how they are made, and what is said when one that exists was made otherwise.

    <PREFIX>_EVENTS     every event; kept until an operator sets a limit, for a consumer may come years later
    <PREFIX>_COMMANDS   durable commands that wait; a command leaves when it is acknowledged, a full stream takes no more
    <PREFIX>_RESULTS    their outcomes; the oldest go first
    <PREFIX>_CHECKPOINTS  signed checkpoints, on a ledger that signs; the oldest go first
    <PREFIX>_DEAD       what could not be read; the oldest go first
    <PREFIX>_ALERTS     alerts; the oldest go first

With the prefix `credits` they are CREDITS_EVENTS and so on. A stream that exists is never changed: an operator may have
given it more replicas, another limit or more subjects, and a limit that shrinks deletes messages. What differs is
logged, and the ledger goes on. The size of a stream is reserved in JetStream's store when it is made; on a small disk
it is made smaller, and at last without a reservation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nats.aio.client import Client

from service.bus.jetstream import NO_ACCOUNT_STORAGE, NO_CONSUMER, NO_STORAGE, NO_STREAM, ApiError, StreamAway, api
from service.replies import BODY_BYTES_MAX

HEADERS_BYTES_MAX = 8 * 1024
BYTES_MIN = 4 * 1024 * 1024
DAY_SECONDS = 24 * 60 * 60
NANOSECONDS = 1_000_000_000
STATUS = "Ledger-Status"
"""The header of a stored outcome: nats-py takes a stored message with the header `Status` for an error of the server."""

_log = logging.getLogger(__name__)


class StreamUnusable(StreamAway):
    """A stream of the right name that cannot serve: it has other subjects, or another retention."""


@dataclass(frozen=True, slots=True)
class Spec:
    """How a stream is made: sizes in bytes, ages in seconds, 0 for no limit."""

    name: str
    subjects: tuple[str, ...]
    retention: Literal["limits", "workqueue"] = "limits"
    discard: Literal["old", "new"] = "old"
    bytes_max: int = 0
    age_seconds_max: int = 0
    message_bytes_max: int = 0
    duplicate_seconds: int = 120

    def configuration(self, bytes_max: int) -> dict[str, object]:
        """Return the configuration as the JetStream API has it."""
        return {
            "name": self.name,
            "subjects": list(self.subjects),
            "retention": self.retention,
            "discard": self.discard,
            "storage": "file",
            "max_bytes": bytes_max or -1,
            "max_age": self.age_seconds_max * NANOSECONDS,
            "max_msg_size": self.message_bytes_max or -1,
            "duplicate_window": self.duplicate_seconds * NANOSECONDS,
            "allow_direct": self.retention == "limits",
        }


def stream_name(prefix: str, what: str) -> str:
    """Return the name of a stream; `what` is EVENTS, CHECKPOINTS, COMMANDS, RESULTS, DEAD or ALERTS."""
    return f"{prefix.upper().replace('.', '_')}_{what}"


def events_spec(prefix: str) -> Spec:
    """Return how the stream of events is made."""
    return Spec(stream_name(prefix, "EVENTS"), (f"{prefix}.events.>",))


def alerts_spec(prefix: str) -> Spec:
    """Return how the stream of alerts is made."""
    return Spec(
        stream_name(prefix, "ALERTS"),
        (f"{prefix}.alerts.>",),
        bytes_max=64 * 1024 * 1024,
        age_seconds_max=30 * DAY_SECONDS,
    )


def checkpoints_spec(prefix: str) -> Spec:
    """Return how the stream of signed checkpoints is made."""
    return Spec(stream_name(prefix, "CHECKPOINTS"), (f"{prefix}.checkpoints",), bytes_max=128 * 1024 * 1024)


def command_specs(prefix: str) -> tuple[Spec, Spec, Spec]:
    """Return how the streams of durable commands, of their outcomes and of what cannot be read are made."""
    commands = Spec(
        stream_name(prefix, "COMMANDS"),
        (f"{prefix}.submit.>",),
        retention="workqueue",
        discard="new",  # who submits too much is told so, and loses nothing that was acknowledged
        bytes_max=1024 * 1024 * 1024,
        message_bytes_max=BODY_BYTES_MAX + HEADERS_BYTES_MAX,
    )
    results = Spec(
        stream_name(prefix, "RESULTS"),
        (f"{prefix}.result.>",),
        bytes_max=1024 * 1024 * 1024,
        age_seconds_max=7 * DAY_SECONDS,
    )
    dead = Spec(
        stream_name(prefix, "DEAD"),
        (f"{prefix}.dead.>",),
        bytes_max=256 * 1024 * 1024,
        age_seconds_max=30 * DAY_SECONDS,
    )
    return commands, results, dead


async def ensure(client: Client, spec: Spec) -> dict[str, Any]:
    """Return a stream's info, after it was made if need be; raises StreamUnusable, ApiError and StreamAway."""
    try:
        info = await api(client, "STREAM.INFO", spec.name)
    except ApiError as error:
        if error.number != NO_STREAM:
            raise
        return await _create(client, spec)
    _compare(spec, info["config"])
    return info


async def _create(client: Client, spec: Spec) -> dict[str, Any]:
    bytes_max = spec.bytes_max
    while True:
        try:
            info = await api(client, "STREAM.CREATE", spec.name, body=spec.configuration(bytes_max))
        except ApiError as error:
            if error.number not in (NO_STORAGE, NO_ACCOUNT_STORAGE) or bytes_max == 0:
                raise
            bytes_max = bytes_max // 4 if bytes_max // 4 >= BYTES_MIN else 0
            continue
        _log.info("made the stream %s", spec.name)
        if bytes_max != spec.bytes_max:
            _log.warning("JetStream has little room: the stream %s may have %d bytes", spec.name, bytes_max)
        return info


async def make_readable(client: Client, results: str, prefix: str, callers: Iterable[str]) -> None:
    """Make a durable consumer of each caller's own outcomes, so that no caller needs the right to make one."""
    for caller in callers:
        configuration: dict[str, object] = {
            "durable_name": caller,
            "filter_subject": f"{prefix}.result.{caller}.>",
            "deliver_policy": "all",
            "ack_policy": "explicit",
        }
        body: dict[str, object] = {"stream_name": results, "config": configuration}
        try:
            await api(client, "CONSUMER.INFO", results, caller)
        except ApiError as error:
            if error.number != NO_CONSUMER:
                raise
            await api(client, "CONSUMER.DURABLE.CREATE", results, caller, body=body)


_told: set[tuple[str, str]] = set()


def _compare(spec: Spec, config: Mapping[str, Any]) -> None:
    """Refuse a stream that cannot serve, and say once what is otherwise than we would make it."""
    missing = [subject for subject in spec.subjects if subject not in (config.get("subjects") or ())]
    if missing:
        raise StreamUnusable(
            f"the stream {spec.name} does not take {', '.join(missing)}: add the subjects, or choose another prefix"
        )
    if config.get("retention") != spec.retention:
        raise StreamUnusable(
            f"the stream {spec.name} has the retention {config.get('retention')} and needs {spec.retention}: "
            "delete it when it is empty, and it is made anew"
        )
    wanted = spec.configuration(spec.bytes_max)
    differ = [f"{name} = {config.get(name)}" for name, value in wanted.items() if config.get(name, value) != value]
    if differ and (spec.name, str(differ)) not in _told:
        _told.add((spec.name, str(differ)))
        _log.warning("the stream %s was made otherwise, and is left as it is: %s", spec.name, ", ".join(differ))
