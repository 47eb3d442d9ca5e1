"""The catalog, quotes and checks as answers show them."""

from __future__ import annotations

from dataclasses import asdict

from events.catalog import Catalog
from events.checking import Verdict
from events.pricing import PriceRule
from events.quoting import PricedLine, Quote


def verdict_view(account: str, verdict: Verdict) -> dict[str, object]:
    """Return the answer of a check."""
    return {"account": account, **asdict(verdict), "reasons": list(verdict.reasons)}


def quote_view(asked: Quote) -> dict[str, object]:
    """Return what lines cost, each with its rule and what of it was applied."""
    return {
        "unit": asked.unit,
        "cost": asked.total,
        "lines": [
            {
                "line": index,
                "operation": line.operation,
                "quantity": line.quantity,
                "params": line.params,
                "free": line.free,
                "cost": line.amount,
                "occupies": line.occupies,
                "breakdown": None if line.price is None else _breakdown(line.price, line),
            }
            for index, line in enumerate(asked.lines)
        ],
    }


def _breakdown(price: PriceRule, line: PricedLine) -> dict[str, object]:
    return {
        "catalog": price.catalog,
        "base": price.base,
        "each": price.each,
        "quantity": line.quantity,
        "per_1k": {name: {"price": rate, "count": line.params.get(name, 0)} for name, rate in price.per_1k.items()},
        "multipliers": {
            name: {"value": line.params.get(name), "factor": factors.get(str(line.params.get(name)), "1")}
            for name, factors in price.multipliers.items()
        },
    }


def catalog_view(catalog: Catalog) -> dict[str, object]:
    """Return the catalog: its plans, operations and packs."""
    return {
        "version": catalog.version,
        "hash": catalog.hash,
        "default_plan": catalog.default_plan,
        "units": {name: asdict(unit) for name, unit in catalog.units.items()},
        "capacities": sorted(catalog.capacities),
        "plans": {name: asdict(plan) for name, plan in catalog.plans.items()},
        "operations": {
            name: {
                "name": name,
                "title": operation.title,
                "description": operation.description,
                "free": operation.free,
                "unit": operation.unit,
                "base": operation.price.base,
                "each": operation.price.each,
                "per_1k": operation.price.per_1k,
                "multipliers": operation.price.multipliers,
                "occupies": operation.occupies,
                "occupies_each": operation.occupies_each,
                "ttl_seconds": operation.ttl_seconds,
                "grace_seconds": operation.grace_seconds,
            }
            for name, operation in catalog.operations.items()
        },
        "packs": {name: asdict(pack) for name, pack in catalog.packs.items()},
    }
