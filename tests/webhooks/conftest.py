"""Fixtures for the laws of webhooks: those of the projections."""

from tests.projections.conftest import ledger, open_ledger, readers

__all__ = ["ledger", "open_ledger", "readers"]
