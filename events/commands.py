"""What a caller may ask for: one frozen dataclass for each command (CONTRACT.md, "HTTP, JSON" and "NATS").

The same classes are the wire format: a body, with what stands in an HTTP path added as fields, is validated straight
into them, strictly (no float, string or boolean becomes a number; unknown fields are refused). Code inside the process
may build them directly. The idempotency key is not part of a command; it stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from events.draft import LEDGER
from events.facts import FIGURE_MAX, Status
from events.instants import Instant, parse

LINES_MAX = 1000
TTL_SECONDS_DEFAULT = 300
TTL_SECONDS_MAX = 86_400
METADATA_BYTES_MAX = 4096

_ID = r"\A[A-Za-z0-9_:@-]{1,128}\z"

Id = Annotated[str, Field(pattern=_ID)]


def _check_new_id(text: str) -> str:
    if text.startswith(f"{LEDGER}:"):
        raise ValueError(f"ids that begin with {LEDGER}: are the ledger's own")
    return text


NewId = Annotated[Id, AfterValidator(_check_new_id)]
"""An id that the caller chooses for what the command creates."""
Name = Id
ConsumptionId = Annotated[str, Field(pattern=r"\A[A-Za-z0-9_:@-]{1,160}\z")]
"""A consumption's id; that of a partial step is its reservation's id with a number behind it."""
GrantId = Annotated[str, Field(pattern=r"\A[A-Za-z0-9_:@-]{1,160}\z")]
"""A grant's id; that of a grant that the ledger made itself has a number behind it."""
Amount = Annotated[int, Field(ge=0, le=FIGURE_MAX)]
Positive = Annotated[int, Field(ge=1, le=FIGURE_MAX)]
Quantity = Annotated[int, Field(ge=1, le=10**9)]
Param = Annotated[int, Field(ge=0, le=FIGURE_MAX)] | Annotated[str, Field(min_length=1, max_length=128)]
Params = Annotated[dict[Name, Param], Field(max_length=64)]
Occupies = Annotated[dict[Name, Amount], Field(max_length=64)]
Overrides = Annotated[dict[Name, Amount | None], Field(max_length=64)]
Reference = Annotated[str, Field(min_length=1, max_length=200)]
Reason = Annotated[str, Field(min_length=1, max_length=500)]
When = Annotated[Instant, AfterValidator(parse)]
Overage = Literal["draw", "reject", "cap"]


def _check_metadata(metadata: dict[str, str]) -> dict[str, str]:
    if any(not key.isascii() for key in metadata):
        raise ValueError("keys must be ASCII")
    if sum(len(key) + len(value.encode()) for key, value in metadata.items()) > METADATA_BYTES_MAX:
        raise ValueError(f"at most {METADATA_BYTES_MAX} bytes in all")
    return metadata


Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=128)], str],
    Field(max_length=20),
    AfterValidator(_check_metadata),
]

_STRICT = ConfigDict(strict=True, extra="forbid")
TTL_UNSET = -1
"""The TTL of a body that names none; null is different, it asks for a hold without an end."""


Form = TypeVar("Form")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def _command(form: type[Form]) -> type[Form]:
    """Make a dataclass that the type checker takes for frozen: at run time, a frozen one takes three times as long to build."""
    return dataclass(slots=True, kw_only=True)(form)


@_command
class _OfAccount:
    """What every command has; a body with any other field is refused."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: ClassVar[str]
    account: Id


@_command
class Line:
    """One operation of a reservation or consumption with several."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    operation: Name
    quantity: Quantity | None = None
    params: Params | None = None


@_command
class LineCharge:
    """What a step charges to one line of a hold: an amount, or a quantity priced by the line's pinned rule."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    line: Annotated[int, Field(ge=0, lt=LINES_MAX)]
    amount: Amount | None = None
    quantity: Quantity | None = None
    params: Params | None = None

    def __post_init__(self) -> None:
        if (self.amount is None) == (self.quantity is None):
            raise ValueError("give exactly one of amount, quantity")
        if self.params is not None and self.quantity is None:
            raise ValueError("params go with quantity")


Lines = Annotated[tuple[Line, ...], Field(min_length=1, max_length=LINES_MAX)]
LineCharges = Annotated[tuple[LineCharge, ...], Field(min_length=1, max_length=LINES_MAX)]


def _check_priced(
    operation: str | None, quantity: int | None, params: object, amount: int | None, unit: str | None, lines: object
) -> None:
    if (operation is not None) + (amount is not None) + (lines is not None) != 1:
        raise ValueError("give exactly one of operation, amount, lines")
    if operation is None and (quantity is not None or params is not None):
        raise ValueError("quantity and params go with operation")
    if amount is None and unit is not None:
        raise ValueError("unit goes with amount")


@_command
class Reserve(_OfAccount):
    """Set credits aside and occupy capacity for work that is about to be done."""

    name: ClassVar[str] = "reserve"
    operation: Name | None = None
    quantity: Quantity | None = None
    params: Params | None = None
    amount: Amount | None = None
    unit: Name | None = None
    lines: Lines | None = None
    occupies: Occupies | None = None
    reservation_id: NewId | None = None
    ttl_seconds: Annotated[int, Field(ge=1, le=TTL_SECONDS_MAX)] | None = TTL_UNSET
    overage: Overage | None = None
    reference: Reference | None = None
    metadata: Metadata | None = None
    deadline: When | None = None

    def __post_init__(self) -> None:
        _check_priced(self.operation, self.quantity, self.params, self.amount, self.unit, self.lines)
        if self.amount == 0 and not self.occupies:
            raise ValueError("amount may be 0 only with occupies")


@_command
class Consume(_OfAccount):
    """Charge a step of a reservation; `final` ends it and releases the rest."""

    name: ClassVar[str] = "consume"
    reservation_id: Id
    amount: Amount | None = None
    quantity: Quantity | None = None
    params: Params | None = None
    lines: LineCharges | None = None
    final: bool = True
    deadline: When | None = None

    def __post_init__(self) -> None:
        if (self.amount is not None) + (self.quantity is not None) + (self.lines is not None) > 1:
            raise ValueError("give at most one of amount, quantity, lines")
        if self.params is not None and self.quantity is None:
            raise ValueError("params go with quantity")
        if not self.final and self.amount == 0:
            raise ValueError("amount must be above 0 unless the step is final")
        if self.lines is not None and len({charge.line for charge in self.lines}) != len(self.lines):
            raise ValueError("each line may be named once")


@_command
class ConsumeDirect(_OfAccount):
    """Check and charge in one step, without a reservation."""

    name: ClassVar[str] = "consume"
    operation: Name | None = None
    quantity: Quantity | None = None
    params: Params | None = None
    amount: Positive | None = None
    unit: Name | None = None
    lines: Lines | None = None
    consumption_id: NewId | None = None
    reference: Reference | None = None
    metadata: Metadata | None = None
    deadline: When | None = None

    def __post_init__(self) -> None:
        _check_priced(self.operation, self.quantity, self.params, self.amount, self.unit, self.lines)


@_command
class Release(_OfAccount):
    """End a reservation without a charge."""

    name: ClassVar[str] = "release"
    reservation_id: Id
    reason: Reason | None = None
    deadline: When | None = None


@_command
class Refund(_OfAccount):
    """Give back all or a part of a consumption."""

    name: ClassVar[str] = "refund"
    consumption_id: ConsumptionId
    amount: Amount | None = None
    reason: Reason | None = None
    deadline: When | None = None


@_command
class Cost:
    """What was paid for a grant, in the currency's smallest step."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    amount: Amount
    currency: Annotated[str, Field(pattern=r"\A[A-Za-z]{3}\z")]


@_command
class Grant(_OfAccount):
    """Give credits to an account."""

    name: ClassVar[str] = "grant"
    amount: Positive
    kind: Literal["promo", "purchase", "trial"] = "promo"
    unit: Name | None = None
    priority: Annotated[int, Field(ge=0, le=1000)] | None = None
    effective_at: When | None = None
    expires_at: When | None = None
    operations: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)] | None = None
    reason: Reason | None = None
    reference: Reference | None = None
    cost_basis: Cost | None = None
    grant_id: NewId | None = None
    deadline: When | None = None


@_command
class ChangePlan(_OfAccount):
    """Open an account on a plan, or change its plan or limits; a limit of null is the plan's own again."""

    name: ClassVar[str] = "change_plan"
    plan: Name | None = None
    when: Literal["now", "next_period"] | None = None
    mode: Literal["carry_usage", "reset"] | None = None
    allowance: Overrides | None = None
    capacity: Overrides | None = None
    reference: Reference | None = None
    reason: Reason | None = None
    deadline: When | None = None

    def __post_init__(self) -> None:
        if self.plan is None and not self.allowance and not self.capacity:
            raise ValueError("give a plan, or allowance or capacity to override")
        if self.mode == "reset" and (self.plan is None or self.reference is None):
            raise ValueError("a reset needs a plan, and the reference of its payment")


@_command
class Extend(_OfAccount):
    """Let a reservation live longer, hold more, or occupy other capacity."""

    name: ClassVar[str] = "extend"
    reservation_id: Id
    ttl_seconds: Annotated[int, Field(ge=1, le=TTL_SECONDS_MAX)] | None = None
    amount: Amount | None = None
    occupies: Occupies | None = None
    deadline: When | None = None


@_command
class Revoke(_OfAccount):
    """Take back what is left of a grant."""

    name: ClassVar[str] = "revoke"
    grant_id: GrantId
    reason: Reason
    deadline: When | None = None


@_command
class Adjust(_OfAccount):
    """Add credits or take some away; `insufficient` says what becomes of an amount that is not there to be taken."""

    name: ClassVar[str] = "adjust"
    amount: Annotated[int, Field(ge=-FIGURE_MAX, le=FIGURE_MAX)]
    reason: Reason
    unit: Name | None = None
    insufficient: Literal["reject", "clamp", "debt"] | None = None
    reference: Reference | None = None
    deadline: When | None = None

    def __post_init__(self) -> None:
        if self.amount == 0:
            raise ValueError("amount must not be 0")


@_command
class SetStatus(_OfAccount):
    """Freeze an account, close it, or let it be active again."""

    name: ClassVar[str] = "set_status"
    status: Status
    reason: Reason
    deadline: When | None = None


@_command
class Sweep:
    """Write what is due in an account, and nothing else (SEMANTICS.md section 2): the ledger's own, not a caller's."""

    name: ClassVar[str] = "system"
    account: Id
    deadline: None = None


@_command
class Renew(_OfAccount):
    """Count a payment for the period that contains now, or shortly before its end for the next one."""

    name: ClassVar[str] = "renew"
    reference: Reference
    period_start: When | None = None
    deadline: When | None = None


@_command
class ResetUsage(_OfAccount):
    """Give back all that the present period consumed, of one unit or of all."""

    name: ClassVar[str] = "reset_usage"
    reason: Reason
    unit: Name | None = None
    deadline: When | None = None


Command = (
    Reserve
    | Consume
    | ConsumeDirect
    | Release
    | Extend
    | Refund
    | Grant
    | Revoke
    | Adjust
    | ChangePlan
    | SetStatus
    | Renew
    | ResetUsage
    | Sweep
)

COMMANDS: dict[str, tuple[type[Command], ...]] = {
    "reserve": (Reserve,),
    "consume": (Consume, ConsumeDirect),
    "release": (Release,),
    "extend": (Extend,),
    "refund": (Refund,),
    "grant": (Grant,),
    "revoke": (Revoke,),
    "adjust": (Adjust,),
    "change_plan": (ChangePlan,),
    "set_status": (SetStatus,),
    "renew": (Renew,),
    "reset_usage": (ResetUsage,),
}
"""The commands by name. `consume` has two forms; a body with `reservation_id` is the first."""

_ADAPTERS: dict[type[Command], TypeAdapter[Any]] = {
    form: TypeAdapter(form) for forms in COMMANDS.values() for form in forms
}


def parse_command(name: str, canonical: bytes, *, on_reservation: bool) -> Command:
    """Return the command `name` of a JSON body; raises pydantic.ValidationError, and KeyError for an unknown name."""
    forms = COMMANDS[name]
    form = forms[-1] if name == "consume" and not on_reservation else forms[0]
    return _ADAPTERS[form].validate_json(canonical)
