"""Reservations, consumptions and grants as answers and lists show them."""

from __future__ import annotations

from events.facts import HoldFigures
from events.grants import Grant
from events.holds import Consumption, Hold


def reservation_view(hold: Hold, figures: HoldFigures | None = None) -> dict[str, object]:
    """Return a reservation, as it stands or as an event recorded it."""
    now = hold.figures() if figures is None else figures
    several = len(hold.lines) > 1
    lines = [
        {
            "line": index,
            "operation": line.operation,
            "quantity": line.quantity,
            "amount": line.amount - line.added + (now.added[index] if now.added else 0) if several else now.amount,
            "held": now.lines[index][0] if several else now.held,
            "charged": now.lines[index][1] if several else now.charged,
        }
        for index, line in enumerate(hold.lines)
    ]
    return {
        "id": hold.id,
        "state": now.state,
        "unit": hold.unit,
        "amount": now.amount,
        "held": now.held,
        "charged": now.charged,
        "unfunded": now.unfunded,
        "occupies": now.occupies,
        "expires_at": now.expires_at,
        "overage": hold.overage,
        "reference": hold.reference,
        "metadata": hold.metadata,
        "lines": lines,
        "created_at": hold.created_at,
    }


def consumption_view(consumption: Consumption, refunded: int | None = None) -> dict[str, object]:
    """Return a consumption, as it stands or with what an event says was refunded of it."""
    return {
        "id": consumption.id,
        "reservation_id": consumption.reservation_id,
        "operation": consumption.operation,
        "quantity": consumption.quantity,
        "unit": consumption.unit,
        "amount": consumption.amount,
        "charged": consumption.charged,
        "unfunded": consumption.unfunded,
        "debt_added": consumption.debt_added,
        "refunded": consumption.refunded if refunded is None else refunded,
        "reference": consumption.reference,
        "metadata": consumption.metadata,
        "created_at": consumption.created_at,
    }


def grant_view(grant: Grant) -> dict[str, object]:
    """Return a grant; an active one without credits is `drained`."""
    drained = grant.state == "active" and grant.remaining == 0 and grant.held == 0
    return {
        "id": grant.id,
        "kind": grant.kind,
        "unit": grant.unit,
        "amount": grant.granted,
        "remaining": grant.remaining,
        "held": grant.held,
        "state": "drained" if drained else grant.state,
        "priority": grant.priority,
        "starts_at": grant.starts_at,
        "expires_at": grant.expires_at,
        "operations": None if grant.operations is None else list(grant.operations),
        "cost_basis": None
        if grant.cost_basis is None
        else {"amount": grant.cost_basis.amount, "currency": grant.cost_basis.currency},
        "source_grant_id": grant.source_grant_id,
    }
