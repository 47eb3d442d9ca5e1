"""Settings: what an operator can choose, from the environment or `.env`, with the prefix `LEDGER_` (CONTRACT.md, "Start").

An option of the command line wins over the environment, the environment over `.env` in the working directory, that over
the default. Everything wrong is told at once, each in words that say what to set. What can only be wrong in the files
that settings name (the catalog, the tokens) is found by `read_catalog` and `read_access`, which every start uses as well
as `check-config`.

A variable with our prefix that is no setting is not an error, because container platforms make such names by themselves
(`LEDGER_PORT_8080_TCP` for a service called ledger); `check-config` names those that look like a slip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict

from events.catalog import Catalog, InvalidCatalog, parse_catalog
from service import PREFIX
from service.access import Access, InvalidTokens, is_loopback
from service.checkpoints.keys import InvalidKey, SigningKey, read_keys
from service.correctable import Correctable
from service.webhooks.receivers import InvalidWebhooks, Receiver, parse_receivers

ENV_FILE = Path(".env")
CATALOGS = Path(__file__).with_name("catalogs")
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+")
_SUBJECT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class InvalidSettings(Correctable, ValueError):
    """The settings cannot be used; `problems` lists everything that is wrong with them."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def _of_schemes(*schemes: str) -> AfterValidator:
    """A check that each of the URLs, which commas separate, begins with one of the schemes and names a host."""

    def check(url: SecretStr) -> SecretStr:
        for one in url.get_secret_value().split(","):
            try:
                parts = urlsplit(one.strip())
                good = parts.scheme in schemes and (parts.hostname or "host=" in parts.query) and parts.port != 0
            except ValueError:
                good = False
            if not good:
                raise ValueError(f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return url

    return AfterValidator(check)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def _host(host: str) -> str:
    if _HOST.fullmatch(host) is None:
        raise ValueError("must be an address or a host's name")
    return host


def _subject(prefix: str) -> str:
    if _SUBJECT.fullmatch(prefix) is None:
        raise ValueError("must be NATS tokens of letters, digits, - or _, such as credits or prod.credits")
    return prefix


DatabaseUrl = Annotated[SecretStr, _of_schemes("postgresql", "postgres")]
NatsUrl = Annotated[SecretStr, _of_schemes("nats", "tls", "ws", "wss")]
ExistingFile = Annotated[Path, AfterValidator(_existing)]


class Settings(BaseSettings):
    """What `credit-ledger serve` and the other commands run with."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: DatabaseUrl | None = None
    nats_url: NatsUrl | None = None
    nats_creds: ExistingFile | None = None
    catalog: ExistingFile | None = None
    http_host: Annotated[str, AfterValidator(_host)] = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    operations_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    auth: Literal["on", "off"] = "on"
    tokens: ExistingFile | None = None
    subject_prefix: Annotated[str, Field(max_length=64), AfterValidator(_subject)] = "credits"
    partitions: Annotated[int, Field(ge=1, le=1024)] = 16
    signing_key_file: ExistingFile | None = None
    checkpoint_dir: Path | None = None
    webhooks: ExistingFile | None = None
    projector: Literal["inside", "apart"] = "inside"

    @model_validator(mode="after")
    def _auth_fits(self) -> Self:
        """Refuse an open ledger that others can reach."""
        hosts = [self.http_host, *(_hosts(self.nats_url.get_secret_value()) if self.nats_url else ())]
        if self.auth == "off" and (far := [host for host in hosts if not is_loopback(host)]):
            raise ValueError(
                f"{PREFIX}AUTH=off lets everybody do everything, so it is for this machine only, and refused with "
                f"{', '.join(far)}: set {PREFIX}AUTH=on with {PREFIX}TOKENS, or use addresses such as 127.0.0.1"
            )
        return self


class UpSettings(Settings):
    """What `credit-ledger up` runs with: the same, open to this machine, with the example catalog."""

    auth: Literal["on", "off"] = "off"
    catalog: ExistingFile | None = CATALOGS / "content_platform.toml"


AnySettings = TypeVar("AnySettings", bound=Settings)


def load(form: type[AnySettings], options: Mapping[str, Any] | None = None) -> AnySettings:
    """Return the settings, with the options of the command line that are not None; raises InvalidSettings."""
    try:
        return form(**{name: value for name, value in (options or {}).items() if value is not None})
    except ValidationError as error:
        raise InvalidSettings(*_problems(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{ENV_FILE} cannot be read: {error}") from None


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        place = "".join(f"{PREFIX}{str(part).upper()}: " for part in problem["loc"][:1])
        yield f"{place}{problem['msg'].removeprefix('Value error, ')}"


def database_url(settings: Settings) -> str:
    """Return the database's URL, which holds a password; raises InvalidSettings when none is set."""
    if settings.database_url is None:
        raise InvalidSettings(
            f"{PREFIX}DATABASE_URL is not set: give it a postgresql:// URL, or run `credit-ledger up`, which brings its own"
        )
    return settings.database_url.get_secret_value()


def read_catalog(settings: Settings) -> Catalog:
    """Return the catalog that the settings name; raises InvalidSettings."""
    if settings.catalog is None:
        raise InvalidSettings(
            f"{PREFIX}CATALOG is not set: name a catalog file; {CATALOGS} has examples to copy and change"
        )
    try:
        return parse_catalog(settings.catalog.read_text(encoding="utf-8"))
    except InvalidCatalog as error:
        raise InvalidSettings(*(f"{settings.catalog}: {problem}" for problem in error.problems)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{settings.catalog} cannot be read: {error}") from None


def read_access(settings: Settings) -> Access:
    """Return who may do what; raises InvalidSettings."""
    if settings.auth == "off":
        return Access.open()
    if settings.tokens is None:
        raise InvalidSettings(
            f"{PREFIX}TOKENS names no file, so nobody could call: make an entry with `credit-ledger token create "
            f"--name NAME --scope read --scope spend`, or set {PREFIX}AUTH=off on this machine only"
        )
    try:
        return Access.parse(settings.tokens.read_text(encoding="utf-8"))
    except InvalidTokens as error:
        raise InvalidSettings(*(f"{settings.tokens}: {problem}" for problem in error.problems)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{settings.tokens} cannot be read: {error}") from None


def read_signing_keys(settings: Settings) -> tuple[SigningKey, ...]:
    """Return the keys that sign checkpoints, none when none is set; raises InvalidSettings."""
    if settings.signing_key_file is None:
        return ()
    try:
        return read_keys(settings.signing_key_file)
    except (InvalidKey, OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{settings.signing_key_file} cannot be used: {error}") from None


def read_receivers(settings: Settings) -> tuple[Receiver, ...]:
    """Return the receivers of webhooks, none when no file is set; raises InvalidSettings."""
    if settings.webhooks is None:
        return ()
    try:
        return parse_receivers(settings.webhooks.read_text(encoding="utf-8"))
    except InvalidWebhooks as error:
        raise InvalidSettings(*(f"{settings.webhooks}: {problem}" for problem in error.problems)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{settings.webhooks} cannot be read: {error}") from None


class Shown(NamedTuple):
    """A setting as it is shown to people: without its secrets."""

    name: str
    value: str
    source: str


def show(settings: Settings) -> list[Shown]:
    """Return every setting with its value and where it came from."""
    written = _written()
    shown: list[Shown] = []
    for field in type(settings).model_fields:
        name = f"{PREFIX}{field.upper()}"
        value: object = getattr(settings, field)
        text = masked(value.get_secret_value()) if isinstance(value, SecretStr) else str(value)
        shown.append(Shown(name, "" if value is None else text, written.get(name, "default")))
    return shown


def slips() -> list[str]:
    """Return what looks like a setting whose name was mistyped, in words."""
    known = [f"{PREFIX}{field.upper()}" for field in Settings.model_fields]
    found: list[str] = []
    for name, source in _written().items():
        if name not in known and (near := get_close_matches(name, known, n=1, cutoff=0.8)):
            found.append(f"{name} ({source}) is no setting; is {near[0]} meant?")
    return found


def _written() -> dict[str, str]:
    """Return the variables with our prefix that have a value, in upper case, each with where it stands."""
    found: dict[str, str] = {}
    sources = ((str(ENV_FILE), DotEnvSettingsSource(Settings)), ("environment", EnvSettingsSource(Settings)))
    for source, reader in sources:
        found.update({name.upper(): source for name, value in reader.env_vars.items() if value})
    return {name: source for name, source in found.items() if name.startswith(PREFIX)}


def _hosts(urls: str) -> list[str]:
    return [urlsplit(url.strip()).hostname or "" for url in urls.split(",")]


def masked(urls: str) -> str:
    """Return URLs, which commas separate, without their passwords and tokens."""
    return ",".join(_masked(url.strip()) for url in urls.split(","))


def _masked(url: str) -> str:
    parts = urlsplit(url)
    user, at, address = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    shown = (
        f"{name if colon else '***'}{':***' if colon else ''}{at}"
        if at and (colon or parts.scheme != "postgresql")
        else user + at
    )
    query = re.sub(r"(?i)(password=)[^&]*", r"\1***", parts.query)
    return urlunsplit(parts._replace(netloc=shown + address, query=query))
