"""SQL lives in .sql files beside the module that runs it; this reads them by name.

A statement begins with a line `-- name: the_name`, followed by comments that say what it is for. Nothing is ever
formatted into it; values go in as parameters.
"""

from __future__ import annotations

import re
from importlib.resources import files


def statements(file: str, package: str = "service.store") -> dict[str, str]:
    """Return the statements of a .sql file of a package by name."""
    text = files(package).joinpath(file).read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
