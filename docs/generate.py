"""Writes the reference pages from the code, so that they cannot say anything else.

    .venv/bin/python docs/generate.py          write docs/reference/
    .venv/bin/python docs/generate.py --check  exit 1 when one of them is out of date

`make test` runs the check.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from events import commands, facts
from events.recorded import TYPE_OF
from service import access, asyncapi
from service.http.routes import ROUTES
from service.openapi import document as openapi
from service.openapi import problems
from service.settings import PREFIX, Settings, UpSettings

FOLDER = Path(__file__).parent / "reference"
RULES = Path(__file__).parent / "rules.toml"
FIELDS = Path(__file__).parent / "fields.toml"
NOTICE = "<!-- Written by docs/generate.py; change the code, not this page. -->"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def first_sentence(thing: object) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def errors_page() -> str:
    """Every refusal and outage, with its code and status."""
    kinds = sorted(problems.KINDS.values(), key=lambda kind: (kind.status, kind.code))
    rows = [(str(kind.status), f"`{kind.code}`", kind.title, kind.meaning) for kind in kinds]
    return (
        "# Errors\n\nOver HTTP an error is `application/problem+json` with `type`, `title`, `status`, `code`, `detail` and the fields"
        " that help; over NATS the same body comes with the headers `Nats-Service-Error-Code` (the status) and"
        " `Nats-Service-Error` (the code). A 503 may be sent again with the same key.\n\n"
        + table(("status", "code", "title", "meaning"), rows)
    )


def routes_page() -> str:
    """Every route of HTTP, from the table that the router is built from."""
    open_to = {"batch": "that of each command"}
    rows = [
        (route.method, f"`{route.path}`", route.name, route.scope or open_to.get(route.kind, "open"))
        for route in ROUTES
    ]
    return "# HTTP routes\n\n" + table(("method", "path", "command or query", "scope"), rows)


def commands_page() -> str:
    """Every command with its fields, and what each means."""
    parts = [
        (
            "# Commands\n\nThe fields of each command; those in bold are required. Over HTTP those that stand in the path are left out of"
            " the body.\n\nAn id or a name is 1 to 128 letters, digits and `_ : @ -`. An instant is RFC 3339 with an offset, such as"
            " `2026-11-01T09:30:00Z`. Integers go up to 2^53-1 unless said otherwise; a price's figures may be decimal texts. A `reference` has up to"
            " 200 characters, a `reason` up to 500. The exact types are in [openapi.json](openapi.json)."
        )
    ]
    meanings = tomllib.loads(FIELDS.read_text(encoding="utf-8"))
    for name, forms in commands.COMMANDS.items():
        for form in forms:
            is_direct = form is commands.ConsumeDirect
            title = f"## `{name}`" + (" without a reservation" if is_direct else "")
            own = {**meanings["all"], **meanings.get("consume_direct" if is_direct else name, {})}
            rows = [
                (
                    f"**`{field.name}`**" if field.default is dataclasses.MISSING else f"`{field.name}`",
                    _in_words(str(field.type)),
                    own[field.name],
                )
                for field in dataclasses.fields(form)
            ]
            parts.append(f"{title}\n\n{first_sentence(form)}\n\n{table(('field', 'type', 'meaning'), rows)}")
    return "\n\n".join(parts)


TYPES = {
    **dict.fromkeys(("Id", "NewId", "Name", "ConsumptionId", "GrantId"), "id"),
    **dict.fromkeys(("Params", "Occupies", "Overrides", "Metadata", "Cost"), "object"),
    **dict.fromkeys(("Lines", "LineCharges"), "list of objects"),
    **dict.fromkeys(("Reference", "Reason"), "text"),
    "Amount": "integer from 0",
    "Positive": "integer from 1",
    "Quantity": "integer, 1 to 1,000,000,000",
    "When": "instant",
    "Overage": "`draw`, `reject`, `cap`",
    "Status": "`active`, `frozen`, `closed`",
    "bool": "true or false",
    "Annotated[int, Field(ge=1, le=TTL_SECONDS_MAX)]": f"integer, 1 to {commands.TTL_SECONDS_MAX}",
    "Annotated[int, Field(ge=0, le=1000)]": "integer, 0 to 1000",
    "Annotated[int, Field(ge=-FIGURE_MAX, le=FIGURE_MAX)]": "integer, not 0",
    "Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)]": "list of ids, 1 to 100",
}


def _in_words(annotation: str) -> str:
    """Return a field's type for people who know no Python."""
    kind = annotation.removesuffix(" | None")
    choices = re.fullmatch(r"Literal\[(.*)\]", kind)
    return (
        TYPES[kind]
        if choices is None
        else ", ".join(f"`{each}`" for each in re.findall(r"'(.*?)'", choices[1].replace('"', "'")))
    )


def events_page() -> str:
    """The data of the five event types."""
    kinds = {
        facts.Granted: facts.GrantedKind,
        facts.Reserved: facts.ReservedKind,
        facts.Consumed: facts.ConsumedKind,
        facts.Refunded: facts.RefundedKind,
        facts.PlanChanged: facts.PlanChangedKind,
    }
    parts = [
        (
            "# Events\n\nThe `data` of each type. Fields marked optional are left out when they are empty. What each event does to a balance,"
            " and what stands around `data`, is in [The format of the log](log-format.md); the [schemas](events/) are for programs."
        )
    ]
    named: list[type] = []
    for data, name in TYPE_OF.items():
        listed = ", ".join(f"`{kind}`" for kind in kinds[data].__args__)
        parts.append(f"## `{name}`\n\n{first_sentence(data)}\n\nKinds: {listed}.\n\n{_fields(data, named)}")
    parts.append("## Parts of events")
    parts += [f"### {part.__name__}\n\n{first_sentence(part)}\n\n{_fields(part, named)}" for part in named]
    return "\n\n".join(parts)


def _fields(data: type, named: list[type]) -> str:
    """Return the table of a record's fields; the records that its types name are added to those that are `named`."""
    types = inspect.get_annotations(data)
    rows = [
        (
            f"`{field.encode_name}`",
            "" if field.required else "optional",
            _of_event(str(types[field.name]), data, named),
        )
        for field in msgspec.structs.fields(data)
    ]
    return table(("field", "", "type"), rows)


PLAIN = {
    "int": "integer",
    "str": "text",
    "bool": "true or false",
    "Instant": "instant",
    "AuditValue": "text, number, true, false, null or limits",
}


def _of_event(annotation: str, data: type, named: list[type]) -> str:
    """Return a type for people who know no Python."""
    kind, _, _ = annotation.partition(" | None")
    null = " or null" if annotation != kind else ""
    inner = re.fullmatch(r"(list|dict|Literal|tuple)\[(.*)\]", kind)
    if inner is None:
        words = [PLAIN.get(each) or _named(each, data, named) for each in kind.split(" | ")]
        return " or ".join(words) + null
    if inner[1] == "Literal":
        return ", ".join(f"`{each}`" for each in re.findall(r"['\"](.*?)['\"]", inner[2])) + null
    if inner[1] == "dict":
        return f"{_of_event(inner[2].removeprefix('str, '), data, named)}, by name{null}"
    if inner[1] == "tuple":
        return f"({', '.join(_of_event(each, data, named) for each in inner[2].split(', '))}){null}"
    return f"list of {_of_event(inner[2], data, named)}{null}"


def _named(name: str, data: type, named: list[type]) -> str:
    found = getattr(sys.modules[data.__module__], name)
    if not (isinstance(found, type) and issubclass(found, msgspec.Struct)):
        return _of_event(str(found).replace("typing.", ""), data, named)
    if found not in named:
        named.append(found)
    return f"[{name}](#{name.lower()})"


def configuration_page() -> str:
    """Every setting with its defaults."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        up = UpSettings.model_fields[name].default
        up = Path(up).name if isinstance(up, Path) else up
        rows.append((f"`{PREFIX}{name.upper()}`", default, "" if up == field.default else f"`{up}`", SETTINGS[name]))
    return (
        "# Configuration\n\nFrom the environment or `.env` in the working directory; an option on the command line wins."
        " `credit-ledger check-config` shows what is in force and where it came from.\n\n"
        + table(("setting", "default", "default of `up`", "meaning"), rows)
        + "\n\n## Tokens\n\n`LEDGER_TOKENS` names a TOML file. `credit-ledger token create --name checkout --scope spend` prints a token"
        " once, and the entry to add. The file is read at the start, so a change needs a restart. To replace a token, add an entry of the"
        f" same name, restart, let its owner change over, and remove the old one.\n\n{TOKENS}\n\nScopes: "
        + ", ".join(f"`{scope}`" for scope in sorted(access.SCOPES))
        + ".\n\n"
        + table(("command", "scope"), [(f"`{name}`", f"`{scope}`") for name, scope in access.COMMAND_SCOPES.items()])
        + "\n\nEvery query about an account, the catalog or a price needs `read`; the list of accounts, audit entries and what adds up all"
        " accounts need `admin:read`; the log (`GET /v1/events`) needs `audit`."
    )


def semantics_page() -> str:
    """Every rule of the domain with the tests that hold it, from docs/rules.toml."""
    content = tomllib.loads(RULES.read_text(encoding="utf-8"))
    rules: list[dict[str, Any]] = content["rules"]
    head = (
        f"# The rules, and the tests that hold them\n\n{len(rules)} rules in the words of this ledger, by the sections of its"
        " semantics. `tests/test_rules.py` checks that each has a test and that each test is there."
    )
    parts = [head]
    for section, title in content["sections"].items():
        own = [rule for rule in rules if str(rule["section"]) == section]
        rows = [
            (
                f"{section}.{number}",
                rule["says"],
                "<br>".join(f"`{test.removeprefix('tests/')}`" for test in rule["tests"]),
            )
            for number, rule in enumerate(own, 1)
        ]
        parts.append(f"## {section}. {title}\n\n{table(('', 'rule', 'tests, below `tests/`'), rows)}")
    return "\n\n".join(parts)


TOKENS = """```toml
[[token]]                      # who calls over HTTP
name = "checkout"              # the actor of its events
sha256 = "9f86d0..."           # of the token, which is stored nowhere
scopes = ["read", "spend"]
accounts = ["shop-"]           # prefixes; left out: every account

[[caller]]                     # who calls over NATS, where the broker's permissions tie the name to the credentials
name = "renderer"              # the <caller> of credits.cmd.<caller>.<command>
scopes = ["spend"]
```"""

SETTINGS = {
    "database_url": "PostgreSQL, as a URL",
    "nats_url": "NATS, as a URL, several with commas; without it HTTP serves alone",
    "nats_creds": "a NATS credentials file",
    "catalog": "the catalog to begin with, a TOML file; see [Change prices and plans](../how-to/change-prices.md)",
    "http_host": "the address that HTTP listens on",
    "http_port": "its port; 0 is any free one",
    "operations_port": "a port of their own for health, metrics and API documents, when HTTP listens beyond loopback",
    "auth": "`on` asks for tokens; `off` is refused on any address but loopback",
    "tokens": "the tokens and callers, a TOML file",
    "subject_prefix": "the first token of every NATS subject",
    "partitions": "fixed when the ledger is created; another number is refused",
    "signing_key_file": "the key that signs checkpoints, see [Verify the log](../how-to/verify-the-log.md); without it none are made",
    "projector": "`inside`: the service keeps projections itself; `apart`: `credit-ledger projections run` does",
    "checkpoint_dir": "a directory to which every checkpoint is added, best on another machine's disk",
    "webhooks": "who is sent alerts, a TOML file; see [Receive alerts](../how-to/receive-alerts.md)",
}


def _schema_page(name: str) -> str:
    return json.dumps(asyncapi.event_schemas()[name], indent=2, sort_keys=True) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors_page,
    "http.md": routes_page,
    "commands.md": commands_page,
    "events.md": events_page,
    "configuration.md": configuration_page,
    "semantics.md": semantics_page,
    "asyncapi.json": lambda: asyncapi.document().decode(),
    "openapi.json": lambda: openapi.document().decode(),
    **{f"events/{name}.v1.json": partial(_schema_page, name) for name in TYPE_OF.values()},
}


def page(name: str) -> str:
    """Return a page as it should be."""
    if name.endswith(".json"):
        return PAGES[name]()
    text = re.sub(r"[ \t]+\n", "\n", PAGES[name]())
    return f"{NOTICE}\n\n{text}\n"


def outdated() -> list[str]:
    """Return the pages that say something else than the code."""
    return [
        name
        for name in PAGES
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != page(name)
    ]


def main() -> int:
    """Write the pages, or check them."""
    if "--check" in sys.argv:
        stale = outdated()
        if stale:
            print(f"out of date: {', '.join(stale)}; run docs/generate.py")
        return 1 if stale else 0
    for name in PAGES:
        (FOLDER / name).parent.mkdir(exist_ok=True)
        (FOLDER / name).write_text(page(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
