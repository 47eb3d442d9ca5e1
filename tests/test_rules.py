"""Every rule of the domain has a test: docs/rules.toml names it, and it is there (docs/reference/semantics.md)."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CONTENT: dict[str, Any] = tomllib.loads((ROOT / "docs" / "rules.toml").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = CONTENT["rules"]
SECTIONS = [str(number) for number in range(1, 10)]


@cache
def names_in(path: str) -> frozenset[str]:
    """What pytest finds in a file: `test`, `Class::test`, and `Class` when the class is a machine's."""
    found: set[str] = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            inherits = any(isinstance(base, ast.Attribute) and base.attr == "TestCase" for base in node.bases)
            found |= {node.name} if inherits else {f"{node.name}::{name}" for name in _functions(node.body)}
    return frozenset(found | _functions(ast.parse((ROOT / path).read_text(encoding="utf-8")).body))


def _functions(body: list[ast.stmt]) -> set[str]:
    functions = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name for node in functions if node.name.startswith("test_")}


@pytest.mark.parametrize("section", SECTIONS)
def test_each_section_of_the_semantics_has_its_rules(section: str) -> None:
    assert CONTENT["sections"][section]
    own = [rule["says"] for rule in RULES if str(rule["section"]) == section]
    assert own
    assert len(set(own)) == len(own), "no rule stands twice"


def test_no_rule_is_of_another_section() -> None:
    assert {str(rule["section"]) for rule in RULES} == set(SECTIONS) == CONTENT["sections"].keys()


def test_each_rule_names_a_test_and_each_test_that_is_named_is_there() -> None:
    without = [rule["says"] for rule in RULES if not rule["tests"]]
    named = {test for rule in RULES for test in rule["tests"]}
    absent = [test for test in named if test.partition("::")[2] not in names_in(test.partition("::")[0])]
    assert (without, sorted(absent)) == ([], [])


def test_a_test_that_is_not_there_would_be_found() -> None:
    assert "test_a_test_that_is_not_there_would_be_found" in names_in("tests/test_rules.py")
    assert "test_of_nothing" not in names_in("tests/test_rules.py")
    assert "TestAccounts" in names_in("tests/domain/test_machine.py")
    assert "Accounts" not in names_in("tests/domain/test_machine.py")
