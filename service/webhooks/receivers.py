"""Who gets webhooks: the file that LEDGER_WEBHOOKS names, in the style of TOKENS.

    [[webhook]]
    name = "crm"                                  # stands in the log of deliveries and in metrics
    url = "https://crm.example.com/hooks/credits" # https; http on this machine only
    secrets = ["whsec_..."]                       # one; two while the receiver changes to a new one
    kinds = ["low_balance", "exhausted"]          # left out: every kind
    accounts = ["shop-"]                          # prefixes; left out: every account

The file holds secrets: let only the service read it. `credit-ledger webhooks create` makes an entry.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import tomllib
from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from events.commands import Id
from projections.alerts import AlertKind
from service.access import is_loopback
from service.correctable import Correctable

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES = 32
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
URL_CHARACTERS_MAX = 2000
RECEIVERS_MAX = 100
_URL = re.compile(r"[!-~]+")


class InvalidWebhooks(Correctable, ValueError):
    """The WEBHOOKS file is not valid; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("the webhooks are not valid:\n" + "\n".join(f"  {problem}" for problem in self.problems))


class Receiver(NamedTuple):
    """A receiver: its name, where it listens, the keys that sign, and what it wants to hear of (None: all)."""

    name: str
    url: str
    keys: tuple[bytes, ...]
    kinds: tuple[AlertKind, ...] | None = None
    accounts: tuple[str, ...] | None = None


def key_of(secret: str) -> bytes:
    """Return the key that a secret stands for; ValueError for what is none."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise ValueError(f"a secret is {SECRET_PREFIX} and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes in base64")
    return key


def _url(url: str) -> str:
    """Refuse an address with a user or a fragment, and plain http beyond this machine."""
    whole = "must be a URL with a host, without a user and without a fragment"
    try:
        parts = urlsplit(url)
        is_whole = parts.hostname and parts.port != 0 and _URL.fullmatch(url)
    except ValueError:
        raise ValueError(whole) from None
    if not is_whole or "@" in parts.netloc or parts.fragment:
        raise ValueError(whole)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ValueError("must begin with https://; http:// is for this machine only")
    return url


def _secret(secret: str) -> str:
    key_of(secret)
    return secret


class _Webhook(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
    name: Id
    url: Annotated[str, Field(max_length=URL_CHARACTERS_MAX), AfterValidator(_url)]
    secrets: Annotated[list[Annotated[str, AfterValidator(_secret)]], Field(min_length=1, max_length=2)]
    kinds: Annotated[list[AlertKind], Field(min_length=1)] | None = None
    accounts: Annotated[list[Id], Field(min_length=1)] | None = None


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
    webhook: Annotated[list[_Webhook], Field(max_length=RECEIVERS_MAX)] = Field(default_factory=list[_Webhook])


def parse_receivers(text: str) -> tuple[Receiver, ...]:
    """Return the receivers that a WEBHOOKS file names; raises InvalidWebhooks with everything that is wrong."""
    try:
        file = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidWebhooks([f"not TOML: {error}"]) from None
    except ValidationError as error:
        raise InvalidWebhooks(_problems(error)) from None
    names = [webhook.name for webhook in file.webhook]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidWebhooks(f"webhook {name}: stands twice" for name in repeated)
    return tuple(
        Receiver(
            webhook.name,
            webhook.url,
            tuple(key_of(secret) for secret in webhook.secrets),
            None if webhook.kinds is None else tuple(webhook.kinds),
            None if webhook.accounts is None else tuple(webhook.accounts),
        )
        for webhook in file.webhook
    )


def create_receiver(name: str, url: str, kinds: Sequence[str] = (), accounts: Sequence[str] = ()) -> str:
    """Return an entry for the WEBHOOKS file with a new secret; raises InvalidWebhooks."""
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    fields: dict[str, str | list[str]] = {"name": name, "url": url, "secrets": [secret]}
    fields.update({field: list(values) for field, values in (("kinds", kinds), ("accounts", accounts)) if values})
    try:
        _File.model_validate({"webhook": [fields]})
    except ValidationError as error:
        raise InvalidWebhooks(_problems(error)) from None
    lines = [f"{field} = {_toml(value)}" for field, value in fields.items()]
    return "\n".join(["[[webhook]]", *lines, ""])


def _toml(value: str | list[str]) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _problems(error: ValidationError) -> list[str]:
    """Return what pydantic found, each behind the entry, counted from 1, and the field; never what the file says."""
    found: list[str] = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        place = " ".join(str(part + 1 if isinstance(part, int) else part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        found.append(f"{place}: {message}" if place else message)
    return found
