"""What a durable command says of itself before it is executed: its caller, name, key and account.

What has no usable key has no outcome that anybody could look up, and what is no JSON or no command cannot be executed at
all; such messages are `Unreadable` and go to the dead. Everything else is executed, and its outcome, a refusal too, is
told under its key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from events.asking import KEY_CHARACTERS_MAX
from events.commands import COMMANDS
from events.errors import InvalidRequest, KeyRequired, NotFound, Refusal
from service.asking import key_of
from service.body import parse_body
from service.replies import BODY_BYTES_MAX, TooLarge

_TOKEN = re.compile(r"[\x21-\x29\x2b-\x2d\x2f-\x3d\x3f-\x7e]{1,128}")


class Unreadable(Exception):
    """The message cannot be executed; `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


@dataclass(slots=True, eq=False)
class Submitted:
    """A message of the stream of commands: where it stands, how to acknowledge it, and what it holds."""

    sequence: int
    ack: str
    subject: str
    body: bytes
    submitted_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Submission:
    """A durable command that can be executed."""

    caller: str
    command: str
    key: str
    account: str | None


def caller_of(subject: str, prefix: str) -> str:
    """Return the caller of a submitted message, `unknown` when its subject names none that may stand in a subject."""
    caller = subject.removeprefix(f"{prefix}.submit.").partition(".")[0]
    return caller if _TOKEN.fullmatch(caller) else "unknown"


def read(message: Submitted, prefix: str) -> Submission:
    """Return what a message asks for; raises Unreadable."""
    try:
        return _read(message, prefix)
    except Refusal as refusal:
        raise Unreadable(refusal) from None


def _read(message: Submitted, prefix: str) -> Submission:
    tokens = message.subject.removeprefix(f"{prefix}.submit.").split(".")
    if len(tokens) != 2:
        raise NotFound(f"{message.subject} is not {prefix}.submit.<caller>.<command>")
    caller, command = tokens
    if command not in COMMANDS:
        raise NotFound(f"there is no command {command} to submit", commands=sorted(COMMANDS))
    if len(message.body) > BODY_BYTES_MAX:
        raise TooLarge(f"the body has {len(message.body)} bytes; at most {BODY_BYTES_MAX} are taken")
    fields = parse_body(message.body)
    if "dry_run" in fields:
        raise InvalidRequest.at("dry_run", "a durable command is never a dry run: send it to the cmd subject")
    key = key_of(fields, message.headers.get("Idempotency-Key"))
    if not key:
        raise KeyRequired("a durable command needs a key: `idempotency_key` in the body or the header Idempotency-Key")
    if len(key) > KEY_CHARACTERS_MAX or not key.isascii() or not key.isprintable():
        raise InvalidRequest.at("idempotency_key", f"must be 1 to {KEY_CHARACTERS_MAX} printable ASCII characters")
    account = fields.get("account")
    return Submission(caller, command, key, account if isinstance(account, str) else None)
