"""Answers for aiohttp (the extra `http`): what the ledger refused, as a response of your own."""

from __future__ import annotations

from aiohttp import web

from credit_ledger_client.errors import LedgerError


def problem_response(error: LedgerError) -> web.Response:
    """Return the problem as a response, 402 with its figures for example; for `Gate(denied=...)` and error handlers."""
    return web.Response(status=error.status, headers=error.headers, body=error.body)
