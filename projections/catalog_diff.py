"""What differs between two catalogs, field by field, defaults filled in: prices, plans, allowances, limits, packs."""

from __future__ import annotations

from typing import NamedTuple, cast

from events.catalog import Catalog
from projections.quote import catalog_view


class Difference(NamedTuple):
    """A field that differs, by its path in the file; None where one of the catalogs does not have it."""

    path: str
    before: object
    after: object


def differences(before: Catalog, after: Catalog) -> list[Difference]:
    """Return every field that differs, by path; a table that only one has is one difference for each of its fields."""
    old, new = _flat(catalog_view(before)), _flat(catalog_view(after))
    return [
        Difference(path, old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]


def _flat(table: dict[str, object], above: str = "") -> dict[str, object]:
    """Return the fields of a table and those inside it by their paths; lists become one text."""
    found: dict[str, object] = {}
    for name, value in table.items():
        if _names(above, name):
            continue
        path = f"{above}{name}"
        if isinstance(value, dict):
            found.update(_flat(cast("dict[str, object]", value), f"{path}."))
        elif isinstance(value, list):
            found[path] = ", ".join(str(item) for item in cast("list[object]", value))
        else:
            found[path] = value
    return found


def _names(above: str, field: str) -> bool:
    """Say whether a field names the catalog or a table, which is no difference: a table's name stands in the path."""
    return field in {"version", "hash"} if not above else field == "name" and above.count(".") == 2
