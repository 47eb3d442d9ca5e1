"""Lets the asserts of the modules that the laws share say what they compared."""

import pytest

pytest.register_assert_rewrite("tests.domain.books", "tests.domain.scenario", "tests.domain.model")
