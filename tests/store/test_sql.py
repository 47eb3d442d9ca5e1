"""The SQL keeps to what PostgreSQL-compatible distributed engines have, and nothing is ever formatted into it.

DESIGN.md, "The log": no sequences, no NOTIFY, no advisory locks outside migrations, no LOCK TABLE, no xmin, no
hashtext(); a distributed engine could not keep them, or makes every commit pay for them.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("migrations", "service", "projections")
FILES = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.sql"))
FORBIDDEN = {
    "sequences": r"\b(big|small)?serial\d?\b|\bsequence\b|\bas\s+identity\b|\bnextval\b|\bsetval\b",
    "NOTIFY": r"\b(un)?listen\b|\bnotify\b|\bpg_notify\b",
    "LOCK TABLE": r"\block\s+(table\b|only\b|ledger\.|\w+\s+in\s)",
    "xmin": r"\bx(min|max)\b|\bctid\b|\btxid_|\bpg_current_xact|\bpg_snapshot|\bpg_visible",
    "hashtext": r"\bhashtext|\bhash_numeric\b|\bhashint",
    "advisory locks": r"\bpg_(try_)?advisory",
}
# Migrations take one, so that there is one at a time.
ADVISORY_LOCKS = REPOSITORY / "service" / "store" / "migrate.sql"
# The embedded server makes the database of `up`, whose name is a constant.
MODULES = sorted(path for path in (REPOSITORY / "service").rglob("*.py") if "embedded" not in path.parts)
SQL_WORDS = re.compile(r"\b(select|insert\s+into|update|delete\s+from|truncate|alter|create|drop)\b", re.IGNORECASE)


def sql_of(path: Path) -> str:
    """The statements of a file, without comments."""
    return re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8")).lower()


def test_there_is_sql_to_look_at() -> None:
    assert {path.name for path in FILES} >= {"0001_log.sql", "log.sql", "migrate.sql"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_sql_uses_what_distributed_engines_lack(path: Path) -> None:
    found = {forbidden for forbidden, pattern in FORBIDDEN.items() if re.search(pattern, sql_of(path))}
    assert found == ({"advisory locks"} if path == ADVISORY_LOCKS else set())


@pytest.mark.parametrize(
    ("forbidden", "statement"),
    [
        ("sequences", "create table t (id bigserial)"),
        ("sequences", "id bigint generated always as identity"),
        ("sequences", "create sequence s"),
        ("NOTIFY", "select pg_notify('a', 'b')"),
        ("NOTIFY", "notify a"),
        ("LOCK TABLE", "lock table ledger.heads"),
        ("LOCK TABLE", "lock ledger.heads in share mode"),
        ("xmin", "select xmin from ledger.events"),
        ("hashtext", "select hashtext('a')"),
        ("advisory locks", "select pg_try_advisory_lock(1)"),
    ],
)
def test_what_is_forbidden_would_be_found(forbidden: str, statement: str) -> None:
    assert re.search(FORBIDDEN[forbidden], statement)


def formatted_texts(tree: ast.AST) -> Iterator[ast.expr]:
    """The expressions that put a text together at run time, outside of errors: f-strings, %, + and format()."""
    raised = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Raise) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in raised or not isinstance(node, ast.expr):
            continue
        formats = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"
        joins = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add)
        if isinstance(node, ast.JoinedStr) or formats or joins:
            yield node


def formatted_sql(source: str) -> list[str]:
    """The texts put together at run time that look like SQL."""
    texts = (ast.unparse(node) for node in formatted_texts(ast.parse(source)))
    return [text for text in texts if SQL_WORDS.search(text)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_sql_is_formatted(path: Path) -> None:
    assert formatted_sql(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        'sql = f"select * from {table}"',
        'sql = "delete from " + table',
        'sql = "select %s" % name',
        'sql = "update {} set x = 1".format(name)',
    ],
)
def test_sql_that_is_formatted_would_be_found(source: str) -> None:
    assert formatted_sql(source)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "service" / "store").glob("*.sql")), ids=lambda path: path.name)
def test_no_statement_selects_whatever_there_is(path: Path) -> None:
    assert not re.search(r"select\s+(\w+\.)?\*", sql_of(path))
