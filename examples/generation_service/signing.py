"""Signatures: of the provider's webhooks, and of links to results that expire."""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

TOLERANCE = timedelta(minutes=5)
"""How old or early a signature may be: a webhook that was recorded is of no use later."""


class Forged(Exception):
    """A signature is missing, wrong or too old."""


def secret_of(path: Path) -> bytes:
    """Return the secret in a file, which is made the first time."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_bytes()


def sign(secret: bytes, text: bytes) -> str:
    """Return the signature of a text, as hex."""
    return hmac.new(secret, text, sha256).hexdigest()


def is_signed(secret: bytes, text: bytes, signature: str) -> bool:
    """Say whether it is the signature of a text; takes as long for a wrong one."""
    return hmac.compare_digest(sign(secret, text).encode(), signature.encode())


def sign_webhook(secret: bytes, body: bytes, now: datetime) -> str:
    """Return the header that goes with a webhook: the instant of sending, and a signature of both."""
    at = int(now.timestamp())
    return f"t={at},v1={sign(secret, b'%d.%b' % (at, body))}"


def check_webhook(secret: bytes, body: bytes, header: str, now: datetime) -> None:
    """Raise Forged unless the header belongs to the body and is of these minutes."""
    at, _, signature = header.removeprefix("t=").partition(",v1=")
    if not at.isascii() or not at.isdigit() or len(at) > 12:
        raise Forged
    if abs(now.timestamp() - int(at)) > TOLERANCE.total_seconds():
        raise Forged
    if not is_signed(secret, b"%b.%b" % (at.encode(), body), signature):
        raise Forged
