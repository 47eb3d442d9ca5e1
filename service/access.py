"""Who may do what: tokens, calling services, scopes, and the accounts in reach (CONTRACT.md, "Authentication").

Access is the same for every transport. HTTP shows a token, whose SHA-256 stands in the TOKENS file with a name and
scopes; over NATS the broker vouches for the caller's name, and the file says what that name may do. Both become a
`Principal`, which is asked for a scope before anything is read, and for the account before anything is done with it.
An account outside of a token's prefixes does not exist for it, in the same words that any unknown account gets.

    [[token]]
    name = "checkout"            # becomes the actor of its events; two tokens may share it, so that one can be replaced
    sha256 = "9f86d0..."         # of the token, which is stored nowhere
    scopes = ["read", "spend"]
    accounts = ["shop-"]         # prefixes; left out: every account

    [[caller]]
    name = "renderer"            # the <caller> of credits.cmd.<caller>.<command>
    scopes = ["spend"]

With AUTH=off there is nothing to show: HTTP acts as `dev`, NATS callers as themselves, both with all scopes.
"""

from __future__ import annotations

import hmac
import secrets
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from events.commands import Id
from events.errors import AccountNotFound, InvalidRequest, Refusal
from service.correctable import Correctable

Scope = Literal["read", "spend", "grant", "admin:read", "admin:write", "audit"]
ON_BEHALF_OF_CHARACTERS_MAX = 200
SCOPES: frozenset[Scope] = frozenset(get_args(Scope))

COMMAND_SCOPES: Mapping[str, Scope] = {
    "reserve": "spend",
    "consume": "spend",
    "release": "spend",
    "extend": "spend",
    "refund": "spend",
    "grant": "grant",
    "revoke": "admin:write",
    "adjust": "admin:write",
    "change_plan": "admin:write",
    "set_status": "admin:write",
    "renew": "grant",
    "reset_usage": "admin:write",
}
"""What a caller needs for each command, whatever transport it comes by."""

_OF_ONE = (
    *("account", "balance", "quota", "check", "quote", "outcome", "catalog"),
    *("reservations", "grants", "consumptions", "transactions", "explain", "statement", "usage", "forecast"),
)
_OF_ADMINS = ("accounts", "audit", "usage_of_all", "finance_summary", "reserve_hints", "hold_leaks")
QUERY_SCOPES: Mapping[str, Scope] = {
    **dict[str, Scope].fromkeys(_OF_ONE, "read"),
    **dict[str, Scope].fromkeys(_OF_ADMINS, "admin:read"),
}
"""What a caller needs for each query: `read` for one account by its id, the catalog or a price."""


def is_loopback(host: str) -> bool:
    """Say whether a host's address can be reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_on_behalf_of(name: str) -> str:
    """Return for whom a caller says it acts, as events record it; raises InvalidRequest for what none should hold."""
    if not (name.isascii() and name.isprintable() and 0 < len(name) <= ON_BEHALF_OF_CHARACTERS_MAX):
        raise InvalidRequest.at(
            "On-Behalf-Of", f"the header has 1 to {ON_BEHALF_OF_CHARACTERS_MAX} printable ASCII characters"
        )
    return name


class Unauthenticated(Refusal):
    """There is no token, or none that the ledger knows."""

    code = "unauthenticated"
    status = 401
    title = "Not authenticated"


class Forbidden(Refusal):
    """The token or caller is known, and lacks the scope that `scope` names."""

    code = "forbidden"
    status = 403
    title = "Not allowed"


class InvalidTokens(Correctable, ValueError):
    """The TOKENS file is not valid; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("the tokens are not valid:\n" + "\n".join(f"  {problem}" for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts: a name for the events, the scopes, and the prefixes of the accounts in reach (None: all)."""

    name: str
    scopes: frozenset[Scope]
    prefixes: tuple[str, ...] | None = None

    def may(self, scope: Scope) -> bool:
        """Say whether the principal has a scope."""
        return scope in self.scopes

    def require(self, scope: Scope) -> None:
        """Raise Forbidden unless the principal has a scope."""
        if scope not in self.scopes:
            raise Forbidden(f"{self.name} lacks the scope {scope}", scope=scope)

    def reaches(self, account: str) -> bool:
        """Say whether an account is one that the principal may know of."""
        return self.prefixes is None or account.startswith(self.prefixes)

    def admit(self, account: str) -> None:
        """Raise AccountNotFound for an account out of reach, as if it did not exist."""
        if not self.reaches(account):
            raise AccountNotFound(f"there is no account {account}", account=account)

    def admit_query(self, name: str, fields: Mapping[str, object]) -> None:
        """Raise Forbidden when a query's fields ask for more than the query alone: an account with its audit entries."""
        if name == "account" and "audit" in str(fields.get("include") or ""):
            self.require(QUERY_SCOPES["audit"])

    def admit_command(self, name: str, account: str | None) -> None:
        """Raise Forbidden unless the principal may send a command, and AccountNotFound for an account out of reach.

        What has no scope is unknown, which others will say.
        """
        scope = COMMAND_SCOPES.get(name)
        if scope is not None:
            self.require(scope)
        if account is not None:
            self.admit(account)


DEVELOPER = Principal("dev", SCOPES)
"""Who acts over HTTP with AUTH=off."""


class Access:
    """Finds the principal behind a request."""

    def __init__(
        self,
        tokens: Mapping[bytes, Principal] | None = None,
        callers: Mapping[str, Principal] | None = None,
        *,
        is_open: bool = False,
    ) -> None:
        """Take tokens by the 32 bytes of their SHA-256, and callers by name; `is_open` is AUTH=off."""
        self.is_open = is_open
        self._tokens = {digest: (digest, principal) for digest, principal in (tokens or {}).items()}
        self._callers = dict(callers or {})

    @classmethod
    def open(cls) -> Access:
        """Return what AUTH=off stands for: everybody may do everything."""
        return cls(is_open=True)

    @classmethod
    def parse(cls, text: str) -> Access:
        """Return the access that a TOKENS file grants; raises InvalidTokens with all that is wrong."""
        try:
            file = _File.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise InvalidTokens([f"not TOML: {error}"]) from None
        except ValidationError as error:
            raise InvalidTokens(_problems(error)) from None
        if repeated := [*_repeated(file)]:
            raise InvalidTokens(repeated)
        return cls(
            {
                bytes.fromhex(token.sha256): Principal(
                    token.name, frozenset(token.scopes), None if token.accounts is None else tuple(token.accounts)
                )
                for token in file.token
            },
            {caller.name: Principal(caller.name, frozenset(caller.scopes)) for caller in file.caller},
        )

    def authenticate(self, header: str | None) -> Principal:
        """Return who shows this `Authorization` header; raises Unauthenticated."""
        if self.is_open:
            return DEVELOPER
        if header is None:
            raise Unauthenticated("the header `Authorization: Bearer <token>` is missing")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not header.isascii():
            raise Unauthenticated("the header must be `Authorization: Bearer <token>`")
        digest = sha256(token.strip().encode()).digest()
        # How long the search takes tells of the digest at most, which nobody can choose.
        known, principal = self._tokens.get(digest, (b"", DEVELOPER))
        if not hmac.compare_digest(known, digest):
            raise Unauthenticated("the token is not known")
        return principal

    @property
    def callers(self) -> Mapping[str, Principal]:
        """The calling services that are known by name."""
        return self._callers

    def caller(self, name: str) -> Principal:
        """Return the calling service of this name, which the broker vouches for; an unknown one has no scopes."""
        if self.is_open:
            return Principal(name, SCOPES)
        return self._callers.get(name) or Principal(name, frozenset())


class NewToken(NamedTuple):
    """A token, to be shown once, and the entry that makes it known."""

    token: str
    entry: str


def create_token(name: str, scopes: Sequence[str], accounts: Sequence[str] = ()) -> NewToken:
    """Return a new token and its entry for the TOKENS file; raises InvalidTokens."""
    token = f"cl_{secrets.token_urlsafe(32)}"
    fields: dict[str, object] = {
        "name": name,
        "sha256": sha256(token.encode()).hexdigest(),
        "scopes": list(dict.fromkeys(scopes)),
    }
    if accounts:
        fields["accounts"] = list(accounts)
    try:
        _File.model_validate({"token": [fields]})
    except ValidationError as error:
        raise InvalidTokens(_problems(error)) from None
    lines = [f"{field} = {_toml(value)}" for field, value in fields.items()]
    return NewToken(token, "\n".join(["[[token]]", *lines, ""]))


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    name: Id
    scopes: Annotated[list[Scope], Field(min_length=1)]


class _Token(_Entry):
    sha256: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
    accounts: Annotated[list[Id], Field(min_length=1)] | None = None


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    token: list[_Token] = Field(default_factory=list[_Token])
    caller: list[_Entry] = Field(default_factory=list[_Entry])


def _problems(error: ValidationError) -> list[str]:
    """Return what pydantic found, each behind the entry, counted from 1, and the field that it is about."""
    found: list[str] = []
    for problem in error.errors(include_url=False, include_input=False):
        place = " ".join(str(part + 1 if isinstance(part, int) else part) for part in problem["loc"])
        found.append(f"{place}: {problem['msg']}" if place else problem["msg"])
    return found


def _repeated(file: _File) -> Iterator[str]:
    """Yield what stands twice: a digest would belong to two names, and a caller would have two sets of scopes."""
    digests: set[str] = set()
    for number, token in enumerate(file.token, 1):
        if token.sha256 in digests:
            yield f"token {number} sha256: stands in another entry too"
        digests.add(token.sha256)
    names: set[str] = set()
    for number, caller in enumerate(file.caller, 1):
        if caller.name in names:
            yield f"caller {number} name: {caller.name} stands in another entry too"
        names.add(caller.name)


def _toml(value: object) -> str:
    """Return a string or a list of strings as TOML; their characters need no escape, which was checked."""
    if isinstance(value, list):
        return "[" + ", ".join(f'"{entry}"' for entry in value) + "]"  # pyright: ignore[reportUnknownVariableType]
    return f'"{value}"'
