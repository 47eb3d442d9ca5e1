"""The catalog: what a product sells, read from one TOML file, checked whole, and never changed afterwards.

A catalog names units, capacities, plans, operations and packs (SEMANTICS.md section 1; the format is the last section
of CONTRACT.md). `parse_catalog` is the only way in. It reads the text, lets pydantic check the shape of every table,
checks what one table says about another (a plan's allowance is of a unit that exists), and either answers a `Catalog`
or raises `InvalidCatalog` with every problem found, each behind the path of the field. Nothing is converted: an
integer is an integer, a decimal is a string, and a field that is not known is a typing error, not a remark.

Figures are bounded here once, so that no later command can be surprised by them. The units always contain `credits`.
What a catalog leaves out has the value that CONTRACT.md shows, written below as defaults.

`hash` is SHA-256 over the RFC 8785 JSON of the content as written, not of what it was completed to: comments, layout
and the order of tables do not count, and a default that a later release adds does not make a stored version differ
from its own file. Keys are ASCII and numbers are integers once the checks have passed, so sorting keys is all that
RFC 8785 asks beyond plain JSON.

The dataclasses are frozen; their dictionaries are shared and must not be changed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any, ClassVar, Final, Literal, cast

import msgspec
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from events.periods import parse_interval
from events.pricing import FIGURE_MAX, PriceRule, canonical_decimal

CREDITS: Final = "credits"
CATALOG_CHARACTERS_MAX: Final = 1_048_576
GRACE_SECONDS_DEFAULT: Final = 30
FREE_FIELDS: Final = frozenset({"free", "title", "description"})
PRICE_FIELDS: Final = ("base", "each", "per_1k", "occupies", "occupies_each")


class InvalidCatalog(ValueError):
    """The catalog is not valid; `problems` lists everything that is wrong with it, each as `path: message`."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("the catalog is not valid:\n" + "\n".join(f"  {problem}" for problem in self.problems))


def _matching(pattern: str, message: str) -> AfterValidator:
    """A check that the whole text has the form of `pattern`."""
    form = re.compile(pattern)

    def check(text: str) -> str:
        if form.fullmatch(text) is None:
            raise ValueError(message)
        return text

    return AfterValidator(check)


def _interval(text: str) -> str:
    """The interval as written, once it is known to be one."""
    parse_interval(text)
    return text


def _share(text: str) -> str:
    """The canonical decimal of a share, from 0 to 1."""
    share = canonical_decimal(text)
    if share not in ("0", "1") and not share.startswith("0."):
        raise ValueError('a share lies between "0" and "1"')
    return share


def _integer(value: object) -> object:
    """The value, unless it is a number that only equals an integer: 402.0 is not 402."""
    if isinstance(value, float):
        raise ValueError("must be an integer")  # noqa: TRY004 - pydantic reports ValueError with its path
    return value


def _named(tables: object) -> object:
    """The tables of a section, each told its own name; what is not a table is left for the shape's check to refuse."""
    if not isinstance(tables, dict):
        return tables
    sections = cast("dict[str, object]", tables)
    return {
        name: {"name": name, **cast("dict[str, object]", table)} if isinstance(table, dict) else table
        for name, table in sections.items()
    }


Text = Annotated[str, Field(strict=True)]
Name = Annotated[Text, _matching("[A-Za-z0-9_:@-]{1,128}", "a name is 1 to 128 letters, digits, _ : @ or -")]
Version = Annotated[Text, _matching("[A-Za-z0-9_.:@-]{1,128}", "a version is 1 to 128 letters, digits, . _ : @ or -")]
Code = Annotated[Text, _matching("[A-Za-z0-9_]{1,64}", "a code is 1 to 64 letters, digits or _")]
Currency = Annotated[Text, _matching("[a-z]{3}", 'a currency is three lower-case letters, such as "usd"')]
Prose = Annotated[Text, _matching(r"[^\x00]{1,2000}", "a text is 1 to 2000 characters, without NUL")]
DecimalText = Annotated[Text, AfterValidator(canonical_decimal)]
Share = Annotated[Text, AfterValidator(_share)]
IntervalText = Annotated[Text, AfterValidator(_interval)]
Flag = Annotated[bool, Field(strict=True)]
Integer = Annotated[int, Field(strict=True)]
Amount = Annotated[Integer, Field(ge=0, le=FIGURE_MAX)]
PositiveAmount = Annotated[Integer, Field(ge=1, le=FIGURE_MAX)]
Days = Annotated[Integer, Field(ge=1, le=36_500)]
Amounts = Annotated[dict[Name, Amount], Field(max_length=256)]
Factors = Annotated[dict[Name, DecimalText], Field(min_length=1, max_length=256)]

_CLOSED: Final = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """A table of the file: what it does not know, it refuses. A title and a description are for pages and people."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    title: Prose | None = None
    description: Prose | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit(_Table):
    """What a balance counts; `scale` is the number of decimals that a page shows, figures stay in the smallest step."""

    scale: Annotated[Integer, Field(ge=0, le=12)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity(_Table):
    """Something that can be occupied, not consumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Money, for pages and checkout: an amount in the currency's smallest step."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    amount: Amount
    currency: Currency


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Credits that an account gets once in its life; they do not expire when `expires_days` is None."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    credits: Amount = 0
    expires_days: Days | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollover:
    """How much of a period's unheld allowance goes on: `min(cap, floor(remainder x share))`."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    share: Share = "0"
    cap: Amount = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(_Table):
    """Rank, allowance by unit in a period, limits by capacity, and the policies of SEMANTICS.md section 7."""

    name: Text
    rank: Annotated[Integer, Field(ge=0, le=1_000_000)] = 0
    allowance: Amounts = field(default_factory=dict[str, int])
    capacity: Amounts = field(default_factory=dict[str, int])
    interval: IntervalText = "month"
    renewal: Literal["auto", "external"] = "auto"
    trial: Trial = Trial()
    rollover: Rollover = Rollover()
    clear_bonus: Flag = False
    overdraft_limit: Amount = 0
    max_open_holds: Annotated[Integer, Field(ge=0, le=1_000_000)] = 1000
    low_balance_percent: Annotated[Integer, Field(ge=0, le=100)] = 20
    renewal_grace_days: Annotated[Integer, Field(ge=0, le=366)] = 3
    late_window_hours: Annotated[Integer, Field(ge=0, le=8_784)] = 72
    price: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack(_Table):
    """Credits that are sold at once; `credits` counts in `unit`."""

    name: Text
    credits: PositiveAmount
    unit: Name = CREDITS
    price: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(_Table):
    """What a product does and what it costs; `ttl_seconds` None is the ledger's own default for a hold."""

    name: str
    free: bool
    unit: str
    price: PriceRule
    occupies: dict[str, int]
    occupies_each: dict[str, int]
    ttl_seconds: int | None
    grace_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _OperationTable(_Table):
    """An operation as the file writes it, its price rule spread over the table."""

    free: Flag = False
    unit: Name = CREDITS
    base: DecimalText = "0"
    each: DecimalText = "0"
    per_1k: Annotated[dict[Name, DecimalText], Field(max_length=64)] = field(default_factory=dict[str, str])
    multipliers: Annotated[dict[Name, Factors], Field(max_length=64)] = field(default_factory=dict[str, dict[str, str]])
    occupies: Annotated[dict[Name, PositiveAmount], Field(max_length=64)] = field(default_factory=dict[str, int])
    occupies_each: Annotated[dict[Name, PositiveAmount], Field(max_length=64)] = field(default_factory=dict[str, int])
    ttl_seconds: Annotated[Integer, Field(ge=1, le=86_400)] | None = None
    grace_seconds: Annotated[Integer, Field(ge=0, le=300)] = GRACE_SECONDS_DEFAULT

    def resolved(self, name: str, catalog: str) -> Operation:
        """The operation of this name, with the price rule that a hold of this catalog version pins."""
        return Operation(
            name=name,
            free=self.free,
            unit=self.unit,
            price=PriceRule(
                catalog=catalog, base=self.base, each=self.each, per_1k=self.per_1k, multipliers=self.multipliers
            ),
            occupies=self.occupies,
            occupies_each=self.occupies_each,
            ttl_seconds=self.ttl_seconds,
            grace_seconds=self.grace_seconds,
            title=self.title,
            description=self.description,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole:
    """What a file and a catalog have in common."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    version: Version
    default_plan: Name | None = None
    units: Annotated[dict[Name, Unit], Field(max_length=256)] = field(default_factory=dict[str, Unit])
    capacities: Annotated[dict[Name, Capacity], Field(max_length=256)] = field(default_factory=dict[str, Capacity])
    plans: Annotated[dict[Name, Plan], BeforeValidator(_named), Field(max_length=256)] = field(
        default_factory=dict[str, Plan]
    )
    packs: Annotated[dict[Name, Pack], BeforeValidator(_named), Field(max_length=256)] = field(
        default_factory=dict[str, Pack]
    )
    insufficient_credits_message: Prose = "Not enough credits. Upgrade your plan for more."
    insufficient_credits_status: Annotated[Literal[402, 429], BeforeValidator(_integer)] = 402
    insufficient_credits_code: Code = "insufficient_credits"


@dataclass(frozen=True, slots=True, kw_only=True)
class _File(_Whole):
    """The file as a whole."""

    operations: Annotated[dict[Name, _OperationTable], Field(max_length=10_000)] = field(
        default_factory=dict[str, _OperationTable]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog(_Whole):
    """One version of units, capacities, plans, operations and packs; `hash` is 64 lower-case hex digits."""

    hash: str
    operations: dict[str, Operation]

    def operation(self, name: str) -> Operation:
        """The operation of this name; KeyError when the catalog lists none."""
        return self.operations[name]

    def plan(self, name: str) -> Plan:
        """The plan of this name; KeyError when the catalog lists none."""
        return self.plans[name]


_FILE: Final = TypeAdapter(_File)
_CANONICAL: Final = msgspec.json.Encoder(order="sorted")


def parse_catalog(text: str) -> Catalog:
    """Return the catalog that a TOML text describes; InvalidCatalog, with every problem, when it is not one."""
    content = _read(text)
    try:
        file = _FILE.validate_python(content)
    except ValidationError as error:
        raise InvalidCatalog(_shape_problems(error)) from None
    units = {CREDITS: Unit(), **file.units}
    problems = [
        *_plan_problems(file, units, content),
        *_operation_problems(file, units, content),
        *_pack_problems(file, units),
    ]
    if problems:
        raise InvalidCatalog(problems)
    return Catalog(
        version=file.version,
        hash=sha256(_CANONICAL.encode(content)).hexdigest(),
        units=units,
        capacities=file.capacities,
        default_plan=file.default_plan,
        plans=file.plans,
        operations={name: table.resolved(name, file.version) for name, table in file.operations.items()},
        packs=file.packs,
        insufficient_credits_message=file.insufficient_credits_message,
        insufficient_credits_status=file.insufficient_credits_status,
        insufficient_credits_code=file.insufficient_credits_code,
    )


def _read(text: str) -> dict[str, Any]:
    """The content of a TOML text."""
    if len(text) > CATALOG_CHARACTERS_MAX:
        raise InvalidCatalog([f"catalog: is longer than {CATALOG_CHARACTERS_MAX} characters"])
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InvalidCatalog(["catalog: is nested too deeply"]) from None
    except ValueError as error:
        raise InvalidCatalog([f"catalog: is not TOML: {str(error).partition(';')[0]}"]) from None


def _shape_problems(error: ValidationError) -> Iterator[str]:
    """What pydantic found, in the words of the file."""
    words = {
        "unexpected_keyword_argument": "is not a field that the catalog knows",
        "missing": "is required",
        "dataclass_type": "must be a table",
        "dict_type": "must be a table",
        "int_type": "must be an integer, neither a decimal nor a boolean nor a string",
        "string_type": "must be a string in quotes",
        "bool_type": "must be true or false",
    }
    for problem in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        message = words.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
        yield f"{path or 'catalog'}: {message}"


def _plan_problems(file: _File, units: dict[str, Unit], content: dict[str, Any]) -> Iterator[str]:
    """What the plans say that the rest of the file contradicts."""
    if file.default_plan is not None and file.default_plan not in file.plans:
        yield f"default_plan: there is no plan {file.default_plan}"
    for name, plan in file.plans.items():
        path = f"plans.{name}"
        if plan.name != name:
            yield f"{path}.name: the table's own name is the plan's name; leave this out"
        if len(file.plans) > 1 and "rank" not in content["plans"][name]:
            yield f"{path}.rank: is required when there are several plans; it tells an upgrade from a downgrade"
        yield from _undefined(f"{path}.allowance", plan.allowance, units, "unit")
        yield from _undefined(f"{path}.capacity", plan.capacity, file.capacities, "capacity")


def _operation_problems(file: _File, units: dict[str, Unit], content: dict[str, Any]) -> Iterator[str]:
    """What the operations say that the rest of the file contradicts."""
    for name, table in file.operations.items():
        path, written = f"operations.{name}", set[str](content["operations"][name])
        if table.free:
            yield from (
                f"{path}.{key}: a free operation writes nothing, so it has none"
                for key in sorted(written - FREE_FIELDS)
            )
            continue
        if written.isdisjoint(PRICE_FIELDS):
            yield f'{path}: has no price; write each = "1", or free = true when it costs nothing'
        yield from _undefined(f"{path}.unit", (table.unit,), units, "unit")
        yield from _undefined(f"{path}.occupies", table.occupies, file.capacities, "capacity")
        yield from _undefined(f"{path}.occupies_each", table.occupies_each, file.capacities, "capacity")
        for param in sorted(table.per_1k.keys() & table.multipliers.keys()):
            yield f"{path}.multipliers.{param}: is also a count in per_1k; a param is one or the other"


def _pack_problems(file: _File, units: dict[str, Unit]) -> Iterator[str]:
    """What the packs say that the rest of the file contradicts."""
    for name, pack in file.packs.items():
        if pack.name != name:
            yield f"packs.{name}.name: the table's own name is the pack's name; leave this out"
        yield from _undefined(f"packs.{name}.unit", (pack.unit,), units, "unit")


def _undefined(path: str, names: Iterable[str], defined: dict[str, Any], what: str) -> Iterator[str]:
    """A problem for each name that no table defines."""
    section = "units" if what == "unit" else "capacities"
    return (f"{path}: there is no {what} {name}; add [{section}.{name}]" for name in names if name not in defined)
